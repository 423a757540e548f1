//! The map of a disk: which byte is what.
//!
//! Takes the bytes of a raw disk that baker made; gives regions in order that account for every
//! byte of it, each with the structure that it belongs to. Memory is bounded by the number of
//! files, never by their size. Never trusts a field, never writes.
//!
//! ```text
//! protective MBR | primary table | gap | ESP: FAT, programs, their sections
//!                                      | root: file system, inode by inode
//!                                      | hash tree: superblock, levels
//!                                      | data, empty slots
//!                                gap | backup table
//! ```
//! Two uses: the tamper drill chooses from it what to damage, and a comparison of two disks says
//! by it which structure differs.

mod esp;
mod program;
mod root;
mod structure;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod tree;

use std::io;
use std::ops::Range;

use baker_formats::gpt::{self, GptError};
use baker_formats::io::{Slice, Source};
use baker_model::layout::{Partition, Role};

pub use structure::{
    Copy, EspPart, MbrPart, ProgramPart, RootPart, Standing, Structure, TablePart, TreePart,
};

/// A range of a disk and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Bytes of the disk.
    pub range: Range<u64>,
    /// What they belong to.
    pub structure: Structure,
}

impl Region {
    /// True when something reads these bytes and their value matters to it.
    #[must_use]
    pub fn is_used(&self) -> bool {
        !matches!(self.structure.standing(), Standing::Unused(_))
    }
}

/// Every byte of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anatomy {
    size: u64,
    regions: Vec<Region>,
}

/// The disk cannot be mapped.
#[derive(Debug, thiserror::Error)]
pub enum AnatomyError {
    /// It cannot be read.
    #[error("cannot read the disk at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its partition table cannot be read.
    #[error("cannot map the disk")]
    Table(#[source] GptError),
    /// A partition holds something else than its type says.
    #[error("cannot map the partition `{partition}`")]
    Partition {
        /// Its name.
        partition: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Two structures claim the same bytes, or one reaches out of the disk.
    #[error("{structure} claims bytes from {start} to {end}, which are not its own")]
    Overlap {
        /// The structure.
        structure: Box<Structure>,
        /// First byte claimed.
        start: u64,
        /// First byte behind.
        end: u64,
    },
}

/// Maps the disk of `size` bytes that `disk` reads.
///
/// # Errors
/// See [`AnatomyError`]. A partition without known content is no error: it is
/// [`Structure::Data`].
pub fn anatomy(disk: &dyn Source, size: u64) -> Result<Anatomy, AnatomyError> {
    let layout = gpt::read(&mut Slice::new(disk, 0..size)).map_err(AnatomyError::Table)?;
    let mut map = Map {
        disk,
        regions: Vec::new(),
    };
    table::map(&mut map, size)?;
    for partition in &layout.partitions {
        map.partition(partition)?;
    }
    map.finish(size)
}

impl Anatomy {
    /// Bytes of the disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The regions in order: without gap, without overlap, none empty.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The region that holds the byte at `offset`; none behind the end of the disk.
    #[must_use]
    pub fn at(&self, offset: u64) -> Option<&Region> {
        let index = self
            .regions
            .partition_point(|region| region.range.end <= offset);
        self.regions.get(index)
    }
}

/// The map while it is made.
struct Map<'a> {
    disk: &'a dyn Source,
    regions: Vec<Region>,
}

impl Map<'_> {
    fn add(&mut self, range: Range<u64>, structure: Structure) {
        if !range.is_empty() {
            self.regions.push(Region { range, structure });
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), AnatomyError> {
        self.disk
            .read_exact_at(offset, buffer)
            .map_err(|source| AnatomyError::Read { offset, source })
    }

    fn partition(&mut self, partition: &Partition) -> Result<(), AnatomyError> {
        let range = partition.offset..partition.offset + partition.size;
        if self.is_blank(&range)? {
            let partition = partition.name.clone();
            self.add(range, Structure::Blank { partition });
            return Ok(());
        }
        match partition.role {
            Role::Esp => esp::map(self, partition),
            Role::Root => root::map(self, partition),
            Role::RootVerity => tree::map(self, partition),
            Role::Data => {
                let partition = partition.name.clone();
                self.add(range, Structure::Data { partition });
                Ok(())
            }
        }
    }

    /// True when a partition begins with zeros only, where every content that this module knows
    /// has its first bytes.
    fn is_blank(&self, range: &Range<u64>) -> Result<bool, AnatomyError> {
        let mut start = [0; 4096];
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let start = &mut start[..length.min(4096)];
        self.read(range.start, start)?;
        Ok(start.iter().all(|byte| *byte == 0))
    }

    /// Sorts the regions and fills what lies between them.
    fn finish(mut self, size: u64) -> Result<Anatomy, AnatomyError> {
        self.regions.sort_by_key(|region| region.range.start);
        let mut regions: Vec<Region> = Vec::with_capacity(self.regions.len());
        let gap = |range| Region {
            range,
            structure: Structure::Gap,
        };
        let mut at = 0;
        for region in self.regions {
            let Range { start, end } = region.range;
            if start < at || end > size {
                return Err(AnatomyError::Overlap {
                    structure: Box::new(region.structure),
                    start,
                    end,
                });
            }
            if start > at {
                regions.push(gap(at..start));
            }
            at = end;
            regions.push(region);
        }
        if at < size {
            regions.push(gap(at..size));
        }
        Ok(Anatomy { size, regions })
    }
}

/// The error of what a partition holds.
fn partition_error(
    partition: &Partition,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> AnatomyError {
    AnatomyError::Partition {
        partition: partition.name.clone(),
        source: source.into(),
    }
}
