//! Which libraries there are: the folders and the rules of `ldconfig`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use baker_contract::pattern;
use baker_model::tree::{Kind, LastLink};

use super::cache::{self, Entry};
use super::elf;
use crate::configure::error::ConfigureError;
use crate::configure::image::Image;

/// Where the list of folders begins.
const CONFIGURATION: &str = "/etc/ld.so.conf";

/// How deep `include` may nest.
const INCLUDE_LIMIT: usize = 8;

/// Folders that Debian's glibc knows by itself, after the configured ones.
const BUILT_IN: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib",
    "/usr/lib",
];

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Libraries {
    /// One entry for each soname of each folder, folders in order.
    pub(super) entries: Vec<Entry>,
    /// Links by soname that are missing or lead elsewhere: path and target.
    pub(super) links: Vec<(String, String)>,
}

/// Looks through all folders of the loader.
pub(super) fn libraries(image: &Image<'_>) -> Result<Libraries, ConfigureError> {
    let mut folders = Vec::new();
    configured(image, CONFIGURATION, INCLUDE_LIMIT, &mut folders)?;
    folders.extend(BUILT_IN.map(str::to_owned));
    let (mut found, mut seen) = (Libraries::default(), BTreeSet::new());
    for folder in folders {
        // The same folder under two names (/lib is a link to /usr/lib) counts once, by its
        // first name.
        let real = image.locate(&folder, LastLink::Follow)?;
        let Some(real) = real.filter(|real| image.tree.get(real).is_some()) else {
            continue;
        };
        if !seen.insert(real) {
            continue;
        }
        scan(image, &folder, None, &mut found)?;
        let special = format!("{folder}/glibc-hwcaps");
        for name in image.names(&special)? {
            scan(image, &format!("{special}/{name}"), Some(&name), &mut found)?;
        }
    }
    Ok(found)
}

/// The folders that `ld.so.conf` names, `include` followed.
fn configured(
    image: &Image<'_>,
    file: &str,
    depth: usize,
    folders: &mut Vec<String>,
) -> Result<(), ConfigureError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Ok(());
    };
    for line in image.read_text(file)?.unwrap_or_default().lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(globs) = line
            .strip_prefix("include")
            .filter(|r| r.starts_with([' ', '\t']))
        else {
            let names = line
                .split([' ', '\t', ',', ':'])
                .filter(|name| name.starts_with('/'));
            folders.extend(names.map(|name| name.trim_end_matches('/').to_owned()));
            continue;
        };
        for glob in globs.split_ascii_whitespace() {
            let glob = if glob.starts_with('/') {
                glob.to_owned()
            } else {
                format!("/etc/{glob}")
            };
            let Some((folder, name)) = glob.rsplit_once('/') else {
                continue;
            };
            for entry in image.names(folder)? {
                if pattern::matches(name.as_bytes(), entry.as_bytes()) {
                    configured(image, &format!("{folder}/{entry}"), depth, folders)?;
                }
            }
        }
    }
    Ok(())
}

/// A name that stands for a soname.
struct Candidate {
    name: String,
    flags: u32,
    /// A link for the linker (`libx.so`), not for the loader.
    for_linker: bool,
}

/// One folder: for each soname the newest file.
fn scan(
    image: &Image<'_>,
    folder: &str,
    capability: Option<&str>,
    found: &mut Libraries,
) -> Result<(), ConfigureError> {
    let mut best: BTreeMap<String, Candidate> = BTreeMap::new();
    for name in image.names(folder)? {
        let Some((soname, candidate)) = candidate(image, folder, name)? else {
            continue;
        };
        match best.get(&soname) {
            Some(known) if !replaces(&candidate, known) => {}
            _ => {
                best.insert(soname, candidate);
            }
        }
    }
    for (soname, candidate) in best {
        let path = format!("{folder}/{soname}");
        if !candidate.for_linker && candidate.name != soname {
            let wanted = Kind::Symlink {
                target: candidate.name.clone().into_bytes(),
            };
            match image.node_itself(&path)? {
                Some(node) if node.kind == wanted => {}
                // A file in the place of the link is left alone, as ldconfig does.
                Some(node) if !matches!(node.kind, Kind::Symlink { .. }) => {}
                _ => found.links.push((path.clone(), candidate.name.clone())),
            }
        }
        let capability = capability.map(str::to_owned);
        found.entries.push(Entry {
            soname,
            path,
            flags: candidate.flags,
            capability,
        });
    }
    Ok(())
}

/// A file is better than a linker's link, and a higher version better than a lower one.
fn replaces(new: &Candidate, known: &Candidate) -> bool {
    match (new.for_linker, known.for_linker) {
        (false, true) => true,
        (true, false) => false,
        _ => cache::compare_names(&known.name, &new.name) == Ordering::Less,
    }
}

/// The soname that a name in a folder stands for, when it is a library.
fn candidate(
    image: &Image<'_>,
    folder: &str,
    name: String,
) -> Result<Option<(String, Candidate)>, ConfigureError> {
    let fits = (name.starts_with("lib") || name.starts_with("ld-") || name.starts_with("ld.so"))
        && name.contains(".so")
        && !name.ends_with("-gdb.py");
    if !fits {
        return Ok(None);
    }
    let path = format!("{folder}/{name}");
    let Some(real) = image.locate(&path, LastLink::Follow)? else {
        return Ok(None);
    };
    let is_link = matches!(
        image.node_itself(&path)?.map(|node| &node.kind),
        Some(Kind::Symlink { .. })
    );
    let Some(Kind::File { content, .. }) = image.tree.get(&real).map(|node| &node.kind) else {
        return Ok(None);
    };
    let library = elf::read(image, content).map_err(|problem| ConfigureError::Library {
        path: path.clone(),
        problem,
    })?;
    let Some(library) = library else {
        return Ok(None);
    };
    let soname = library.soname.unwrap_or_else(|| name.clone());
    let real_name = String::from_utf8_lossy(real.file_name()).into_owned();
    // libx.so -> libx.so.1, where libx.so.1 is the file and the soname: for the linker.
    let for_linker = is_link
        && (real_name == soname || (real_name.ends_with(".so") && soname.starts_with(&real_name)));
    let soname = if for_linker { name.clone() } else { soname };
    Ok(Some((
        soname,
        Candidate {
            name,
            flags: library.flags,
            for_linker,
        },
    )))
}
