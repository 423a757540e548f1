//! Reading a GUID partition table: UEFI specification, chapter 5.3.
//!
//! ```text
//! LBA 0   protective MBR (not looked at)
//! LBA 1   primary header -> entries
//! last    backup header  -> entries
//! ```
//!
//! Takes a way to read sectors; gives the used entries of the first copy whose checksums hold.

use std::io;

use crate::crc32::crc32;

/// Smallest header that has all fields.
const HEADER_SIZE: usize = 92;

/// More entry bytes than this are taken for damage; usual is 16 KiB.
const ENTRIES_LIMIT: usize = 1 << 20;

/// A used entry of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Number from 1, as the kernel counts.
    pub number: u32,
    /// Unique id, in the byte order of its text form.
    pub id: [u8; 16],
    /// First byte on the disk.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

/// A disk to read from.
pub trait Disk {
    /// Fills `buffer` from byte `offset`.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// Size and sectors of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a logical sector: 512 or 4096.
    pub sector: u32,
    /// Number of sectors.
    pub sectors: u64,
}

/// Reads the table, from its backup at the end of the disk when the primary is broken.
///
/// # Errors
/// Neither copy is sound: what is wrong with each.
pub fn read(disk: &dyn Disk, geometry: Geometry) -> Result<Vec<Partition>, String> {
    if geometry.sectors < 3 || !(512..=65536).contains(&geometry.sector) {
        return Err("too small for a partition table".into());
    }
    read_copy(disk, geometry, 1).or_else(|primary| {
        read_copy(disk, geometry, geometry.sectors - 1).map_err(|backup| {
            if primary == backup {
                primary
            } else {
                format!("{primary}; backup: {backup}")
            }
        })
    })
}

fn read_copy(disk: &dyn Disk, geometry: Geometry, lba: u64) -> Result<Vec<Partition>, String> {
    let mut sector = vec![0; geometry.sector as usize];
    read_bytes(disk, lba.checked_mul(geometry.sector.into()), &mut sector)?;
    let header = Header::parse(&sector, lba)?;
    let mut entries = vec![0; header.entries_bytes()?];
    read_bytes(
        disk,
        header.entries.checked_mul(geometry.sector.into()),
        &mut entries,
    )?;
    if crc32(&entries) != header.entries_crc {
        return Err("checksum of the partition entries is wrong".into());
    }
    let used = entries.chunks_exact(header.entry_size).zip(1..);
    Ok(used
        .filter_map(|(entry, number)| partition(entry, number, geometry))
        .collect())
}

fn read_bytes(disk: &dyn Disk, offset: Option<u64>, buffer: &mut [u8]) -> Result<(), String> {
    let offset = offset.ok_or("partition table lies outside the disk")?;
    disk.read_at(offset, buffer)
        .map_err(|error| format!("cannot read byte {offset}: {error}"))
}

struct Header {
    entries: u64,
    entry_count: usize,
    entry_size: usize,
    entries_crc: u32,
}

impl Header {
    fn parse(sector: &[u8], lba: u64) -> Result<Self, String> {
        if !sector.starts_with(b"EFI PART") {
            return Err("no partition table".into());
        }
        let size = u32_at(sector, 12) as usize;
        if size < HEADER_SIZE || size > sector.len() {
            return Err(format!("partition table header claims {size} bytes"));
        }
        let mut covered = sector[..size].to_vec();
        covered[16..20].fill(0);
        if crc32(&covered) != u32_at(sector, 16) {
            return Err("checksum of the partition table header is wrong".into());
        }
        if u64_at(sector, 24) != lba {
            return Err("partition table header is not where it says it is".into());
        }
        Ok(Self {
            entries: u64_at(sector, 72),
            entry_count: u32_at(sector, 80) as usize,
            entry_size: u32_at(sector, 84) as usize,
            entries_crc: u32_at(sector, 88),
        })
    }

    fn entries_bytes(&self) -> Result<usize, String> {
        let bytes = self.entry_count.checked_mul(self.entry_size);
        bytes
            .filter(|&bytes| self.entry_size >= 128 && bytes <= ENTRIES_LIMIT)
            .ok_or_else(|| {
                format!(
                    "{} partition entries of {} bytes",
                    self.entry_count, self.entry_size
                )
            })
    }
}

/// A used entry; none when its type is zero or its place makes no sense.
fn partition(entry: &[u8], number: u32, geometry: Geometry) -> Option<Partition> {
    let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
    let used = entry[..16].iter().any(|&byte| byte != 0);
    if !used || first > last || last >= geometry.sectors {
        return None;
    }
    Some(Partition {
        number,
        id: text_order(&entry[16..32]),
        start: first.checked_mul(geometry.sector.into())?,
        length: (last - first + 1).checked_mul(geometry.sector.into())?,
    })
}

/// GUIDs on disk have their first three fields in little endian (UEFI specification, appendix A).
fn text_order(stored: &[u8]) -> [u8; 16] {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    ORDER.map(|at| stored[at])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A disk in memory.
    pub struct Ram(Vec<u8>);

    impl Disk for Ram {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let bytes = self
                .0
                .get(start..)
                .and_then(|rest| rest.get(..buffer.len()));
            buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    /// A disk of 64 sectors with partition 2 in sectors 40..=47, full of junk elsewhere.
    pub fn disk(sector: u32) -> (Ram, Geometry) {
        let geometry = Geometry {
            sector,
            sectors: 64,
        };
        let size = sector as usize;
        let mut bytes = vec![0x5a; size * 64];
        let mut entries = vec![0; 4 * 128];
        entries[128..144].fill(1);
        entries[144..160].copy_from_slice(&std::array::from_fn::<u8, 16, _>(|i| {
            u8::try_from(i).unwrap()
        }));
        entries[160..168].copy_from_slice(&40u64.to_le_bytes());
        entries[168..176].copy_from_slice(&47u64.to_le_bytes());
        for (lba, entries_lba) in [(1u64, 2u64), (63, 62)] {
            let mut header = vec![0; 92];
            header[..8].copy_from_slice(b"EFI PART");
            header[12..16].copy_from_slice(&92u32.to_le_bytes());
            header[24..32].copy_from_slice(&lba.to_le_bytes());
            header[72..80].copy_from_slice(&entries_lba.to_le_bytes());
            header[80..84].copy_from_slice(&4u32.to_le_bytes());
            header[84..88].copy_from_slice(&128u32.to_le_bytes());
            header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
            let crc = crc32(&header);
            header[16..20].copy_from_slice(&crc.to_le_bytes());
            let at = usize::try_from(lba).unwrap() * size;
            bytes[at..at + 92].copy_from_slice(&header);
            let at = usize::try_from(entries_lba).unwrap() * size;
            bytes[at..at + entries.len()].copy_from_slice(&entries);
        }
        (Ram(bytes), geometry)
    }

    /// What is on it.
    pub fn expected(sector: u64) -> Vec<Partition> {
        let id = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        vec![Partition {
            number: 2,
            id,
            start: 40 * sector,
            length: 8 * sector,
        }]
    }

    #[test]
    fn both_sector_sizes_are_read() {
        for sector in [512, 4096] {
            let (disk, geometry) = disk(sector);
            assert_eq!(read(&disk, geometry), Ok(expected(sector.into())));
        }
    }

    #[test]
    fn the_backup_serves_when_the_primary_is_broken() {
        for broken in [512, 512 + 20, 1024 + 130] {
            let (mut disk, geometry) = disk(512);
            disk.0[broken] ^= 1;
            assert_eq!(read(&disk, geometry), Ok(expected(512)), "byte {broken}");
            disk.0[63 * 512 + 17] ^= 1;
            assert!(read(&disk, geometry).is_err(), "byte {broken}");
        }
    }

    #[test]
    fn no_flipped_byte_of_both_headers_is_taken() {
        for at in 0..92 {
            let (mut disk, geometry) = disk(512);
            disk.0[512 + at] ^= 0x80;
            disk.0[63 * 512 + at] ^= 0x80;
            assert!(read(&disk, geometry).is_err(), "byte {at}");
        }
    }

    #[test]
    fn disks_without_a_table_say_so() {
        let (disk, _) = disk(512);
        let tiny = Geometry {
            sector: 512,
            sectors: 2,
        };
        assert!(read(&disk, tiny).is_err());
        let empty = Ram(vec![0; 64 * 512]);
        let geometry = Geometry {
            sector: 512,
            sectors: 64,
        };
        assert_eq!(read(&empty, geometry), Err("no partition table".into()));
        let longer = Geometry {
            sector: 512,
            sectors: u64::MAX,
        };
        assert!(read(&empty, longer).is_err());
    }
}
