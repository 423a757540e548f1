//! qcow2 version 3, compressed.
//!
//! After QEMU's `docs/interop/qcow2.txt`; all numbers are big-endian.
//!
//! ```text
//! cluster 0   header (112 bytes)
//! 1 ...       packed clusters, one behind the other at any byte; clusters that do not shrink at
//!             cluster boundaries; behind those of each 512 MiB of disk their L2 table
//! then        L1 table
//!             refcount table
//!             refcount blocks: 16 bits for each cluster of the file
//! ```
//!
//! The header is written last: a torn file is no qcow2 image.

use std::io::{Seek, SeekFrom, Write};

use super::{Conversion, DEFLATE_LEVEL, ImageError, blocks};

/// `log2` of the bytes of a cluster; QEMU's default.
const CLUSTER_BITS: u32 = 16;

/// Bytes of a cluster.
const CLUSTER: u64 = 1 << CLUSTER_BITS;

/// Entries of an L2 table, which is one cluster of 8-byte entries.
const L2_ENTRIES: u64 = CLUSTER / 8;

/// Refcounts in a refcount block.
const REFCOUNTS: u64 = CLUSTER / 2;

/// Largest disk: what QEMU allows of L1 tables (32 MiB) points at.
const LIMIT: u64 = (32 << 20) / 8 * L2_ENTRIES * CLUSTER;

/// Bytes of the header with all fields of version 3.
const HEADER: u32 = 112;

/// A cluster is kept packed when that saves at least this many bytes: unpacked ones are faster to
/// read, and a root file system that is compressed itself does not shrink.
const WORTH: usize = 4096;

/// Level of Zstandard.
const ZSTD_LEVEL: i32 = 9;

/// Bit of an L2 entry: the cluster is packed.
const PACKED: u64 = 1 << 62;

/// Bit of an L1 or L2 entry: the refcount of what it points at is exactly 1.
const SINGLE: u64 = 1 << 63;

/// Place of the number of further sectors in the L2 entry of a packed cluster.
const SECTORS_SHIFT: u32 = 62 - (CLUSTER_BITS - 8);

/// Bit of the incompatible features: packed with something other than Deflate.
const COMPRESSION_TYPE: u64 = 1 << 3;

/// How clusters are packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Deflate, which every reader of qcow2 knows.
    #[default]
    Zlib,
    /// Zstandard: smaller and faster, for QEMU 5.1 and newer.
    Zstd,
}

/// Writes the image; gives its bytes.
///
/// # Errors
/// See [`ImageError`].
pub fn write<W: Write + Seek>(
    conversion: &Conversion<'_>,
    compression: Compression,
    out: &mut W,
) -> Result<u64, ImageError> {
    conversion.check("qcow2", LIMIT)?;
    let mut image = Image::new(out, conversion.size);
    let work = |bytes: &[u8], offset| pack(bytes, offset, compression);
    blocks::pack(conversion, index(CLUSTER), work, |number, packed| {
        image.add(number, &packed)
    })?;
    image.finish(compression)
}

/// A cluster as it goes into the file.
enum Packed {
    Whole(Vec<u8>),
    Small(Vec<u8>),
}

fn pack(bytes: &[u8], offset: u64, compression: Compression) -> Result<Packed, ImageError> {
    let small = match compression {
        Compression::Zlib => miniz_oxide::deflate::compress_to_vec(bytes, DEFLATE_LEVEL),
        Compression::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL)
            .map_err(|source| ImageError::Compress { offset, source })?,
    };
    Ok(if small.len() + WORTH <= bytes.len() {
        Packed::Small(small)
    } else {
        Packed::Whole(bytes.to_vec())
    })
}

/// The image so far.
struct Image<'a, W> {
    out: &'a mut W,
    size: u64,
    /// For each cluster of the file the number of things in it.
    refcounts: Vec<u16>,
    /// Where the next packed cluster may go: room up to the end of a file cluster.
    room: std::ops::Range<u64>,
    l1: Vec<u64>,
    /// The L2 table that is being filled, and its place in the L1 table.
    l2: Option<(usize, Vec<u64>)>,
}

impl<'a, W: Write + Seek> Image<'a, W> {
    fn new(out: &'a mut W, size: u64) -> Self {
        let tables = size.div_ceil(L2_ENTRIES * CLUSTER);
        Self {
            out,
            size,
            // The header.
            refcounts: vec![1],
            room: 0..0,
            l1: vec![0; usize::try_from(tables).expect("the size was checked against LIMIT")],
            l2: None,
        }
    }

    /// Adds the cluster `number` of the disk; numbers only rise.
    fn add(&mut self, number: u64, packed: &Packed) -> Result<(), ImageError> {
        let (table, entry) = (number / L2_ENTRIES, number % L2_ENTRIES);
        let (table, entry) = (index(table), index(entry));
        if self.l2.as_ref().is_some_and(|(at, _)| *at != table) {
            self.finish_l2()?;
        }
        let value = match packed {
            Packed::Whole(bytes) => {
                let offset = self.clusters(1, 1);
                self.put(offset, bytes)?;
                offset | SINGLE
            }
            Packed::Small(bytes) => self.add_small(bytes)?,
        };
        let fresh = || (table, vec![0; index(L2_ENTRIES)]);
        self.l2.get_or_insert_with(fresh).1[entry] = value;
        Ok(())
    }

    /// Puts a packed cluster behind the last one, or into new clusters when it must not be torn.
    fn add_small(&mut self, bytes: &[u8]) -> Result<u64, ImageError> {
        let length = bytes.len() as u64;
        if length > self.room.end - self.room.start {
            let end = self.end();
            if self.room.end != end {
                self.room = end..end;
            }
            let more = length - (self.room.end - self.room.start);
            self.clusters(more.div_ceil(CLUSTER), 0);
            self.room.end = self.end();
        }
        let offset = self.room.start;
        let last = offset + length - 1;
        self.put(offset, bytes)?;
        self.room.start += length;
        for cluster in offset / CLUSTER..=last / CLUSTER {
            self.refcounts[index(cluster)] += 1;
        }
        let sectors = last / super::SECTOR - offset / super::SECTOR;
        Ok(PACKED | (sectors << SECTORS_SHIFT) | offset)
    }

    fn finish_l2(&mut self) -> Result<(), ImageError> {
        if let Some((at, entries)) = self.l2.take() {
            let offset = self.clusters(1, 1);
            self.put(offset, &numbers(&entries))?;
            self.l1[at] = offset | SINGLE;
        }
        Ok(())
    }

    fn finish(mut self, compression: Compression) -> Result<u64, ImageError> {
        self.finish_l2()?;
        let l1_entries = self.l1.len() as u64;
        let l1 = numbers(&std::mem::take(&mut self.l1));
        let l1_offset = self.clusters((l1.len() as u64).div_ceil(CLUSTER), 1);
        self.put(l1_offset, &l1)?;
        // The refcounts count themselves: more of them until there are enough for all.
        let used = self.refcounts.len() as u64;
        let (mut blocks, mut tables) = (0, 0);
        while used + blocks + tables > blocks * REFCOUNTS || blocks > tables * L2_ENTRIES {
            blocks = (used + blocks + tables).div_ceil(REFCOUNTS);
            tables = blocks.div_ceil(L2_ENTRIES);
        }
        let table_offset = self.clusters(tables, 1);
        let first = self.clusters(blocks, 1);
        let table: Vec<u64> = (0..blocks).map(|at| first + at * CLUSTER).collect();
        self.put(table_offset, &numbers(&table))?;
        self.refcounts.resize(index(blocks * REFCOUNTS), 0);
        let refcounts: Vec<u8> = self
            .refcounts
            .iter()
            .flat_map(|count| count.to_be_bytes())
            .collect();
        self.put(first, &refcounts)?;
        let header = Header {
            size: self.size,
            l1_entries,
            l1_offset,
            table_offset,
            tables,
            compression,
        };
        self.put(0, &header.bytes())?;
        self.out.flush().map_err(ImageError::Write)?;
        Ok(first + blocks * CLUSTER)
    }

    /// Where the file ends.
    fn end(&self) -> u64 {
        self.refcounts.len() as u64 * CLUSTER
    }

    /// Takes `count` clusters at the end of the file; gives where they begin.
    fn clusters(&mut self, count: u64, refcount: u16) -> u64 {
        let start = self.end();
        let count = self.refcounts.len() + index(count);
        self.refcounts.resize(count, refcount);
        start
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ImageError> {
        self.out
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.out.write_all(bytes))
            .map_err(ImageError::Write)
    }
}

/// An index into a table that is in memory.
fn index(number: u64) -> usize {
    usize::try_from(number).expect("tables in memory have indices of this machine")
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(index(CLUSTER)), 0);
    bytes
}

struct Header {
    size: u64,
    l1_entries: u64,
    l1_offset: u64,
    table_offset: u64,
    tables: u64,
    compression: Compression,
}

impl Header {
    fn bytes(&self) -> Vec<u8> {
        let (features, kind) = match self.compression {
            Compression::Zlib => (0, 0),
            Compression::Zstd => (COMPRESSION_TYPE, 1),
        };
        let short = |number| u32::try_from(number).expect("the size was checked against LIMIT");
        let mut bytes = b"QFI\xfb".to_vec();
        let mut word = |number: u32| bytes.extend(number.to_be_bytes());
        word(3);
        // No backing file: offset (8 bytes) and length.
        (0..3).for_each(|_| word(0));
        word(CLUSTER_BITS);
        let mut long = |number: u64| bytes.extend(number.to_be_bytes());
        long(self.size);
        // No encryption in the upper half.
        long(short(self.l1_entries).into());
        long(self.l1_offset);
        long(self.table_offset);
        // No snapshots: their number in the lower half, then their offset.
        long(u64::from(short(self.tables)) << 32);
        long(0);
        // Incompatible, compatible and autoclear features.
        long(features);
        long(0);
        long(0);
        // log2 of the bits of a refcount, and the length of this.
        long((4 << 32) | u64::from(HEADER));
        long(kind << 56);
        // The end of the header's extensions, of which there are none.
        long(0);
        bytes.resize(index(CLUSTER), 0);
        bytes
    }
}
