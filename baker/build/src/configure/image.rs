//! The tree under change: what every effect does to it, in the words of a file system.
//!
//! Paths are text as scripts and configuration files write them; links on the way are followed
//! with the tree as root, as a program in a chroot would see them.

use baker_model::tree::{
    Content, Contents as _, INLINE_LIMIT, Kind, LastLink, Metadata, Node, Origin, Tree, TreePath,
};

use super::error::ConfigureError;
use crate::Spool;

/// Largest configuration file or library that is read whole, in bytes.
const READ_LIMIT: u64 = 64 << 20;

/// The tree and the place of its contents.
pub(super) struct Image<'a> {
    /// The tree itself.
    pub(super) tree: Tree,
    spool: &'a Spool,
    epoch: i64,
}

/// Owner, group and permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    /// Permission bits.
    pub(super) mode: u16,
    /// Owner.
    pub(super) uid: u32,
    /// Group.
    pub(super) gid: u32,
}

impl Access {
    /// Access of root's own file.
    pub(super) const fn root(mode: u16) -> Self {
        Self {
            mode,
            uid: 0,
            gid: 0,
        }
    }
}

impl<'a> Image<'a> {
    /// Takes the tree; new nodes get `epoch` as their time.
    pub(super) fn new(tree: Tree, spool: &'a Spool, epoch: i64) -> Self {
        Self { tree, spool, epoch }
    }

    /// The time that new nodes get.
    pub(super) fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Where `path` is or would be; none when a component above is missing.
    pub(super) fn locate(
        &self,
        path: &str,
        last: LastLink,
    ) -> Result<Option<TreePath>, ConfigureError> {
        let path = parse(path)?;
        Ok(self.tree.resolve(&path, last))
    }

    /// The node at `path`; the last link is followed.
    pub(super) fn node(&self, path: &str) -> Result<Option<&Node>, ConfigureError> {
        let at = self.locate(path, LastLink::Follow)?;
        Ok(at.and_then(|at| self.tree.get(&at)))
    }

    /// The node at `path` itself, link or not.
    pub(super) fn node_itself(&self, path: &str) -> Result<Option<&Node>, ConfigureError> {
        let at = self.locate(path, LastLink::Keep)?;
        Ok(at.and_then(|at| self.tree.get(&at)))
    }

    /// True when `path` exists, as `test -e` has it: a dangling link does not.
    pub(super) fn exists(&self, path: &str) -> Result<bool, ConfigureError> {
        Ok(self.node(path)?.is_some())
    }

    /// True when `path` is a directory or leads to one.
    pub(super) fn is_directory(&self, path: &str) -> Result<bool, ConfigureError> {
        Ok(self
            .node(path)?
            .is_some_and(|node| node.kind == Kind::Directory))
    }

    /// The bytes of the regular file at `path`; none when there is none.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ConfigureError> {
        match self.node(path)?.map(|node| &node.kind) {
            Some(Kind::File { content, .. }) => self.bytes(path, content).map(Some),
            _ => Ok(None),
        }
    }

    /// The text of the regular file at `path`; none when there is none.
    pub(super) fn read_text(&self, path: &str) -> Result<Option<String>, ConfigureError> {
        let Some(bytes) = self.read(path)? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|error| ConfigureError::Read {
            path: path.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
        })
    }

    /// The bytes of a content; `path` is only named in errors.
    pub(super) fn bytes(&self, path: &str, content: &Content) -> Result<Vec<u8>, ConfigureError> {
        let refuse = |source| ConfigureError::Read {
            path: path.to_owned(),
            source,
        };
        match content {
            Content::Inline(bytes) => Ok(bytes.to_vec()),
            Content::Extern { size, .. } if *size > READ_LIMIT => {
                Err(refuse(std::io::ErrorKind::FileTooLarge.into()))
            }
            Content::Extern { digest, size } => {
                let size = usize::try_from(*size).map_err(|e| refuse(std::io::Error::other(e)))?;
                let mut bytes = vec![0; size];
                self.spool
                    .read_exact_at(digest, 0, &mut bytes)
                    .map_err(refuse)?;
                Ok(bytes)
            }
        }
    }

    /// Fills `buffer` from `offset` of a content.
    pub(super) fn read_at(
        &self,
        content: &Content,
        offset: u64,
        buffer: &mut [u8],
    ) -> std::io::Result<()> {
        match content {
            Content::Inline(bytes) => {
                let start = usize::try_from(offset).map_err(std::io::Error::other)?;
                let part = bytes.get(start..).and_then(|rest| rest.get(..buffer.len()));
                let part = part.ok_or(std::io::ErrorKind::UnexpectedEof)?;
                buffer.copy_from_slice(part);
                Ok(())
            }
            Content::Extern { digest, .. } => self.spool.read_exact_at(digest, offset, buffer),
        }
    }

    /// Names in the directory `path`, sorted by bytes; none when it is no directory.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>, ConfigureError> {
        let Some(at) = self.locate(path, LastLink::Follow)? else {
            return Ok(Vec::new());
        };
        let names = self.tree.children(&at).filter_map(|(path, _)| {
            std::str::from_utf8(path.file_name())
                .ok()
                .map(str::to_owned)
        });
        Ok(names.collect())
    }

    /// Writes a regular file, replacing what is there; a link at `path` is written through.
    pub(super) fn write(
        &mut self,
        path: &str,
        bytes: impl Into<Vec<u8>>,
        access: Access,
        effect: &'static str,
    ) -> Result<(), ConfigureError> {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        let content = if size <= INLINE_LIMIT {
            Content::inline(bytes)
        } else {
            let kept = self.spool.add(&mut bytes.as_slice(), size);
            kept.map_err(|source| ConfigureError::Keep {
                path: path.to_owned(),
                source,
            })?
        };
        self.put(path, LastLink::Follow, Kind::file(content), access, effect)
    }

    /// Puts a content that the spool has, or that is inline, at `path`.
    pub(super) fn put_content(
        &mut self,
        path: &str,
        content: Content,
        access: Access,
        effect: &'static str,
    ) -> Result<(), ConfigureError> {
        self.put(path, LastLink::Follow, Kind::file(content), access, effect)
    }

    /// Gives a file new content under all its hard-linked names, keeping access; makes it with
    /// `access` when there is none.
    pub(super) fn rewrite(
        &mut self,
        path: &str,
        text: String,
        access: Access,
        effect: &'static str,
    ) -> Result<(), ConfigureError> {
        let group = match self.node(path)? {
            Some(Node {
                kind: Kind::File { link, .. },
                ..
            }) => *link,
            _ => None,
        };
        let Some(group) = group else {
            return self.write(path, text, access, effect);
        };
        let size = text.len() as u64;
        let kept = self.spool.add(&mut text.as_bytes(), size);
        let new = kept.map_err(|source| ConfigureError::Keep {
            path: path.to_owned(),
            source,
        })?;
        for (_, node) in self.tree.walk_mut() {
            match &mut node.kind {
                Kind::File { content, link } if *link == Some(group) => *content = new.clone(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes a directory with all directories above it; one that is there keeps its access.
    pub(super) fn ensure_directory(
        &mut self,
        path: &str,
        access: Access,
        effect: &'static str,
    ) -> Result<(), ConfigureError> {
        match self.node(path)? {
            Some(node) if node.kind == Kind::Directory => Ok(()),
            Some(_) => Err(ConfigureError::Unexpected {
                path: path.to_owned(),
                expected: "directory",
            }),
            None => self.put(path, LastLink::Follow, Kind::Directory, access, effect),
        }
    }

    /// Makes a symbolic link, replacing a file or link that is there.
    pub(super) fn symlink(
        &mut self,
        path: &str,
        target: &str,
        effect: &'static str,
    ) -> Result<(), ConfigureError> {
        let kind = Kind::Symlink {
            target: target.as_bytes().to_vec(),
        };
        self.put(path, LastLink::Keep, kind, Access::root(0o777), effect)
    }

    /// Puts a node at `path`, making directories above it.
    fn put(
        &mut self,
        path: &str,
        last: LastLink,
        kind: Kind,
        access: Access,
        effect: &'static str,
    ) -> Result<(), ConfigureError> {
        let refuse = |source| ConfigureError::Put {
            path: path.to_owned(),
            source,
        };
        let at = match self.locate(path, last)? {
            Some(at) => at,
            None => self.nearest(path)?,
        };
        self.tree.ensure_parents(&at, self.epoch).map_err(refuse)?;
        let Access { mode, uid, gid } = access;
        let metadata = Metadata {
            uid,
            gid,
            ..Metadata::of_root(mode, self.epoch)
        };
        let node = Node {
            metadata,
            kind,
            origin: Origin::Effect(effect),
        };
        // A hard link that loses a name here is put right at the end, by `links::settle`.
        self.tree.insert(at, node).map_err(refuse)?;
        Ok(())
    }

    /// Where `path` would be when directories above it are missing: the part that exists is
    /// resolved, the rest is taken as written.
    fn nearest(&self, path: &str) -> Result<TreePath, ConfigureError> {
        let whole = parse(path)?;
        let Some(parent) = whole.parent() else {
            return Ok(whole);
        };
        let above = match self.tree.resolve(&parent, LastLink::Follow) {
            Some(above) => above,
            None => self.nearest(&parent.to_string())?,
        };
        let joined = above.join(whole.file_name());
        joined.map_err(|source| ConfigureError::Path {
            place: path.to_owned(),
            source,
        })
    }

    /// Changes owner, group and mode of what is at `path`; hard-linked names change together.
    pub(super) fn set_access(
        &mut self,
        path: &str,
        last: LastLink,
        change: impl Fn(&mut Metadata),
    ) -> Result<(), ConfigureError> {
        let missing = || ConfigureError::Missing {
            path: path.to_owned(),
        };
        let at = self.locate(path, last)?.ok_or_else(missing)?;
        let node = self.tree.get_mut(&at).ok_or_else(missing)?;
        change(&mut node.metadata);
        if let Kind::File {
            link: Some(group), ..
        } = node.kind
        {
            for (_, other) in self.tree.walk_mut() {
                if matches!(other.kind, Kind::File { link: Some(found), .. } if found == group) {
                    change(&mut other.metadata);
                }
            }
        }
        Ok(())
    }

    /// Removes `path` itself and all below it; gives true when something was there.
    pub(super) fn remove(&mut self, path: &str) -> Result<bool, ConfigureError> {
        let Some(at) = self.locate(path, LastLink::Keep)? else {
            return Ok(false);
        };
        Ok(self.tree.remove(&at) > 0)
    }
}

/// A path as a script writes it.
pub(super) fn parse(path: &str) -> Result<TreePath, ConfigureError> {
    TreePath::new(path).map_err(|source| ConfigureError::Path {
        place: "a configuration file".to_owned(),
        source,
    })
}
