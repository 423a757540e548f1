//! VHD, fixed or dynamic: Virtual PC, Hyper-V of generation 1, Azure (fixed).
//!
//! After Microsoft's "Virtual Hard Disk Image Format Specification"; numbers are big-endian.
//!
//! ```text
//! fixed      the disk | footer
//! dynamic    footer | dynamic header (1024) | block table | blocks: 512 bytes of bitmap and
//!            2 MiB of disk each, none for blocks of zeros | footer
//! ```
//!
//! A VHD has two sizes: the one in its footer, and what its geometry of cylinders, heads and
//! sectors multiplies to, which is mostly a little less. Which one holds depends on the program
//! named as creator; the name written here is one for which every reader takes the footer's, so
//! the size of the disk is exact. Azure wants it to be a whole number of MiB, as baker's disks
//! are.

use std::io::{Seek, SeekFrom, Write};

use super::{Conversion, ImageError, SECTOR, blocks};
use crate::io::{is_zero, write_sparse};

/// Bytes of disk in a block.
const BLOCK: u64 = 2 << 20;

/// Bytes of a block's bitmap: one bit for each of its 4096 sectors.
const BITMAP: usize = 512;

/// Bytes of the footer.
const FOOTER: usize = 512;

/// Bytes of the dynamic header.
const DYNAMIC_HEADER: usize = 1024;

/// Where the block table begins.
const TABLE: u64 = (FOOTER + DYNAMIC_HEADER) as u64;

/// Largest disk: 2040 GiB, where Hyper-V ends.
const LIMIT: u64 = 2040 << 30;

/// No further structure.
const NOTHING: u64 = u64::MAX;

/// A block that is not there, in the block table.
const ABSENT: u32 = u32::MAX;

/// 2000-01-01 00:00 UTC in Unix time, where VHD's time begins.
const FIRST_SECOND: i64 = 946_684_800;

/// The creator: readers know of this one that the size in the footer holds (`block/vpc.c` of
/// QEMU has the table).
const CREATOR: &[u8; 4] = b"qem2";

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// All of the disk, then the footer.
    Fixed,
    /// Blocks that are not zeros, found through a table.
    Dynamic,
}

/// What the image says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// Unique id, in the byte order of its text form.
    pub uuid: [u8; 16],
    /// When it was made: seconds since 1970-01-01 UTC.
    pub time: i64,
}

/// Writes the image into an empty output; gives its bytes. **Zeros of the disk are skipped over**,
/// as in a new file.
///
/// # Errors
/// See [`ImageError`].
pub fn write<W: Write + Seek>(
    conversion: &Conversion<'_>,
    variant: Variant,
    identity: Identity,
    out: &mut W,
) -> Result<u64, ImageError> {
    conversion.check("VHD", LIMIT)?;
    let footer = footer(conversion.size, variant, identity);
    let end = match variant {
        Variant::Fixed => fixed(conversion, out)?,
        Variant::Dynamic => dynamic(conversion, &footer, out)?,
    };
    put(out, end, &footer)?;
    out.flush().map_err(ImageError::Write)?;
    Ok(end + FOOTER as u64)
}

fn fixed<W: Write + Seek>(conversion: &Conversion<'_>, out: &mut W) -> Result<u64, ImageError> {
    each_block(conversion, |number, bytes| {
        write_sparse(bytes, out, number * BLOCK).map_err(ImageError::Write)?;
        Ok(())
    })?;
    Ok(conversion.size)
}

fn dynamic<W: Write + Seek>(
    conversion: &Conversion<'_>,
    footer: &[u8; FOOTER],
    out: &mut W,
) -> Result<u64, ImageError> {
    let mut table = Vec::new();
    let blocks = conversion.size.div_ceil(BLOCK);
    let data = (TABLE + blocks * 4).next_multiple_of(SECTOR);
    let mut next = data;
    each_block(conversion, |_, bytes| {
        if is_zero(bytes) {
            table.extend(ABSENT.to_be_bytes());
            return Ok(());
        }
        let sector = u32::try_from(next / SECTOR).expect("LIMIT has fewer sectors");
        table.extend(sector.to_be_bytes());
        // Every sector counts as written, those of zeros too: a reader may take a sector that
        // was not for one of a parent.
        put(out, next, &[u8::MAX; BITMAP])?;
        next += BITMAP as u64;
        write_sparse(bytes, out, next).map_err(ImageError::Write)?;
        next += BLOCK;
        Ok(())
    })?;
    while !(TABLE + table.len() as u64).is_multiple_of(SECTOR) {
        table.push(u8::MAX);
    }
    put(out, TABLE, &table)?;
    put(out, FOOTER as u64, &dynamic_header(blocks))?;
    put(out, 0, footer)?;
    Ok(next)
}

/// Gives every block of the disk with its number; the last one may be shorter.
fn each_block(
    conversion: &Conversion<'_>,
    mut work: impl FnMut(u64, &[u8]) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let mut buffer = Vec::new();
    for number in 0..conversion.size.div_ceil(BLOCK) {
        let start = number * BLOCK;
        blocks::read(conversion, start..start + BLOCK, &mut buffer)?;
        work(number, &buffer)?;
    }
    Ok(())
}

fn put<W: Write + Seek>(out: &mut W, offset: u64, bytes: &[u8]) -> Result<(), ImageError> {
    out.seek(SeekFrom::Start(offset))
        .and_then(|_| out.write_all(bytes))
        .map_err(ImageError::Write)
}

fn footer(size: u64, variant: Variant, identity: Identity) -> [u8; FOOTER] {
    let (offset, kind) = match variant {
        Variant::Fixed => (NOTHING, 2),
        Variant::Dynamic => (FOOTER as u64, 3),
    };
    let time = identity.time.saturating_sub(FIRST_SECOND);
    let time = u32::try_from(time.max(0)).unwrap_or(u32::MAX);
    let (cylinders, heads, sectors) = geometry(size);
    let mut fields = Fields::<FOOTER>::new(b"conectix");
    // Features: one reserved bit that is always set. Version 1.0.
    fields
        .put(&2_u32.to_be_bytes())
        .put(&0x1_0000_u32.to_be_bytes());
    fields.put(&offset.to_be_bytes()).put(&time.to_be_bytes());
    // Creator with its version, and the "host" Windows, which all writers name.
    fields
        .put(CREATOR)
        .put(&0x5_0003_u32.to_be_bytes())
        .put(b"Wi2k");
    // Original size and size.
    fields.put(&size.to_be_bytes()).put(&size.to_be_bytes());
    fields.put(&cylinders.to_be_bytes()).put(&[heads, sectors]);
    fields.put(&u32::to_be_bytes(kind));
    let checksum = fields.hole();
    fields.put(&identity.uuid);
    fields.summed(checksum)
}

fn dynamic_header(blocks: u64) -> [u8; DYNAMIC_HEADER] {
    let blocks = u32::try_from(blocks).expect("LIMIT has fewer blocks");
    let block = u32::try_from(BLOCK).expect("a block is 2 MiB");
    let mut fields = Fields::<DYNAMIC_HEADER>::new(b"cxsparse");
    fields.put(&NOTHING.to_be_bytes()).put(&TABLE.to_be_bytes());
    fields.put(&0x1_0000_u32.to_be_bytes());
    fields.put(&blocks.to_be_bytes()).put(&block.to_be_bytes());
    let checksum = fields.hole();
    fields.summed(checksum)
}

/// A header of fields one behind the other; zeros behind the last.
struct Fields<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Fields<N> {
    fn new(magic: &[u8; 8]) -> Self {
        let mut fields = Self {
            bytes: [0; N],
            length: 0,
        };
        fields.put(magic);
        fields
    }

    fn put(&mut self, field: &[u8]) -> &mut Self {
        self.bytes[self.length..self.length + field.len()].copy_from_slice(field);
        self.length += field.len();
        self
    }

    /// Leaves room for the checksum; gives where.
    fn hole(&mut self) -> usize {
        self.length += 4;
        self.length - 4
    }

    /// The bytes with their checksum: the complement of the sum of all others.
    fn summed(mut self, checksum: usize) -> [u8; N] {
        let sum: u32 = self.bytes.iter().map(|byte| u32::from(*byte)).sum();
        self.bytes[checksum..checksum + 4].copy_from_slice(&(!sum).to_be_bytes());
        self.bytes
    }
}

/// Cylinders, heads and sectors of a track, by the appendix "CHS Calculation".
fn geometry(size: u64) -> (u16, u8, u8) {
    /// What 65535 cylinders of 16 heads and 255 sectors hold.
    const MOST: u64 = 65_535 * 16 * 255;
    let total = (size / SECTOR).min(MOST);
    let (heads, track) = if total >= 65_535 * 16 * 63 {
        (16, 255)
    } else {
        // The first that has at most 1024 cylinders for each head; 63 sectors when none has.
        let heads = (total / 17).div_ceil(1024).max(4);
        if heads <= 16 && total / 17 < heads * 1024 {
            (heads, 17)
        } else if total / 31 < 16 * 1024 {
            (16, 31)
        } else {
            (16, 63)
        }
    };
    let cylinders = u16::try_from(total / track / heads).unwrap_or(u16::MAX);
    let byte = |number| u8::try_from(number).unwrap_or(u8::MAX);
    (cylinders, byte(heads), byte(track))
}
