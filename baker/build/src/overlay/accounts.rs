//! Names of users and groups, as the tree's own files have them.

use std::collections::HashMap;

use baker_model::Tree;
use baker_model::tree::{Kind, LastLink, TreePath};

use super::OverlayError;
use crate::Spool;

/// Numbers by name.
pub(super) struct Accounts {
    users: HashMap<String, u32>,
    groups: HashMap<String, u32>,
}

impl Accounts {
    /// Reads `/etc/passwd` and `/etc/group` of the tree; `root` is known without them.
    pub(super) fn read(tree: &Tree, spool: &Spool) -> Result<Self, OverlayError> {
        let table = |path| -> Result<HashMap<String, u32>, OverlayError> {
            let text = read_text(tree, spool, path)?.unwrap_or_default();
            let mut table: HashMap<String, u32> = text.lines().filter_map(entry).collect();
            table.entry("root".to_owned()).or_insert(0);
            Ok(table)
        };
        Ok(Self {
            users: table("etc/passwd")?,
            groups: table("etc/group")?,
        })
    }

    pub(super) fn user(&self, path: &TreePath, name: &str) -> Result<u32, OverlayError> {
        find(&self.users, path, "user", name)
    }

    pub(super) fn group(&self, path: &TreePath, name: &str) -> Result<u32, OverlayError> {
        find(&self.groups, path, "group", name)
    }
}

/// `name:password:number:...`, the same in both files.
fn entry(line: &str) -> Option<(String, u32)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
}

/// A name wins over a number, as in chown(1).
fn find(
    table: &HashMap<String, u32>,
    path: &TreePath,
    what: &'static str,
    name: &str,
) -> Result<u32, OverlayError> {
    let number = table.get(name).copied().or_else(|| name.parse().ok());
    // The highest number means "leave it" to chown(2) and is nobody's.
    number
        .filter(|&number| number != u32::MAX)
        .ok_or_else(|| OverlayError::Unknown {
            path: path.clone(),
            what,
            name: name.to_owned(),
        })
}

/// The text file at `path`, symlinks followed; none when nothing is there.
pub(super) fn read_text(
    tree: &Tree,
    spool: &Spool,
    path: &str,
) -> Result<Option<String>, OverlayError> {
    let path = TreePath::new(path).map_err(|source| OverlayError::Path {
        path: path.to_owned(),
        source,
    })?;
    let landed = tree.resolve(&path, LastLink::Follow);
    let Some(node) = landed.as_ref().and_then(|landed| tree.get(landed)) else {
        return Ok(None);
    };
    let Kind::File { content, .. } = &node.kind else {
        return Err(OverlayError::NotText { path });
    };
    let bytes = spool
        .read(content)
        .map_err(|source| OverlayError::Content {
            path: path.clone(),
            source,
        })?;
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| OverlayError::NotText { path })
}
