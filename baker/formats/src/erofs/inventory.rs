//! The inodes of a tree: names counted, hard links joined, directories with their entries.

use std::collections::{HashMap, HashSet};

use baker_model::Tree;
use baker_model::tree::{Content, Kind, Node, TreePath};

use super::error::Error;
use super::format::{encode_device, mode};

/// One inode to be.
#[derive(Debug)]
pub struct Inode<'a> {
    /// Its first name.
    pub path: &'a TreePath,
    /// What it is.
    pub node: &'a Node,
    /// Number of names.
    pub links: u32,
    /// The directory it was first found in; the root is its own.
    pub parent: usize,
    /// Names and inodes of a directory, sorted by name, without `.` and `..`.
    pub children: Vec<(&'a [u8], usize)>,
}

impl<'a> Inode<'a> {
    /// Type and permissions.
    #[must_use]
    pub fn mode(&self) -> u16 {
        let kind = match &self.node.kind {
            Kind::Directory => mode::DIRECTORY,
            Kind::File { .. } => mode::FILE,
            Kind::Symlink { .. } => mode::SYMLINK,
            Kind::CharDevice { .. } => mode::CHAR,
            Kind::BlockDevice { .. } => mode::BLOCK,
            Kind::Fifo => mode::FIFO,
            Kind::Socket => mode::SOCKET,
        };
        kind | self.node.metadata.mode & 0o7777
    }

    /// The packed device number; zero for what is no device.
    #[must_use]
    pub fn device(&self) -> u32 {
        match self.node.kind {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                encode_device(major, minor)
            }
            _ => 0,
        }
    }

    /// The content of a regular file.
    #[must_use]
    pub fn content(&self) -> Option<&'a Content> {
        match &self.node.kind {
            Kind::File { content, .. } => Some(content),
            _ => None,
        }
    }
}

/// Collects the inodes of a tree in the order of their first names, the root first.
///
/// # Errors
/// Names of one hard-linked file disagree.
pub fn collect(tree: &Tree) -> Result<Vec<Inode<'_>>, Error> {
    let mut inodes: Vec<Inode<'_>> = Vec::with_capacity(tree.len());
    let mut groups = HashMap::new();
    // The directories from the root down to the node at hand.
    let mut above: Vec<usize> = Vec::new();
    for (path, node) in tree.walk() {
        while above
            .last()
            .is_some_and(|&at| !path.is_below(inodes[at].path))
        {
            above.pop();
        }
        let parent = above.last().copied().unwrap_or(0);
        let group = match &node.kind {
            Kind::File { link, .. } => *link,
            _ => None,
        };
        let known = group.and_then(|group| groups.get(&group).copied());
        let at = match known {
            Some(at) => at,
            None => {
                inodes.push(Inode {
                    path,
                    node,
                    links: 0,
                    parent,
                    children: Vec::new(),
                });
                inodes.len() - 1
            }
        };
        if let Some(group) = group {
            groups.insert(group, at);
        }
        let first = inodes[at].node;
        if first.kind != node.kind || first.metadata != node.metadata {
            let (path, other) = (path.clone(), inodes[at].path.clone());
            return Err(Error::LinkMismatch { path, other });
        }
        inodes[at].links += 1;
        if node.kind == Kind::Directory {
            // A directory is named by its own `.`, and its parent by its `..`.
            inodes[at].links += 1;
            inodes[parent].links += u32::from(!path.is_root());
            above.push(at);
        }
        if !path.is_root() {
            inodes[parent].children.push((path.file_name(), at));
        }
    }
    Ok(inodes)
}

/// The inodes in the order of their data: those called `first`, then all others. A hard-linked file
/// goes by its first name.
#[must_use]
pub fn order(inodes: &[Inode<'_>], first: &[TreePath]) -> Vec<usize> {
    // In the order of their first names, a path is found by halving.
    let known = |path: &TreePath| inodes.binary_search_by(|inode| inode.path.cmp(path)).ok();
    let mut seen = HashSet::new();
    let first = first.iter().filter_map(known);
    let mut order: Vec<usize> = first.filter(|at| seen.insert(*at)).collect();
    order.extend((0..inodes.len()).filter(|at| !seen.contains(at)));
    order
}
