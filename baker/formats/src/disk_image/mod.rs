//! Disk images for virtual machines, made from a raw disk.
//!
//! Takes the bytes of a disk at any place and an id; gives the image of one format into a writer.
//! Blocks of zeros are not stored. Blocks are compressed on several threads and written in order,
//! so neither their number nor the machine changes a byte. Memory is a few blocks for each
//! thread, and tables of at most a thousandth of the disk. Never knows a file name or a clock.
//!
//! | module | is | compressed |
//! |---|---|---|
//! | [`qcow2`] | QEMU, version 3 | yes |
//! | [`vmdk`] | VMware, stream-optimised | yes |
//! | [`vhd`] | Virtual PC, Hyper-V, Azure: fixed or dynamic | no |

mod blocks;
pub mod qcow2;
pub mod vhd;
pub mod vmdk;

use std::io;
use std::num::NonZeroUsize;

use baker_model::Interrupt;

use crate::io::Source;

/// Unit of all sizes on a disk.
const SECTOR: u64 = 512;

/// Level of Deflate, the default of zlib: what follows gains little and takes long.
const DEFLATE_LEVEL: u8 = 6;

/// What is converted, and by whom.
#[derive(Clone, Copy)]
pub struct Conversion<'a> {
    /// The raw disk.
    pub disk: &'a dyn Source,
    /// Its bytes, a multiple of 512.
    pub size: u64,
    /// Threads that compress; never changes the result.
    pub threads: NonZeroUsize,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

impl Conversion<'_> {
    /// Refuses a disk that no format can hold, and one beyond the limit of this one.
    fn check(&self, format: &'static str, limit: u64) -> Result<(), ImageError> {
        let size = self.size;
        if size == 0 || !size.is_multiple_of(SECTOR) {
            return Err(ImageError::Sectors { size });
        }
        if size > limit {
            return Err(ImageError::TooLarge {
                format,
                size,
                limit,
            });
        }
        Ok(())
    }
}

/// The image cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The disk is no whole number of sectors.
    #[error("a disk of {size} bytes is no whole number of sectors")]
    Sectors {
        /// Its bytes.
        size: u64,
    },
    /// The disk is larger than the format allows.
    #[error("a disk of {size} bytes does not fit into {format}, which holds {limit}")]
    TooLarge {
        /// The format.
        format: &'static str,
        /// Bytes of the disk.
        size: u64,
        /// Bytes that the format holds.
        limit: u64,
    },
    /// The disk cannot be read.
    #[error("cannot read the disk at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// A block cannot be compressed.
    #[error("cannot compress the disk at byte {offset}")]
    Compress {
        /// Where the block begins.
        offset: u64,
        /// What the codec said.
        #[source]
        source: io::Error,
    },
    /// The image cannot be written.
    #[error("cannot write the image")]
    Write(#[source] io::Error),
    /// A thread that compresses died.
    #[error("a thread that compresses the disk died")]
    Worker,
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

#[cfg(test)]
mod tests;
