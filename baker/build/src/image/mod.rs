//! The image stage: tree in, root file system image out.
//!
//! Takes the finished tree and its contents; gives one file in the work folder. Never changes
//! the tree, never looks at a clock: ids and times are given.

mod parcels;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use baker_formats::{erofs, squashfs};
use baker_model::event::Outcome;
use baker_model::recipe::{Compression, Root, RootFormat};
use baker_model::tree::TreePath;
use baker_model::{Digest, Event, Interrupt, Listener, Tree};

use self::parcels::Shelf;
use crate::{Keep, Spool};

/// Name of the stage in events.
const STAGE: &str = "image";

/// Bytes gathered before a write.
const BUFFER: usize = 1 << 20;

/// zstd level when the recipe names none: smaller gives little, larger takes long.
const ZSTD_LEVEL: u32 = 9;

/// LZ4HC level when the recipe names none; the default of the LZ4 library.
const LZ4HC_LEVEL: u32 = 9;

/// Bytes of a compressed cluster when the recipe names none: a read of one byte unpacks a whole one,
/// and four times larger ones shrink the disk by little more than one per cent (`EROFS.md`).
const CLUSTER_SIZE: u32 = 16 << 10;

/// What [`image`] needs.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The root file system.
    pub tree: &'a Tree,
    /// Where the larger files are.
    pub contents: &'a Spool,
    /// Where data lies that was packed before; none to pack all of it, and keep nothing.
    pub keep: Option<&'a Keep>,
    /// Format and compression.
    pub root: &'a Root,
    /// Digest of the lock; the file system's UUID comes from it.
    pub lock: &'a Digest,
    /// The time of the image, seconds since 1970-01-01 UTC.
    pub epoch: i64,
    /// Threads that compress; never changes the result.
    pub threads: NonZeroUsize,
    /// The file to write.
    pub out: &'a Path,
    /// Hears how it goes.
    pub listener: &'a dyn Listener,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

/// The image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file cannot be written.
    #[error("cannot write the root image {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What was packed cannot be kept.
    #[error("cannot keep what was packed for {}", path.display())]
    Keep {
        /// The root image.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The EROFS writer refused.
    #[error("cannot make the EROFS image")]
    Erofs(#[source] erofs::Error),
    /// The SquashFS writer refused.
    #[error("cannot make the SquashFS image")]
    Squashfs(#[source] squashfs::Error),
}

/// Writes the root image and gives its size in bytes, a multiple of 4096.
///
/// # Errors
/// The tree cannot be expressed in the format, a content cannot be read, or the file cannot be
/// written.
pub fn image(request: Request<'_>) -> Result<u64, ImageError> {
    let files = || request.tree.walk().map(|(_, node)| &node.kind);
    let total = files()
        .map(|kind| match kind {
            baker_model::tree::Kind::File { content, .. } => content.size(),
            _ => 0,
        })
        .sum();
    request.listener.event(Event::Started {
        stage: STAGE,
        total: Some(total),
        unit: "bytes",
    });
    let (size, (taken, made)) = write(&request)?;
    let mut summary = format!("{} nodes, {} KiB", request.tree.len(), size / 1024);
    if taken > 0 {
        summary = format!(
            "{summary}; {taken} of {} pieces were packed before",
            taken + made
        );
    }
    let is_reused = taken > 0 && made == 0;
    request.listener.event(Event::Finished {
        stage: STAGE,
        how: if is_reused {
            Outcome::Reused
        } else {
            Outcome::Done
        },
        summary,
    });
    Ok(size)
}

/// First word of the names of the books that [`image`] keeps.
pub const PACKED: &str = parcels::KIND;

/// Names the book in which [`image`] keeps what it packs of the input with the digest `source`: a
/// package, a large local file, the tree of a sandbox. None for a format of which nothing is kept.
#[must_use]
pub fn packed_key(root: &Root, source: &Digest) -> Option<Digest> {
    match root.format {
        RootFormat::Erofs => Some(parcels::key(&parcels::settings(&options(root)), source)),
        RootFormat::Squashfs => None,
    }
}

/// Pieces of files that were packed before, and those that were packed now.
type Counts = (u64, u64);

fn write(request: &Request<'_>) -> Result<(u64, Counts), ImageError> {
    let failed = |source| ImageError::Write {
        path: request.out.to_owned(),
        source,
    };
    let file = File::create_new(request.out).map_err(failed)?;
    let mut out = BufWriter::with_capacity(BUFFER, file);
    let progress = |by| request.listener.event(Event::Advanced { stage: STAGE, by });
    let uuid = request.lock.derive("root-filesystem").to_uuid_bytes();
    let mut counts = Counts::default();
    let size = match request.root.format {
        RootFormat::Erofs => {
            let options = erofs::Options {
                uuid,
                epoch: request.epoch,
                threads: request.threads,
                ..options(request.root)
            };
            let keeping = |source| ImageError::Keep {
                path: request.out.to_owned(),
                source,
            };
            let shelf = shelf(request, &options).transpose().map_err(keeping)?;
            let first = request.root.first.iter();
            let first: Vec<TreePath> = first.filter_map(|path| TreePath::new(path).ok()).collect();
            let request = erofs::Request {
                tree: request.tree,
                contents: request.contents,
                parcels: shelf.as_ref().map(|shelf| shelf as &dyn erofs::Parcels),
                first: &first,
                options: &options,
                interrupt: request.interrupt,
                progress: &progress,
            };
            let size = erofs::write(&request, &mut out)
                .map_err(ImageError::Erofs)?
                .size;
            if let Some(shelf) = shelf {
                counts = shelf.close().map_err(keeping)?;
            }
            size
        }
        RootFormat::Squashfs => {
            let level = request.root.level.unwrap_or(ZSTD_LEVEL);
            let options = squashfs::Options {
                level,
                epoch: request.epoch,
            };
            let request = squashfs::Request {
                tree: request.tree,
                contents: request.contents,
                options,
                interrupt: request.interrupt,
                progress: &progress,
            };
            squashfs::write(&request, &mut out)
                .map_err(ImageError::Squashfs)?
                .size
        }
    };
    out.flush().map_err(failed)?;
    let file = out
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    let size = size.next_multiple_of(4096);
    file.set_len(size).map_err(failed)?;
    Ok((size, counts))
}

fn shelf<'a>(request: &Request<'a>, options: &erofs::Options) -> Option<io::Result<Shelf<'a>>> {
    let keep = request.keep?;
    let folder = request.out.parent()?;
    Some(Shelf::open(
        keep,
        request.contents,
        request.tree,
        options,
        folder,
    ))
}

/// What a recipe says of how its data is packed.
fn options(root: &Root) -> erofs::Options {
    erofs::Options {
        compression: compression(root),
        cluster_size: root.cluster_size.unwrap_or(CLUSTER_SIZE),
        ..erofs::Options::default()
    }
}

fn compression(root: &Root) -> erofs::Compression {
    match root.compression {
        Compression::None => erofs::Compression::None,
        Compression::Lz4hc => erofs::Compression::Lz4hc {
            level: root.level.unwrap_or(LZ4HC_LEVEL),
        },
        Compression::Zstd => {
            let level = root.level.unwrap_or(ZSTD_LEVEL);
            erofs::Compression::Zstd {
                level: i32::try_from(level).unwrap_or(i32::MAX),
            }
        }
    }
}
