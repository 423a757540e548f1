//! SquashFS: the other choice for a root, written through the `backhand` crate.
//!
//! Takes a [`Tree`] and its contents, gives an image compressed with Zstandard. Never drops what
//! the crate cannot keep: a tree with extended attributes, times before 1970 or files of 4 GiB is
//! refused, with the path. Confessed losses: each name of a hard-linked file becomes a file of
//! its own (their equal content is stored once), and the root directory shows the time 0.

use std::ffi::OsStr;
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;

use backhand::compression::{CompressionOptions, Compressor, Zstd};
use backhand::{FilesystemCompressor, FilesystemWriter, NodeHeader};
use baker_model::tree::{Content, Contents, Kind, Node, TreePath};
use baker_model::{Digest, Interrupt, Tree};

#[cfg(test)]
mod tests;

/// Bytes per data block.
const BLOCK_SIZE: u32 = 128 << 10;

/// An image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is out of range.
    #[error("the Zstandard level is {found}, but must be 1 to 22")]
    Level {
        /// What it was set to.
        found: u32,
    },
    /// A node has extended attributes, which the SquashFS writer would lose.
    #[error("{path} has the extended attribute `{name}`, which the SquashFS writer cannot keep")]
    Attribute {
        /// The node.
        path: TreePath,
        /// Its first attribute, lossily decoded.
        name: String,
    },
    /// A time does not fit into 32 bits without sign.
    #[error("{path} has the time {found}, but SquashFS holds 0 to 4294967295")]
    Time {
        /// The node, or the root for the time of the image.
        path: TreePath,
        /// Seconds since 1970-01-01 UTC.
        found: i64,
    },
    /// A file is too large for the writer.
    #[error("{path} has {found} bytes, but the SquashFS writer holds less than 4294967296")]
    Size {
        /// The file.
        path: TreePath,
        /// Its size.
        found: u64,
    },
    /// The writer refused a node.
    #[error("adding {path} to the SquashFS image")]
    Node {
        /// The node.
        path: TreePath,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Content could not be read, or the image could not be written.
    #[error("writing the SquashFS image")]
    Write {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Somebody asked to stop.
    #[error("writing the SquashFS image was interrupted")]
    Interrupted,
}

/// Settings of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Zstandard level, 1 to 22.
    pub level: u32,
    /// Seconds since 1970-01-01 UTC: the time of the image.
    pub epoch: i64,
}

/// What to write, and how to talk about it meanwhile.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// The contents that are not inside of the tree.
    pub contents: &'a dyn Contents,
    /// Settings.
    pub options: Options,
    /// Ends the work with [`Error::Interrupted`] when raised.
    pub interrupt: &'a Interrupt,
    /// Told the bytes of file data consumed since the last call.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the image, a multiple of 4096.
    pub size: u64,
    /// Nodes of the tree, each of which is an inode.
    pub inodes: u64,
}

/// Writes an image to `out`, from its byte 0 on.
///
/// # Errors
/// The tree holds what the image could not keep, content cannot be read, the output fails, or an
/// interrupt. **What was written until then is no image.**
pub fn write<W: Write + Seek>(request: &Request<'_>, out: &mut W) -> Result<Summary, Error> {
    let Options { level, epoch } = request.options;
    if !(1..=22).contains(&level) {
        return Err(Error::Level { found: level });
    }
    // Everything is checked before the first byte is written.
    let headers = request
        .tree
        .walk()
        .map(|(path, node)| header(path, node))
        .collect::<Result<Vec<_>, Error>>()?;

    let mut writer = FilesystemWriter::default();
    let options = CompressionOptions::Zstd(Zstd {
        compression_level: level,
    });
    let compressor =
        FilesystemCompressor::new(Compressor::Zstd, Some(options)).map_err(|source| {
            Error::Write {
                source: io::Error::other(source),
            }
        })?;
    writer.set_compressor(compressor);
    writer.set_block_size(BLOCK_SIZE);
    writer.set_time(seconds(&TreePath::root(), epoch)?);
    for ((path, node), header) in request.tree.walk().zip(headers) {
        push(&mut writer, request, path, node, header).map_err(|source| Error::Node {
            path: path.clone(),
            source,
        })?;
    }
    let (_, size) = writer
        .write(out)
        .map_err(|source| match request.interrupt.is_raised() {
            true => Error::Interrupted,
            false => Error::Write {
                source: io::Error::other(source),
            },
        })?;
    Ok(Summary {
        size,
        inodes: request.tree.len() as u64,
    })
}

fn seconds(path: &TreePath, found: i64) -> Result<u32, Error> {
    u32::try_from(found).map_err(|_| Error::Time {
        path: path.clone(),
        found,
    })
}

fn header(path: &TreePath, node: &Node) -> Result<NodeHeader, Error> {
    let metadata = &node.metadata;
    if let Some(name) = metadata.xattrs.keys().next() {
        let name = String::from_utf8_lossy(name).into_owned();
        return Err(Error::Attribute {
            path: path.clone(),
            name,
        });
    }
    if let Kind::File { content, .. } = &node.kind
        && content.size() > u64::from(u32::MAX)
    {
        return Err(Error::Size {
            path: path.clone(),
            found: content.size(),
        });
    }
    let time = seconds(path, metadata.mtime)?;
    Ok(NodeHeader::new(
        metadata.mode,
        metadata.uid,
        metadata.gid,
        time,
    ))
}

fn push<'a>(
    writer: &mut FilesystemWriter<'_, '_, 'a>,
    request: &Request<'a>,
    path: &TreePath,
    node: &'a Node,
    header: NodeHeader,
) -> io::Result<()> {
    let at = OsStr::from_bytes(path.as_bytes());
    let device = |major: u32, minor: u32| minor & 0xff | major << 8 | (minor & !0xff) << 12;
    match &node.kind {
        Kind::Directory if path.is_root() => {
            writer.set_root_mode(header.permissions);
            writer.set_root_uid(header.uid);
            writer.set_root_gid(header.gid);
            Ok(())
        }
        Kind::Directory => writer.push_dir(at, header),
        Kind::File { content, .. } => writer.push_file(
            Reader {
                request: *request,
                content,
                at: 0,
            },
            at,
            header,
        ),
        Kind::Symlink { target } => writer.push_symlink(OsStr::from_bytes(target), at, header),
        Kind::CharDevice { major, minor } => {
            writer.push_char_device(device(*major, *minor), at, header)
        }
        Kind::BlockDevice { major, minor } => {
            writer.push_block_device(device(*major, *minor), at, header)
        }
        Kind::Fifo => writer.push_fifo(at, header),
        Kind::Socket => writer.push_socket(at, header),
    }
    .map_err(io::Error::other)
}

/// The content of one file as a stream.
struct Reader<'a> {
    request: Request<'a>,
    content: &'a Content,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.request.interrupt.is_raised() {
            // Not `ErrorKind::Interrupted`, which readers take as "try again".
            return Err(io::Error::other("interrupted"));
        }
        let left = usize::try_from(self.content.size() - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let buffer = &mut buffer[..length];
        match self.content {
            Content::Inline(bytes) => {
                let from = bytes.len() - left;
                buffer.copy_from_slice(&bytes[from..from + length]);
            }
            Content::Extern { digest, .. } => self.fill(digest, buffer)?,
        }
        self.at += length as u64;
        (self.request.progress)(length as u64);
        Ok(length)
    }
}

impl Reader<'_> {
    fn fill(&self, digest: &Digest, buffer: &mut [u8]) -> io::Result<()> {
        self.request.contents.read_exact_at(digest, self.at, buffer)
    }
}
