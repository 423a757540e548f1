//! VMDK, "stream-optimised": the compressed sparse extent that OVF packages carry.
//!
//! After VMware's "Virtual Disk Format 5.0"; numbers are little-endian, offsets count sectors.
//!
//! ```text
//! sector 0    header; its grain directory is "at the end"
//! 1 .. 21     descriptor, text
//! 128 ...     for each 32 MiB that are not all zeros: packed grains of 64 KiB, each behind its
//!             number; marker, grain table (512 sector numbers)
//! then        marker, grain directory
//!             marker, footer = header with the directory's place
//!             marker: end of the stream
//! ```

use std::io::Write;

use super::{Conversion, DEFLATE_LEVEL, ImageError, SECTOR, blocks};

/// Sectors of a grain.
const GRAIN: u64 = 128;

/// Grains of a table.
const TABLE: u64 = TABLE_ENTRIES as u64;
const TABLE_ENTRIES: u32 = 512;

/// Sectors of the descriptor.
const DESCRIPTOR: u64 = 20;

/// Where grains begin, in sectors.
const OVERHEAD: u64 = 128;

/// Largest disk: 2 TiB, as places in the file have 32 bits.
const LIMIT: u64 = 1 << 41;

/// Valid newlines, packed grains, markers.
const FLAGS: u32 = 1 | 1 << 16 | 1 << 17;

/// The place of a grain directory that the footer tells.
const AT_END: u64 = u64::MAX;

/// Heads and sectors of the geometry that SCSI adapters make up.
const HEADS: u64 = 255;
const TRACK: u64 = 63;

/// What a metadata marker announces.
#[derive(Clone, Copy)]
enum Marker {
    EndOfStream = 0,
    Table = 1,
    Directory = 2,
    Footer = 3,
}

/// What the image says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The name that the descriptor gives the file; readers of one-file images look past it.
    pub name: &'a str,
    /// Content id: changes when the content does.
    pub content: u32,
}

/// Writes the image; gives its bytes. Never seeks.
///
/// # Errors
/// See [`ImageError`].
pub fn write<W: Write>(
    conversion: &Conversion<'_>,
    identity: Identity<'_>,
    out: &mut W,
) -> Result<u64, ImageError> {
    conversion.check("VMDK", LIMIT)?;
    let capacity = (conversion.size / SECTOR).next_multiple_of(GRAIN);
    let tables = capacity.div_ceil(GRAIN * TABLE);
    let mut stream = Stream {
        out,
        sector: 0,
        directory: vec![0; index(tables)],
        table: None,
    };
    stream.put(&header(capacity, AT_END))?;
    stream.put(&descriptor(capacity, identity))?;
    stream.fill_to(OVERHEAD)?;
    let work = |bytes: &[u8], _| {
        Ok(miniz_oxide::deflate::compress_to_vec_zlib(
            bytes,
            DEFLATE_LEVEL,
        ))
    };
    blocks::pack(
        conversion,
        index(GRAIN * SECTOR),
        work,
        |number, packed: Vec<u8>| stream.grain(number, &packed),
    )?;
    stream.finish(capacity)
}

struct Stream<'a, W> {
    out: &'a mut W,
    /// Sectors written.
    sector: u64,
    directory: Vec<u32>,
    /// The table that is being filled, and its place in the directory.
    table: Option<(usize, Vec<u32>)>,
}

impl<W: Write> Stream<'_, W> {
    fn grain(&mut self, number: u64, packed: &[u8]) -> Result<(), ImageError> {
        let (table, entry) = (index(number / TABLE), index(number % TABLE));
        if self.table.as_ref().is_some_and(|(at, _)| *at != table) {
            self.finish_table()?;
        }
        let place = self.place()?;
        let fresh = || (table, vec![0; index(TABLE)]);
        self.table.get_or_insert_with(fresh).1[entry] = place;
        let length = u32::try_from(packed.len()).map_err(|_| ImageError::Worker)?;
        let mut bytes = (number * GRAIN).to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend_from_slice(packed);
        self.put(&bytes)
    }

    fn finish_table(&mut self) -> Result<(), ImageError> {
        if let Some((at, entries)) = self.table.take() {
            self.directory[at] = self.announced(Marker::Table, &numbers(&entries))?;
        }
        Ok(())
    }

    fn finish(mut self, capacity: u64) -> Result<u64, ImageError> {
        self.finish_table()?;
        let directory = numbers(&std::mem::take(&mut self.directory));
        let place = self.announced(Marker::Directory, &directory)?;
        self.announced(Marker::Footer, &header(capacity, place.into()))?;
        self.announced(Marker::EndOfStream, &[])?;
        self.out.flush().map_err(ImageError::Write)?;
        Ok(self.sector * SECTOR)
    }

    /// Writes a marker and what it announces; gives where that begins.
    fn announced(&mut self, marker: Marker, bytes: &[u8]) -> Result<u32, ImageError> {
        let sectors = (bytes.len() as u64).div_ceil(SECTOR);
        let mut head = sectors.to_le_bytes().to_vec();
        // A size of 0 tells a marker from a grain.
        head.extend(0_u32.to_le_bytes());
        head.extend((marker as u32).to_le_bytes());
        self.put(&head)?;
        let place = self.place()?;
        self.put(bytes)?;
        Ok(place)
    }

    /// The next sector, as tables have it.
    fn place(&self) -> Result<u32, ImageError> {
        u32::try_from(self.sector).map_err(|_| ImageError::TooLarge {
            format: "VMDK",
            size: self.sector * SECTOR,
            limit: u64::from(u32::MAX) * SECTOR,
        })
    }

    /// Writes bytes and fills up the last sector.
    fn put(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let sectors = (bytes.len() as u64).div_ceil(SECTOR);
        let rest = index(sectors * SECTOR) - bytes.len();
        self.out
            .write_all(bytes)
            .and_then(|()| self.out.write_all(&vec![0; rest]))
            .map_err(ImageError::Write)?;
        self.sector += sectors;
        Ok(())
    }

    fn fill_to(&mut self, sector: u64) -> Result<(), ImageError> {
        let sectors = sector.saturating_sub(self.sector);
        self.put(&vec![0; index(sectors * SECTOR)])
    }
}

/// `SparseExtentHeader`.
fn header(capacity: u64, directory: u64) -> Vec<u8> {
    let mut bytes = b"KDMV".to_vec();
    let word = |bytes: &mut Vec<u8>, number: u32| bytes.extend(number.to_le_bytes());
    let long = |bytes: &mut Vec<u8>, number: u64| bytes.extend(number.to_le_bytes());
    // Version 3 is the one of packed grains.
    word(&mut bytes, 3);
    word(&mut bytes, FLAGS);
    long(&mut bytes, capacity);
    long(&mut bytes, GRAIN);
    // Offset and sectors of the descriptor.
    long(&mut bytes, 1);
    long(&mut bytes, DESCRIPTOR);
    word(&mut bytes, TABLE_ENTRIES);
    // No redundant directory.
    long(&mut bytes, 0);
    long(&mut bytes, directory);
    long(&mut bytes, OVERHEAD);
    // Shut down cleanly; then the newlines that show whether a transfer has changed them.
    bytes.extend(b"\0\n \r\n");
    // Packed with Deflate.
    bytes.extend(1_u16.to_le_bytes());
    bytes.resize(index(SECTOR), 0);
    bytes
}

fn descriptor(capacity: u64, identity: Identity<'_>) -> Vec<u8> {
    // The two highest numbers mean "no parent" and "unknown".
    let content = identity.content.min(u32::MAX - 2);
    let cylinders = (capacity / (HEADS * TRACK)).clamp(1, 65_535);
    let Identity { name, .. } = identity;
    let text = format!(
        "# Disk DescriptorFile\n\
         version=1\n\
         CID={content:08x}\n\
         parentCID=ffffffff\n\
         createType=\"streamOptimized\"\n\
         \n\
         # Extent description\n\
         RW {capacity} SPARSE \"{name}\"\n\
         \n\
         # The Disk Data Base\n\
         #DDB\n\
         \n\
         ddb.virtualHWVersion = \"4\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{HEADS}\"\n\
         ddb.geometry.sectors = \"{TRACK}\"\n\
         ddb.adapterType = \"lsilogic\"\n"
    );
    let mut bytes = text.into_bytes();
    bytes.resize(index(DESCRIPTOR * SECTOR), 0);
    bytes
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// A length or index of something in memory.
fn index(number: u64) -> usize {
    usize::try_from(number).expect("what is in memory has indices of this machine")
}
