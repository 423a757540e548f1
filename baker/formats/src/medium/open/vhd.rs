//! VHD, fixed and dynamic, after Microsoft's "Virtual Hard Disk Image Format Specification". All
//! numbers are big-endian.

use std::io;

use super::clusters::Clusters;
use super::damaged;
use crate::io::{Part, Source};
use crate::medium::vhd::{FOOTER, is_footer};
use crate::medium::{MediumError, field};

const SECTOR: u64 = 512;

/// A block that was never written.
const NOWHERE: u32 = u32::MAX;

/// Most entries of the block table: VHD ends at 2 TiB, blocks have 512 KiB at least.
const TABLE_LIMIT: u64 = 4 << 20;

/// An opened image.
pub(super) enum Vhd {
    /// The disk as it is, in front of the footer.
    Fixed(Part),
    /// Blocks, found through a table.
    Dynamic(Blocks),
}

/// A dynamic image.
pub(super) struct Blocks {
    file: Part,
    size: u64,
    block: u64,
    table: Vec<u32>,
}

/// Reads the footer, which is known to be whole and not that of a child of another disk.
pub(super) fn open(file: Part) -> Result<Vhd, MediumError> {
    let mut footer = file.up_to(file.size().saturating_sub(FOOTER), 512)?;
    if !is_footer(&footer) {
        footer = file.up_to(0, 512)?;
    }
    let long = |at| field(&footer, at).map_or(0, u64::from_be_bytes);
    let size = long(48);
    if field(&footer, 60).map(u32::from_be_bytes) == Some(2) {
        let disk = file.part(0..size.min(file.size().saturating_sub(FOOTER)));
        let disk = disk.ok_or_else(|| damaged("it is shorter than its disk"))?;
        return Ok(Vhd::Fixed(disk));
    }
    let header = file.up_to(long(16), 1024)?;
    if !header.starts_with(b"cxsparse") {
        return Err(damaged("it has no header of dynamic disks").into());
    }
    let number = |at| field(&header, at).map_or(0, u32::from_be_bytes);
    let (entries, block) = (u64::from(number(28)), u64::from(number(32)));
    let place = field(&header, 16).map_or(0, u64::from_be_bytes);
    let sound = block.is_power_of_two()
        && block >= SECTOR
        && entries <= TABLE_LIMIT
        && size.div_ceil(block) <= entries;
    if !sound {
        return Err(damaged("its blocks have an impossible size").into());
    }
    let mut bytes = vec![0; usize::try_from(entries * 4).map_err(io::Error::other)?];
    file.read_exact_at(place, &mut bytes)?;
    let table = bytes.as_chunks::<4>().0;
    let table = table.iter().map(|word| u32::from_be_bytes(*word)).collect();
    Ok(Vhd::Dynamic(Blocks {
        file,
        size,
        block,
        table,
    }))
}

impl Clusters for Blocks {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn cluster_size(&self) -> u64 {
        self.block
    }

    fn fill(&self, cluster: u64, within: u64, buffer: &mut [u8]) -> io::Result<()> {
        let index = usize::try_from(cluster).map_err(io::Error::other)?;
        match self.table.get(index).copied().unwrap_or(NOWHERE) {
            NOWHERE => buffer.fill(0),
            sector => {
                // A bitmap of its sectors lies in front of each block. It matters for children of
                // other disks only: in others, sectors that were not written hold zeros.
                let bitmap = (self.block / SECTOR).div_ceil(8).next_multiple_of(SECTOR);
                let place = u64::from(sector) * SECTOR + bitmap + within;
                self.file.read_exact_at(place, buffer)?;
            }
        }
        Ok(())
    }
}
