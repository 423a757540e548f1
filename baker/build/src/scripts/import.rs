//! The archive that came back, as a tree.

use std::collections::HashMap;
use std::io::BufRead;

use baker_formats::tar::{self, Header, Limits, Reader};
use baker_model::tree::{Content, Kind, LinkGroup, Metadata, Node, Origin, TreePath};
use baker_model::{Interrupt, Tree};

use super::ScriptsError;
use crate::Spool;

/// Reads a tree; large contents go to the spool. Nothing has an owner yet.
///
/// # Errors
/// The archive is damaged, or a file cannot be kept.
pub fn import(
    archive: impl BufRead,
    spool: &Spool,
    epoch: i64,
    interrupt: &Interrupt,
) -> Result<Tree, ScriptsError> {
    let limits = Limits {
        bytes: u64::MAX,
        ..Limits::default()
    };
    let mut reader = Reader::new(archive, limits);
    let mut tree = Tree::new(epoch);
    let mut links = Links::default();
    while let Some(mut entry) = reader.next_entry().map_err(ScriptsError::Archive)? {
        if interrupt.is_raised() {
            return Err(ScriptsError::Interrupted);
        }
        let header = entry.header.clone();
        let path = path(&header.path)?;
        if let tar::Kind::HardLink { target } = &header.kind {
            links.add(&mut tree, path, target)?;
            continue;
        }
        let content = match header.kind {
            tar::Kind::File => {
                let kept = spool.add(&mut entry, header.size);
                Some(kept.map_err(|source| ScriptsError::Keep {
                    path: path.clone(),
                    source,
                })?)
            }
            _ => None,
        };
        let node = Node {
            kind: kind(&header, content),
            metadata: Metadata {
                mode: header.mode,
                uid: header.uid,
                gid: header.gid,
                mtime: header.mtime.clamp(0, epoch),
                xattrs: header.xattrs,
            },
            origin: Origin::Implied,
        };
        match tree.get_mut(&path).filter(|_| path == TreePath::root()) {
            Some(root) => *root = node,
            None => {
                // What was asked for by its path comes without the directories above it.
                tree.ensure_parents(&path, epoch)?;
                tree.insert(path, node)?;
            }
        }
    }
    Ok(tree)
}

fn path(bytes: &[u8]) -> Result<TreePath, ScriptsError> {
    TreePath::new(bytes).map_err(|source| ScriptsError::Path {
        path: String::from_utf8_lossy(bytes).into_owned(),
        source,
    })
}

fn kind(header: &Header, content: Option<Content>) -> Kind {
    match &header.kind {
        tar::Kind::Symlink { target } => Kind::Symlink {
            target: target.clone(),
        },
        &tar::Kind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
        &tar::Kind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
        tar::Kind::Fifo => Kind::Fifo,
        _ => content.map_or(Kind::Directory, Kind::file),
    }
}

/// Files with several names.
#[derive(Default)]
struct Links {
    groups: HashMap<TreePath, LinkGroup>,
    next: u32,
}

impl Links {
    fn add(&mut self, tree: &mut Tree, path: TreePath, target: &[u8]) -> Result<(), ScriptsError> {
        let first = self::path(target)?;
        let missing = || ScriptsError::Link { path: path.clone() };
        let group = *self.groups.entry(first.clone()).or_insert_with(|| {
            self.next += 1;
            LinkGroup(self.next)
        });
        let node = tree.get_mut(&first).ok_or_else(missing)?;
        let Kind::File { link, .. } = &mut node.kind else {
            return Err(missing());
        };
        *link = Some(group);
        let node = node.clone();
        tree.insert(path, node)?;
        Ok(())
    }
}
