//! GUID partition tables.
//!
//! Takes a [`Layout`] and an output that has the layout's size; gives protective MBR, primary and
//! backup table. Reads a table back into a [`Layout`]. Never chooses an id, a place or an order:
//! all comes from the layout.
//!
//! The `gpt` crate does the bytes; its types stop in this module. It renumbers entries without
//! gaps, so entry 1 is the layout's first partition. Its calls that invent random ids are not
//! used.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use baker_model::layout::{Layout, Partition, Role, SECTOR, partition_type};
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::Type;
use uuid::Uuid;

/// Sectors in front of the first and behind the last partition: MBR, header, 128 entries.
const TABLE_SECTORS: u64 = 34;

/// Longest partition name in UTF-16 units.
const NAME_UNITS: usize = 36;

/// Entries of the table.
const ENTRIES: usize = 128;

/// More entries than any disk that this program reads has.
const ENTRIES_LIMIT: u32 = 1024;

/// A table cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// A partition cannot be as the layout says.
    #[error("partition `{name}` cannot be written: {problem}")]
    Partition {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The disk cannot be as the layout says.
    #[error("the disk layout cannot be written: {problem}")]
    Layout {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The table could not be written.
    #[error("cannot write the partition table")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bytes hold no sound table.
    #[error("cannot read the partition table")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Writes the table of `layout`; bytes of partitions are not touched.
///
/// # Errors
/// The layout contradicts itself or the size of `out`, or `out` fails.
pub fn write(layout: &Layout, out: &mut (impl Read + Write + Seek)) -> Result<(), GptError> {
    check(layout)?;
    let size = out.seek(SeekFrom::End(0)).map_err(failed_write)?;
    if size != layout.size {
        return Err(GptError::Layout {
            problem: "the output has another size",
        });
    }
    let mut partitions = BTreeMap::new();
    for (number, partition) in (1..).zip(&layout.partitions) {
        partitions.insert(number, entry(partition)?);
    }
    let mut device = Device(out);
    // The MBR's entry has 32 bits for the number of sectors; larger disks get the largest number.
    let sectors = u32::try_from(layout.size / SECTOR - 1).unwrap_or(u32::MAX);
    let mbr = ProtectiveMBR::with_lb_size(sectors);
    mbr.overwrite_lba0(&mut device)
        .map_err(|error| failed_write(Box::new(error)))?;
    let config = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512);
    let guid = Uuid::from_bytes(layout.disk_uuid);
    let mut disk = config
        .create_from_device(device, Some(guid))
        .map_err(|error| failed_write(Box::new(error)))?;
    disk.update_partitions(partitions)
        .map_err(|error| failed_write(Box::new(error)))?;
    disk.write()
        .map(drop)
        .map_err(|error| failed_write(Box::new(error)))
}

/// Reads the table of a disk; the primary one, or the backup when that is damaged.
///
/// Partitions of types that baker does not know are [`Role::Data`].
///
/// # Errors
/// [`GptError::Read`].
pub fn read(input: &mut (impl Read + Seek)) -> Result<Layout, GptError> {
    let size = input
        .seek(SeekFrom::End(0))
        .map_err(|error| GptError::Read(Box::new(error)))?;
    check_headers(input, size)?;
    let disk = gpt::GptConfig::new()
        .logical_block_size(LogicalBlockSize::Lb512)
        .open_from_device(Device(ReadOnly(input)))
        .map_err(|error| GptError::Read(Box::new(error)))?;
    let mut partitions = Vec::new();
    for partition in disk
        .partitions()
        .values()
        .filter(|partition| partition.is_used())
    {
        partitions.push(from_entry(partition)?);
    }
    partitions.sort_by_key(|partition| partition.offset);
    Ok(Layout {
        disk_uuid: disk.guid().into_bytes(),
        size,
        partitions,
    })
}

/// Refuses what the crate would panic on or take memory without limit for.
fn check_headers(input: &mut (impl Read + Seek), size: u64) -> Result<(), GptError> {
    // Primary header, and its copy in the last sector.
    for lba in [1, (size / SECTOR).saturating_sub(1)] {
        let mut header = [0; 88];
        let read = input.seek(SeekFrom::Start(lba * SECTOR));
        if read.and_then(|_| input.read_exact(&mut header)).is_err() {
            // Too small for one: the crate says so.
            continue;
        }
        let field = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (entries, entry_size) = (field(80), field(84));
        if header.starts_with(b"EFI PART") && (entries > ENTRIES_LIMIT || entry_size != 128) {
            let problem = format!("{entries} entries of {entry_size} bytes are not supported");
            return Err(GptError::Read(problem.into()));
        }
    }
    Ok(())
}

fn failed_write(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> GptError {
    GptError::Write(error.into())
}

/// Everything that the crate would write without complaint.
fn check(layout: &Layout) -> Result<(), GptError> {
    if !layout.size.is_multiple_of(SECTOR) || layout.size / SECTOR <= 2 * TABLE_SECTORS {
        return Err(GptError::Layout {
            problem: "its size is no number of sectors, or too small",
        });
    }
    if layout.partitions.len() > ENTRIES {
        return Err(GptError::Layout {
            problem: "it has more than 128 partitions",
        });
    }
    let mut free = TABLE_SECTORS * SECTOR;
    let limit = layout.size - (TABLE_SECTORS - 1) * SECTOR;
    for partition in &layout.partitions {
        let name = &partition.name;
        let refuse = |problem| {
            Err(GptError::Partition {
                name: name.clone(),
                problem,
            })
        };
        let end = partition.offset.checked_add(partition.size);
        if partition.size == 0
            || !partition.size.is_multiple_of(SECTOR)
            || !partition.offset.is_multiple_of(SECTOR)
        {
            return refuse("it is empty or does not lie on sectors");
        }
        if partition.offset < free {
            return refuse("it overlaps the one before it or the table");
        }
        let Some(end) = end.filter(|&end| end <= limit) else {
            return refuse("it ends behind the last usable sector");
        };
        if name.encode_utf16().count() > NAME_UNITS {
            return refuse("its name is longer than 36 UTF-16 units");
        }
        free = end;
    }
    Ok(())
}

fn entry(partition: &Partition) -> Result<gpt::partition::Partition, GptError> {
    let type_uuid = Uuid::parse_str(&partition.type_uuid)
        .ok()
        .filter(|uuid| !uuid.is_nil());
    let Some(type_uuid) = type_uuid else {
        let (name, problem) = (partition.name.clone(), "its type is no UUID");
        return Err(GptError::Partition { name, problem });
    };
    let first_lba = partition.offset / SECTOR;
    Ok(gpt::partition::Partition {
        part_type_guid: Type::from(type_uuid),
        part_guid: Uuid::from_bytes(partition.uuid),
        first_lba,
        last_lba: first_lba + partition.size / SECTOR - 1,
        flags: partition.attributes,
        name: partition.name.clone(),
    })
}

fn from_entry(entry: &gpt::partition::Partition) -> Result<Partition, GptError> {
    let type_uuid = entry.part_type_guid.guid.to_string();
    let role = match &*type_uuid {
        partition_type::ESP => Role::Esp,
        partition_type::ROOT_X86_64 | partition_type::ROOT_AARCH64 => Role::Root,
        partition_type::ROOT_VERITY_X86_64 | partition_type::ROOT_VERITY_AARCH64 => {
            Role::RootVerity
        }
        _ => Role::Data,
    };
    let sectors = entry
        .last_lba
        .checked_sub(entry.first_lba)
        .and_then(|last| last.checked_add(1));
    let size = sectors.and_then(|sectors| sectors.checked_mul(SECTOR));
    let offset = entry.first_lba.checked_mul(SECTOR);
    let (Some(offset), Some(size)) = (offset, size) else {
        return Err(GptError::Read("a partition ends before it begins".into()));
    };
    Ok(Partition {
        role,
        name: entry.name.clone(),
        type_uuid,
        uuid: entry.part_guid.into_bytes(),
        offset,
        size,
        attributes: entry.flags,
    })
}

/// The crate wants `Debug` of its device; this one shows nothing of it.
struct Device<D>(D);

impl<D> fmt::Debug for Device<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Device")
    }
}

impl<D: Read> Read for Device<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<D: Write> Write for Device<D> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<D: Seek> Seek for Device<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

/// A device that cannot be written; the crate asks for `Write` to read, too.
struct ReadOnly<D>(D);

impl<D: Read> Read for ReadOnly<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<D> Write for ReadOnly<D> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<D: Seek> Seek for ReadOnly<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[cfg(test)]
mod tests;
