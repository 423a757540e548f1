//! `control.tar`, read into memory.

use std::collections::BTreeMap;
use std::io::Read;

use super::DebError;
use crate::ar::Member;
use crate::tar::{self, Kind, TarError};

/// The regular files of `control.tar` by name, without `./`.
pub(super) fn read<R: Read>(
    tar: &mut tar::Reader<R>,
    member: &Member,
) -> Result<BTreeMap<String, Vec<u8>>, DebError> {
    let damaged = |source| DebError::Member {
        member: member.name.clone(),
        source,
    };
    let mut files = BTreeMap::new();
    while let Some(mut entry) = tar.next_entry().map_err(damaged)? {
        let path = String::from_utf8_lossy(&entry.header.path).into_owned();
        let refuse = |problem| {
            let (member, path) = (member.name.clone(), path.clone());
            DebError::Control {
                member,
                path,
                problem,
            }
        };
        let name = path
            .strip_prefix("./")
            .unwrap_or(&path)
            .trim_end_matches('/');
        match entry.header.kind {
            Kind::Directory if matches!(name, "" | ".") => continue,
            Kind::File => {}
            _ => return Err(refuse("only regular files belong there")),
        }
        if name.is_empty() || name.contains('/') || matches!(name, "." | "..") {
            return Err(refuse("it does not lie at the top"));
        }
        let mut bytes = Vec::new();
        let offset = entry.header.offset;
        entry.read_to_end(&mut bytes).map_err(|error| {
            damaged(match error.downcast::<TarError>() {
                Ok(error) => error,
                Err(source) => TarError::Read { offset, source },
            })
        })?;
        if files.insert(name.to_owned(), bytes).is_some() {
            return Err(refuse("it is there twice"));
        }
    }
    if !files.contains_key("control") {
        return Err(DebError::Missing {
            expected: "control",
        });
    }
    Ok(files)
}
