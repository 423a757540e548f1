//! The archive stage: the root as a compressed tar archive.
//!
//! Takes the finished tree and its contents; gives one file, which is also the layer of an OCI
//! image. Never changes the tree: owners, modes, times and extended attributes are what it says.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use baker_formats::gzip::{self, GzipError};
use baker_formats::tar::Archive;
use baker_model::tree::Contents;
use baker_model::{Digest, Digester, Interrupt, Tree};

/// Bytes gathered before a write.
const BUFFER: usize = 1 << 20;

/// What is archived.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The root file system.
    pub tree: &'a Tree,
    /// Where the larger files are.
    pub contents: &'a dyn Contents,
    /// The file to write; must not be there.
    pub out: &'a Path,
    /// Threads that compress; never changes the result.
    pub threads: NonZeroUsize,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

/// The archive that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archived {
    /// Bytes of the file.
    pub size: u64,
    /// Digest of the file.
    pub digest: Digest,
    /// Bytes before compression.
    pub plain_size: u64,
    /// Digest of the bytes before compression: the "diff id" of OCI.
    pub plain: Digest,
}

/// The archive cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be made.
    #[error("cannot write {}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The root cannot be compressed.
    #[error("cannot archive the root into {}", path.display())]
    Gzip {
        /// Path of the archive.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: GzipError,
    },
}

/// Writes the archive of the root.
///
/// # Errors
/// See [`ArchiveError`]. The file is left behind for the caller to remove.
pub fn archive(request: &Request<'_>) -> Result<Archived, ArchiveError> {
    let failed = |source| ArchiveError::Write {
        path: request.out.to_owned(),
        source,
    };
    let archive = Archive::of_tree(request.tree, request.contents);
    let file = File::create_new(request.out).map_err(failed)?;
    let mut out = Counted {
        inner: BufWriter::with_capacity(BUFFER, file),
        size: 0,
        digester: Digester::new(),
    };
    let mut plain = Digester::new();
    let packing = gzip::Request {
        source: &archive,
        size: archive.size(),
        threads: request.threads,
        interrupt: request.interrupt,
    };
    gzip::write(&packing, &mut |bytes| plain.update(bytes), &mut out).map_err(|source| {
        ArchiveError::Gzip {
            path: request.out.to_owned(),
            source,
        }
    })?;
    Ok(Archived {
        size: out.size,
        digest: out.digester.finish(),
        plain_size: archive.size(),
        plain: plain.finish(),
    })
}

/// Hears what passes.
struct Counted<W> {
    inner: W,
    size: u64,
    digester: Digester,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.digester.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use baker_formats::tar::{Limits, Reader};
    use baker_model::tree::{Content, Metadata, Node, Origin, TreePath};

    use super::*;
    use crate::Spool;

    #[test]
    fn the_root_is_in_the_archive_and_the_digests_are_those_of_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path()).unwrap();
        let large: Vec<u8> = (0..700_000_u32).flat_map(u32::to_be_bytes).collect();
        let content = spool.add(&mut &large[..], large.len() as u64).unwrap();
        let mut tree = Tree::new(9);
        let node = |content: Content| Node {
            metadata: Metadata::of_root(0o644, 9),
            kind: baker_model::tree::Kind::file(content),
            origin: Origin::Recipe,
        };
        tree.insert(TreePath::new("large").unwrap(), node(content))
            .unwrap();
        tree.insert(TreePath::new("small").unwrap(), node(Content::inline("x")))
            .unwrap();
        let made = |threads: usize| {
            let out = folder.path().join(format!("{threads}.tar.gz"));
            let done = archive(&Request {
                tree: &tree,
                contents: &spool,
                out: &out,
                threads: NonZeroUsize::new(threads).unwrap(),
                interrupt: &Interrupt::new(),
            })
            .unwrap();
            (done, std::fs::read(out).unwrap())
        };
        let (done, bytes) = made(1);
        assert_eq!(made(3), (done, bytes.clone()));
        assert_eq!(
            (done.size, done.digest),
            (bytes.len() as u64, Digest::of(&bytes))
        );
        let mut plain = Vec::new();
        io::copy(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut plain).unwrap();
        assert_eq!(
            (done.plain_size, done.plain),
            (plain.len() as u64, Digest::of(&plain))
        );
        let mut reader = Reader::new(&plain[..], Limits::default());
        let mut sizes = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            sizes.push((entry.header.path.clone(), entry.header.size));
        }
        let expected = [("./", 0), ("./large", large.len() as u64), ("./small", 1)];
        assert_eq!(sizes, expected.map(|(path, size)| (path.into(), size)));
    }
}
