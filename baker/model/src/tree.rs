//! The root file system as data in memory.
//!
//! A [`Tree`] is a sorted map from path to [`Node`]. Small file contents travel inside the node;
//! larger ones stay outside (spool file, store) and are named by digest, see [`Contents`].
//! Writers of file systems take a tree and add nothing to it: owners, modes, times and extended
//! attributes are what the tree says.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::Digest;

pub use crate::path::{NAME_LIMIT, PATH_LIMIT, TreePath, TreePathError};

/// Files up to this many bytes keep their content inside the node.
pub const INLINE_LIMIT: u64 = 4096;

/// Owner, mode, time and extended attributes of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: `0..=0o7777`, no file type.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Seconds since 1970-01-01 UTC of the last change of the content.
    pub mtime: i64,
    /// Extended attributes by full name (`security.capability`, `user.x`), sorted.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Metadata {
    /// Metadata of root's own file: owner 0:0, no extended attributes.
    #[must_use]
    pub fn of_root(mode: u16, mtime: i64) -> Self {
        Self {
            mode,
            mtime,
            ..Self::default()
        }
    }
}

/// The content of a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The bytes themselves; at most [`INLINE_LIMIT`] by convention, any size allowed.
    Inline(Arc<[u8]>),
    /// Bytes kept elsewhere, read through [`Contents`].
    Extern {
        /// SHA-256 of the bytes.
        digest: Digest,
        /// Number of bytes.
        size: u64,
    },
}

impl Content {
    /// Takes bytes into the node.
    #[must_use]
    pub fn inline(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Inline(bytes.into().into())
    }

    /// Number of bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Extern { size, .. } => *size,
        }
    }

    /// SHA-256 of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Inline(bytes) => Digest::of(bytes),
            Self::Extern { digest, .. } => *digest,
        }
    }
}

/// Number of a hard-linked file: names with the same number are one inode.
///
/// Only files with two or more names have one. All names carry equal metadata and content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkGroup(pub u32);

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory; what is in it are the nodes below its path.
    Directory,
    /// A regular file.
    File {
        /// Its bytes.
        content: Content,
        /// Set when other names share the inode.
        link: Option<LinkGroup>,
    },
    /// A symbolic link.
    Symlink {
        /// The target as written, neither resolved nor checked; 1 to 4095 bytes.
        target: Vec<u8>,
    },
    /// A character device node.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device node.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// A regular file with one name.
    #[must_use]
    pub fn file(content: Content) -> Self {
        Self::File {
            content,
            link: None,
        }
    }
}

/// One name in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Owner, mode, time, extended attributes.
    pub metadata: Metadata,
    /// What it is.
    pub kind: Kind,
    /// Which input it came from; never part of the image, always part of the evidence.
    pub origin: Origin,
}

/// Where a node came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A package, by name.
    Package(Arc<str>),
    /// An entry of the recipe.
    Recipe,
    /// A built-in effect of the configure stage, by name.
    Effect(&'static str),
    /// A directory that nothing names but that something lies in.
    Implied,
}

/// The root file system: sorted nodes, the root directory included.
///
/// Invariant kept by [`Tree::insert`]: the parent of every node is a directory in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<TreePath, Node>,
}

/// A node does not fit into the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The parent is missing or no directory.
    #[error("{path} has no parent directory in the tree")]
    NoParent {
        /// The node that was to be inserted.
        path: TreePath,
    },
    /// A directory with entries would become something else.
    #[error("{path} is a directory with entries and cannot be replaced by something else")]
    NotEmpty {
        /// The directory.
        path: TreePath,
    },
}

impl Tree {
    /// A tree of only a root directory, mode 0755.
    #[must_use]
    pub fn new(mtime: i64) -> Self {
        let root = Node {
            metadata: Metadata::of_root(0o755, mtime),
            kind: Kind::Directory,
            origin: Origin::Implied,
        };
        Self {
            nodes: BTreeMap::from([(TreePath::root(), root)]),
        }
    }

    /// The node at `path`, symlinks not followed.
    #[must_use]
    pub fn get(&self, path: &TreePath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// The node at `path`, to be changed. Do not turn a directory into something else here.
    pub fn get_mut(&mut self, path: &TreePath) -> Option<&mut Node> {
        self.nodes.get_mut(path)
    }

    /// Puts `node` at `path` and gives back what was there.
    ///
    /// # Errors
    /// The parent is no directory of the tree, or a non-empty directory would be replaced by
    /// something that is none; the tree is unchanged then.
    pub fn insert(&mut self, path: TreePath, node: Node) -> Result<Option<Node>, TreeError> {
        let parent_is_directory = path
            .parent()
            .is_none_or(|parent| matches!(self.get(&parent), Some(n) if n.kind == Kind::Directory));
        if !parent_is_directory {
            return Err(TreeError::NoParent { path });
        }
        if node.kind != Kind::Directory && self.children(&path).next().is_some() {
            return Err(TreeError::NotEmpty { path });
        }
        Ok(self.nodes.insert(path, node))
    }

    /// Makes every missing directory above `path` (mode 0755, owner 0:0, [`Origin::Implied`]).
    ///
    /// # Errors
    /// A component above `path` exists and is no directory.
    pub fn ensure_parents(&mut self, path: &TreePath, mtime: i64) -> Result<(), TreeError> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        match self.get(&parent) {
            Some(node) if node.kind == Kind::Directory => Ok(()),
            Some(_) => Err(TreeError::NoParent { path: path.clone() }),
            None => {
                self.ensure_parents(&parent, mtime)?;
                let node = Node {
                    metadata: Metadata::of_root(0o755, mtime),
                    kind: Kind::Directory,
                    origin: Origin::Implied,
                };
                self.insert(parent, node).map(|_| ())
            }
        }
    }

    /// Removes `path` and all below it; gives the number of nodes removed. The root stays.
    pub fn remove(&mut self, path: &TreePath) -> usize {
        let doomed: Vec<_> = self
            .walk_below(path)
            .map(|(path, _)| path.clone())
            .collect();
        doomed
            .iter()
            .filter(|path| !path.is_root())
            .filter_map(|p| self.nodes.remove(p))
            .count()
    }

    /// Keeps the nodes for which `keep` says so; a directory stays as long as something in it does.
    pub fn retain(&mut self, mut keep: impl FnMut(&TreePath, &Node) -> bool) {
        let mut kept: std::collections::BTreeSet<TreePath> = std::collections::BTreeSet::new();
        for (path, node) in &self.nodes {
            if path.is_root() || keep(path, node) {
                let mut at = Some(path.clone());
                while let Some(path) = at {
                    at = path.parent();
                    if !kept.insert(path) {
                        break;
                    }
                }
            }
        }
        self.nodes.retain(|path, _| kept.contains(path));
    }

    /// All nodes, the root first, sorted by path components.
    pub fn walk(&self) -> impl DoubleEndedIterator<Item = (&TreePath, &Node)> {
        self.nodes.iter()
    }

    /// All nodes, to be changed.
    pub fn walk_mut(&mut self) -> impl Iterator<Item = (&TreePath, &mut Node)> {
        self.nodes.iter_mut()
    }

    /// `path` itself (when it is there) and all nodes below it, sorted.
    pub fn walk_below<'a>(
        &'a self,
        path: &'a TreePath,
    ) -> impl Iterator<Item = (&'a TreePath, &'a Node)> {
        self.nodes
            .range(path.clone()..)
            .take_while(move |(at, _)| at.is_below(path))
    }

    /// The entries of the directory `path`, sorted by name.
    pub fn children<'a>(
        &'a self,
        path: &'a TreePath,
    ) -> impl Iterator<Item = (&'a TreePath, &'a Node)> {
        let depth = path.components().count() + 1;
        self.walk_below(path)
            .filter(move |(at, _)| at.components().count() == depth)
    }

    /// Number of nodes, the root included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: the root is always there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Follows symbolic links on the way to `path` as the kernel would with this tree as root.
    ///
    /// With `follow_last` a link at `path` itself is followed too. Gives the path where the node
    /// is or would be (its last component may be missing); none on a loop (40 links, as the
    /// kernel) or when a component above is missing or no directory.
    #[must_use]
    pub fn resolve(&self, path: &TreePath, last: LastLink) -> Option<TreePath> {
        let mut todo: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let mut at = TreePath::root();
        let mut links = 0;
        while let Some(component) = todo.pop() {
            if component == b".." {
                at = at.parent().unwrap_or_else(TreePath::root);
                continue;
            }
            let next = at.join(&component).ok()?;
            let is_last = todo.is_empty();
            match self.get(&next).map(|node| &node.kind) {
                Some(Kind::Symlink { target }) if !is_last || last == LastLink::Follow => {
                    links += 1;
                    if links > 40 {
                        return None;
                    }
                    if target.first() == Some(&b'/') {
                        at = TreePath::root();
                    }
                    let parts = target.split(|&byte| byte == b'/').rev();
                    todo.extend(
                        parts
                            .filter(|p| !p.is_empty() && *p != b".")
                            .map(<[u8]>::to_vec),
                    );
                }
                Some(Kind::Directory) => at = next,
                _ if is_last => at = next,
                _ => return None,
            }
        }
        Some(at)
    }
}

/// What [`Tree::resolve`] does with a symbolic link at the very end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastLink {
    /// Follow it, as `open` does.
    Follow,
    /// Stop at the link itself, as `lstat` does.
    Keep,
}

/// Reads the bytes of [`Content::Extern`] files at any offset, from several threads at once.
pub trait Contents: Sync {
    /// Fills `buffer` from `offset` of the bytes named by `digest`.
    ///
    /// # Errors
    /// The bytes are unknown (`NotFound`), end early (`UnexpectedEof`), or can't be read.
    fn read_exact_at(&self, digest: &Digest, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Says whether the bytes read of `expected`, whose digest is `found`, are the right ones: for
    /// those who read all of them.
    ///
    /// # Errors
    /// The digests differ (`InvalidData`).
    fn check(&self, expected: &Digest, found: &Digest) -> io::Result<()> {
        match expected == found {
            true => Ok(()),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Contents of a tree that holds only inline files.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoContents;

impl Contents for NoContents {
    fn read_exact_at(&self, digest: &Digest, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("no content {digest}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn file(text: &str) -> Node {
        Node {
            metadata: Metadata::of_root(0o644, 0),
            kind: Kind::file(Content::inline(text)),
            origin: Origin::Recipe,
        }
    }

    #[test]
    fn insert_wants_a_parent_and_resolve_follows_links() {
        let mut tree = Tree::new(0);
        let orphan = tree.insert(path("usr/bin/x"), file("x"));
        assert!(matches!(orphan, Err(TreeError::NoParent { .. })));
        tree.ensure_parents(&path("usr/bin/x"), 0).unwrap();
        tree.insert(path("usr/bin/x"), file("x")).unwrap();
        let link = Kind::Symlink {
            target: b"usr/bin".to_vec(),
        };
        tree.insert(
            path("bin"),
            Node {
                kind: link,
                ..file("")
            },
        )
        .unwrap();
        assert_eq!(
            tree.resolve(&path("bin/x"), LastLink::Follow),
            Some(path("usr/bin/x"))
        );
        assert_eq!(
            tree.resolve(&path("bin"), LastLink::Keep),
            Some(path("bin"))
        );
        assert_eq!(tree.resolve(&path("no/x"), LastLink::Follow), None);
        assert_eq!(tree.remove(&path("usr")), 3);
        assert_eq!(tree.len(), 2);
    }
}
