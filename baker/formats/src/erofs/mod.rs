//! EROFS: the compressed read-only file system that roots are made of.
//!
//! Takes a [`Tree`] and its contents, gives an image; takes an image, gives the tree back. Never
//! opens a file, reads a clock or lets the number of threads show in the image.
//!
//! ```text
//! block 0        1024 bytes of zeros, superblock, codec configuration
//! data           files, those to come first and then in tree order: clusters of compressed blocks, plain blocks, chunks
//! directories    whole blocks of directory data; long link targets
//! metadata       one empty slot, shared attributes, then per inode, at multiples of 32 bytes:
//!                inode (32 or 64) | attributes | index or chunk table | tail of the data
//! ```
//! Data comes before metadata because indexes can only be written when the compressed sizes are
//! known; so the image is written in one pass, and the superblock at the very end. An image that
//! was not finished has no superblock and cannot be mounted.
//!
//! Reference: `Documentation/filesystems/erofs.rst` and `fs/erofs/` of the Linux kernel. Images
//! without Zstandard work from kernel 5.17 on, with it from 6.10 on.

use std::io::{Seek, Write};
use std::num::NonZeroUsize;

use baker_model::tree::{Contents, TreePath};
use baker_model::{Interrupt, Tree};

mod codec;
mod data;
mod directory;
mod dump;
mod error;
mod format;
mod index;
mod inventory;
mod lz4;
mod metadata;
mod output;
mod parcel;
mod place;
mod read;
mod relief;
mod search;
mod segment;
mod sequences;
#[cfg(test)]
mod tests;
mod xattr;
mod zstandard;

pub use crate::io::Source;
pub use dump::dump;
pub use error::{Error, ReadError};
pub use parcel::{PARCEL_VERSION, Parcels};
pub use read::{Image, ImageContents, Part, Piece, pieces, read};

use format::{
    BLOCK, CLUSTER_LIMIT, COMPAT_CHECKSUM, COMPAT_MTIME, INCOMPAT_CHUNKED, INCOMPAT_CONFIGS,
    INCOMPAT_TAILS, INCOMPAT_ZERO_PADDING, SUPER_OFFSET, SUPER_SIZE, SuperBlock,
};
use metadata::{Metadata, Placed};
use output::Output;

/// How file data is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4 with the thorough encoder: quick to read.
    Lz4hc {
        /// 1 to 12.
        level: u32,
    },
    /// Zstandard: small. Needs kernel 6.10.
    Zstd {
        /// 1 to 22.
        level: i32,
    },
}

/// Settings of an image. All but `threads` decide its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How file data is compressed.
    pub compression: Compression,
    /// UUID of the file system, bytes in text order.
    pub uuid: [u8; 16],
    /// Seconds since 1970-01-01 UTC, not negative: the time of the image. Inodes of this time
    /// are smaller than others.
    pub epoch: i64,
    /// Threads that compress.
    pub threads: NonZeroUsize,
    /// Largest compressed cluster in bytes, a multiple of 4096 up to 1 MiB. Larger ones compress
    /// better; a read of one byte unpacks a whole one.
    pub cluster_size: u32,
}

impl Default for Options {
    /// Zstandard level 9, clusters of 64 KiB, one thread, everything else zero.
    fn default() -> Self {
        Self {
            compression: Compression::Zstd { level: 9 },
            uuid: [0; 16],
            epoch: 0,
            threads: NonZeroUsize::MIN,
            cluster_size: 64 << 10,
        }
    }
}

/// What to write, and how to talk about it meanwhile.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The tree.
    pub tree: &'a Tree,
    /// The contents that are not inside of the tree.
    pub contents: &'a dyn Contents,
    /// Packed data of earlier images with equal settings; changes nothing but the time it takes.
    pub parcels: Option<&'a dyn Parcels>,
    /// Files whose data comes first, in this order: what a boot reads lies together. Those that the
    /// tree does not have are passed over.
    pub first: &'a [TreePath],
    /// Settings.
    pub options: &'a Options,
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
    /// Inodes; hard-linked names count once.
    pub inodes: u64,
    /// Bytes of file data taken.
    pub data_bytes_in: u64,
    /// Bytes of blocks of file data written; tails beside inodes belong to the metadata.
    pub data_bytes_out: u64,
    /// Bytes of directories, inodes, indexes, attributes and tails.
    pub metadata_bytes: u64,
}

/// Writes an image to `out`, from its byte 0 on.
///
/// # Errors
/// Settings out of range, content that cannot be read, attributes that EROFS cannot hold, a
/// failing output, or an interrupt. **What was written until then is no image.**
pub fn write<W: Write + Seek>(request: &Request<'_>, out: &mut W) -> Result<Summary, Error> {
    let options = request.options;
    check(options)?;
    let inodes = inventory::collect(request.tree)?;
    let mut out = Output::new(out);
    out.write(&[0; BLOCK])?;

    let stored = data::write_all(request, &inodes, &mut out)?;
    let data_end = out.at();
    let configuration = codec::configuration(options.compression, options.cluster_size as usize);
    let algorithm = configuration
        .as_ref()
        .map_or(0, |(algorithm, _)| *algorithm);
    let metadata = Metadata::new(&inodes, stored, options.epoch, algorithm)?;
    let (tails, chunks) = metadata.features();
    let Placed { block, root } = metadata.write(&mut out)?;

    let mut feature_incompat = 0;
    if configuration.is_some() {
        feature_incompat |= INCOMPAT_ZERO_PADDING | INCOMPAT_CONFIGS;
    }
    if tails {
        feature_incompat |= INCOMPAT_TAILS;
    }
    if chunks {
        feature_incompat |= INCOMPAT_CHUNKED;
    }
    let size = out.at();
    let super_block = SuperBlock {
        feature_compat: COMPAT_CHECKSUM | COMPAT_MTIME,
        feature_incompat,
        root_nid: root,
        inos: inodes.len() as u64,
        epoch: options.epoch,
        blocks: out.block(inodes[0].path)?,
        meta_block: block,
        xattr_block: block,
        uuid: options.uuid,
        algorithms: configuration.as_ref().map_or(0, |_| 1 << algorithm),
    };
    let record = configuration.map_or_else(Vec::new, |(_, record)| record);
    out.finish(&first_block(&super_block, &record))?;
    Ok(Summary {
        size,
        inodes: inodes.len() as u64,
        data_bytes_in: inodes
            .iter()
            .filter_map(inventory::Inode::content)
            .map(|c| c.size())
            .sum(),
        data_bytes_out: data_end - BLOCK as u64,
        metadata_bytes: size - data_end,
    })
}

fn check(options: &Options) -> Result<(), Error> {
    let refuse = |option, found, expected| {
        Err(Error::Setting {
            option,
            found,
            expected,
        })
    };
    match options.compression {
        Compression::Lz4hc { level } if !(1..=12).contains(&level) => {
            return refuse("the LZ4 level", level.into(), "1 to 12");
        }
        Compression::Zstd { level } if !(1..=22).contains(&level) => {
            return refuse("the Zstandard level", level.into(), "1 to 22");
        }
        _ => {}
    }
    let cluster = options.cluster_size as usize;
    if cluster == 0 || !cluster.is_multiple_of(BLOCK) || cluster > CLUSTER_LIMIT {
        let expected = "a multiple of 4096 up to 1048576";
        return refuse("the cluster size", options.cluster_size.into(), expected);
    }
    if options.epoch < 0 {
        return refuse("the epoch", options.epoch, "zero or more");
    }
    Ok(())
}

/// The first block with superblock, codec configuration, and the checksum over both.
fn first_block(super_block: &SuperBlock, record: &[u8]) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let end = SUPER_OFFSET + SUPER_SIZE;
    block[SUPER_OFFSET..end].copy_from_slice(&super_block.encode());
    block[end..end + record.len()].copy_from_slice(record);
    let checksum = format::checksum(&block[SUPER_OFFSET..]);
    block[SUPER_OFFSET + 4..SUPER_OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
    block
}
