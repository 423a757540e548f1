//! VMDK in one sparse file, after VMware's "Virtual Disk Format 1.1". All numbers are
//! little-endian, places count sectors.

use std::io::{self, Read};

use super::clusters::{Clusters, Recent};
use super::damaged;
use crate::io::{Part, Source};
use crate::medium::vmdk::{AT_END, SECTOR};
use crate::medium::{MediumError, field};

/// Flag: the table entry 1 stands for a grain of zeros.
const ZERO_GRAINS: u32 = 1 << 2;

/// Flag: grains are compressed.
const COMPRESSED: u32 = 1 << 16;

/// Largest grain directory, in entries; it serves more than 16 TiB of usual grains.
const DIRECTORY_LIMIT: u64 = 1 << 20;

/// Bytes of a marker in front of a compressed grain: its first sector, and its length.
const MARKER: u64 = 12;

const KEPT: usize = 16;

/// An opened image.
pub(super) struct Vmdk {
    file: Part,
    size: u64,
    grain: u64,
    per_table: u64,
    flags: u32,
    directory: Vec<u32>,
    tables: Recent<Vec<u32>>,
    unpacked: Recent<Vec<u8>>,
}

/// Reads the header that rules, which has been checked for references to other files.
pub(super) fn open(file: Part) -> Result<Vmdk, MediumError> {
    let mut header = file.up_to(0, 512)?;
    if field(&header, 56).map(u64::from_le_bytes) == Some(AT_END) {
        header = file.up_to(file.size().saturating_sub(2 * SECTOR), 512)?;
    }
    let number = |at| field(&header, at).map_or(0, u32::from_le_bytes);
    let long = |at| field(&header, at).map_or(0, u64::from_le_bytes);
    let (capacity, grain, per_table) = (long(12), long(20), u64::from(number(44)));
    // VMware's grains have 8 to 128 sectors, QEMU allows larger ones.
    let sound = grain.is_power_of_two()
        && grain <= 1 << 14
        && (1..=1 << 16).contains(&per_table)
        && capacity <= u64::MAX / SECTOR;
    if !sound {
        return Err(damaged("its grains have an impossible size").into());
    }
    let entries = capacity.div_ceil(grain * per_table);
    if entries > DIRECTORY_LIMIT {
        return Err(damaged("its grain directory has an impossible size").into());
    }
    let directory = words(&file, long(56), entries)?;
    Ok(Vmdk {
        file,
        size: capacity * SECTOR,
        grain: grain * SECTOR,
        per_table,
        flags: number(8),
        directory,
        tables: Recent::new(4 * KEPT),
        unpacked: Recent::new(KEPT),
    })
}

fn words(file: &Part, sector: u64, count: u64) -> io::Result<Vec<u32>> {
    let place = sector
        .checked_mul(SECTOR)
        .ok_or_else(|| damaged("a table lies outside of it"))?;
    let mut bytes = vec![0; usize::try_from(count * 4).map_err(io::Error::other)?];
    file.read_exact_at(place, &mut bytes)?;
    let words = bytes.as_chunks::<4>().0;
    Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
}

impl Clusters for Vmdk {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn cluster_size(&self) -> u64 {
        self.grain
    }

    fn fill(&self, cluster: u64, within: u64, buffer: &mut [u8]) -> io::Result<()> {
        let index = usize::try_from(cluster / self.per_table).map_err(io::Error::other)?;
        let table = u64::from(self.directory.get(index).copied().unwrap_or(0));
        let entry = if table == 0 {
            0
        } else {
            let load = || words(&self.file, table, self.per_table);
            let entries = self.tables.get(table, load)?;
            let index = usize::try_from(cluster % self.per_table).map_err(io::Error::other)?;
            u64::from(entries.get(index).copied().unwrap_or(0))
        };
        if entry == 0 || (entry == 1 && self.flags & ZERO_GRAINS != 0) {
            buffer.fill(0);
            return Ok(());
        }
        if self.flags & COMPRESSED == 0 {
            return self.file.read_exact_at(entry * SECTOR + within, buffer);
        }
        let bytes = self.unpacked.get(entry, || self.unpack(entry * SECTOR))?;
        let from = usize::try_from(within).map_err(io::Error::other)?;
        let piece = bytes.get(from..from + buffer.len());
        buffer.copy_from_slice(piece.ok_or_else(|| damaged("a grain is too short"))?);
        Ok(())
    }
}

impl Vmdk {
    fn unpack(&self, place: u64) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.file.read_exact_at(place + 8, &mut length)?;
        let length = u64::from(u32::from_le_bytes(length));
        if length > 2 * self.grain + 4096 {
            return Err(damaged("a compressed grain is larger than a plain one"));
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let packed = self.file.up_to(place + MARKER, length)?;
        // The last grain may be cut where the disk ends.
        let mut bytes = Vec::new();
        flate2::read::ZlibDecoder::new(packed.as_slice())
            .take(self.grain)
            .read_to_end(&mut bytes)?;
        bytes.resize(usize::try_from(self.grain).map_err(io::Error::other)?, 0);
        Ok(bytes)
    }
}
