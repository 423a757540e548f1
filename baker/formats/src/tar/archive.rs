//! An archive that is being made: laid out first, read at any place afterwards.
//!
//! Several threads can so compress parts of it at once, and nothing of its data is in memory.

use std::collections::BTreeMap;
use std::io;

use baker_model::Tree;
use baker_model::tree::{self, Content, Contents, LinkGroup, Metadata, Node, TreePath};

use super::encode::encode;
use super::{BLOCK, Header, Kind};
use crate::io::Source;

/// Zeros that end an archive: two blocks.
const END: u64 = 2 * BLOCK as u64;

/// Headers and the places of data: a tar archive as a [`Source`].
pub struct Archive<'a> {
    members: Vec<Member<'a>>,
    size: u64,
}

struct Member<'a> {
    /// Where its header begins.
    start: u64,
    header: Vec<u8>,
    /// Bytes of its data, not padded.
    length: u64,
    data: Box<dyn Source + 'a>,
}

impl<'a> Archive<'a> {
    /// An archive without entries.
    #[must_use]
    pub fn new() -> Self {
        Self {
            members: Vec::new(),
            size: END,
        }
    }

    /// The archive of a tree: every node but sockets, which only have a meaning while somebody
    /// listens. Paths begin with `./`; of a hard-linked file the first name has the data.
    #[must_use]
    pub fn of_tree(tree: &'a Tree, contents: &'a dyn Contents) -> Self {
        let mut archive = Self::new();
        let mut first_names = BTreeMap::new();
        for (path, node) in tree.walk() {
            archive.append_node(path, node, contents, &mut first_names);
        }
        archive
    }

    fn append_node(
        &mut self,
        path: &'a TreePath,
        node: &'a Node,
        contents: &'a dyn Contents,
        first_names: &mut BTreeMap<LinkGroup, &'a TreePath>,
    ) {
        let (kind, content) = match &node.kind {
            tree::Kind::Directory => (Kind::Directory, None),
            tree::Kind::File { content, link } => {
                let first = link.map(|link| *first_names.entry(link).or_insert(path));
                match first.filter(|first| *first != path) {
                    Some(first) => {
                        let target = written(first, &Kind::File);
                        (Kind::HardLink { target }, None)
                    }
                    None => (Kind::File, Some(content)),
                }
            }
            tree::Kind::Symlink { target } => {
                let target = target.clone();
                (Kind::Symlink { target }, None)
            }
            &tree::Kind::CharDevice { major, minor } => (Kind::CharDevice { major, minor }, None),
            &tree::Kind::BlockDevice { major, minor } => (Kind::BlockDevice { major, minor }, None),
            tree::Kind::Fifo => (Kind::Fifo, None),
            tree::Kind::Socket => return,
        };
        let header = header_of(path, kind, &node.metadata, content);
        match content {
            Some(content) => self.append(&header, Stored { content, contents }),
            None => self.append(&header, Vec::new()),
        }
    }

    /// Adds an entry; `data` has as many bytes as the header says.
    pub fn append(&mut self, header: &Header, data: impl Source + 'a) {
        let start = self.size - END;
        let bytes = encode(header);
        let length = header.size;
        self.size += bytes.len() as u64 + length.next_multiple_of(BLOCK as u64);
        self.members.push(Member {
            start,
            header: bytes,
            length,
            data: Box::new(data),
        });
    }

    /// Its bytes, the end of the archive included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Default for Archive<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl Source for Archive<'_> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Padding and the end are zeros.
        buffer.fill(0);
        let after = self
            .members
            .partition_point(|member| member.start <= offset);
        for member in &self.members[after.saturating_sub(1)..] {
            if member.start >= offset + buffer.len() as u64 {
                break;
            }
            let data = member.start + member.header.len() as u64;
            overlay(offset, buffer, member.start, data, &member.header)?;
            overlay(offset, buffer, data, data + member.length, &*member.data)?;
        }
        Ok(())
    }
}

/// Puts the part of `source`, which lies at `start..end` of the archive, that `buffer` wants.
fn overlay(
    offset: u64,
    buffer: &mut [u8],
    start: u64,
    end: u64,
    source: &(impl Source + ?Sized),
) -> io::Result<()> {
    let (from, to) = (offset.max(start), (offset + buffer.len() as u64).min(end));
    if from >= to {
        return Ok(());
    }
    let place = |at: u64| usize::try_from(at - offset).map_err(io::Error::other);
    source.read_exact_at(from - start, &mut buffer[place(from)?..place(to)?])
}

/// The path as archives have it.
fn written(path: &TreePath, kind: &Kind) -> Vec<u8> {
    let mut written = b"./".to_vec();
    written.extend_from_slice(path.as_bytes());
    if *kind == Kind::Directory && !path.is_root() {
        written.push(b'/');
    }
    written
}

fn header_of(
    path: &TreePath,
    kind: Kind,
    metadata: &Metadata,
    content: Option<&Content>,
) -> Header {
    Header {
        path: written(path, &kind),
        kind,
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: metadata.mtime,
        xattrs: metadata.xattrs.clone(),
        size: content.map_or(0, Content::size),
        offset: 0,
    }
}

/// The bytes of a file of a tree.
struct Stored<'a> {
    content: &'a Content,
    contents: &'a dyn Contents,
}

impl Source for Stored<'_> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.content {
            Content::Inline(bytes) => bytes.read_exact_at(offset, buffer),
            Content::Extern { digest, .. } => self.contents.read_exact_at(digest, offset, buffer),
        }
    }
}
