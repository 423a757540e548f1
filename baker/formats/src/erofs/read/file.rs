//! The data of one inode: from a byte of the file to bytes of the image.

use std::io;
use std::ops::Range;

use super::super::error::ReadError;
use super::super::format::{ALGORITHM_LZ4, ALGORITHM_ZSTD, BLOCK, DataLayout, HOLE, Inode, u16_at};
use super::super::index::{self, Encoding, Head};
use super::super::lz4;
use super::image::Image;

/// The most bytes one extent may unpack to, `Z_EROFS_PCLUSTER_MAX_DSIZE` of the kernel.
const UNPACKED_LIMIT: u64 = 12 << 20;

/// The extent unpacked last.
#[derive(Default)]
pub struct Window {
    start: u64,
    bytes: Vec<u8>,
}

/// What a range that belongs to an inode holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Blocks of data.
    Data,
    /// The end of the data, beside the inode.
    Tail,
    /// Cluster index or chunk table.
    Index,
}

/// Where the data of an inode lies.
pub struct FileMap {
    size: u64,
    place: Place,
}

enum Place {
    Flat {
        start: u64,
        inline_from: u64,
        inline_at: u64,
    },
    Chunked {
        bits: u32,
        starts: Vec<u32>,
        table: u64,
    },
    Packed {
        heads: Vec<Head>,
        algorithm: u8,
        tail: Option<(u64, u32)>,
        index: Range<u64>,
    },
}

impl FileMap {
    /// Reads the index of an inode.
    pub fn open(image: &Image<'_>, nid: u64) -> Result<Self, ReadError> {
        let (inode, offset, head) = image.sized_inode(nid)?;
        let blocks = u64::from(image.super_block().blocks);
        let damaged = |what| ReadError::Damaged {
            offset,
            what,
            found: inode.size,
            expected: format!("what fits into an image of {blocks} blocks"),
        };
        let place = match inode.layout {
            DataLayout::Plain | DataLayout::Inline => {
                let block = BLOCK as u64;
                let inline_from = match inode.layout {
                    DataLayout::Inline => inode.size / block * block,
                    _ => u64::MAX,
                };
                let start = u64::from(inode.union) * block;
                Place::Flat {
                    start,
                    inline_from,
                    inline_at: offset + head as u64,
                }
            }
            DataLayout::Chunked => {
                let bits = inode.union & 0x1f;
                let chunks = inode.size.div_ceil((BLOCK as u64) << bits);
                // Four bytes per chunk must lie inside of the image: no absurd allocation.
                if inode.union != bits || chunks > blocks * BLOCK as u64 / 4 {
                    return Err(damaged("a chunk table"));
                }
                let table = usize::try_from(chunks * 4).map_err(|_| damaged("a chunk table"))?;
                let mut bytes = vec![0; table];
                image.bytes(offset + head as u64, &mut bytes)?;
                let word = |c: &[u8]| u32::from_le_bytes([c[0], c[1], c[2], c[3]]);
                Place::Chunked {
                    bits,
                    starts: bytes.chunks_exact(4).map(word).collect(),
                    table: offset + head as u64,
                }
            }
            DataLayout::Compact => Self::packed(image, &inode, offset, head)
                .and_then(|place| place.ok_or_else(|| damaged("a cluster index")))?,
        };
        Ok(Self {
            size: inode.size,
            place,
        })
    }

    fn packed(
        image: &Image<'_>,
        inode: &Inode,
        offset: u64,
        head: usize,
    ) -> Result<Option<Place>, ReadError> {
        let head = head.next_multiple_of(8);
        let at = offset + head as u64;
        let mut header = [0; index::HEADER];
        image.bytes(at, &mut header)?;
        let clusters = inode.size.div_ceil(BLOCK as u64);
        let end = u64::from(image.super_block().blocks) * BLOCK as u64;
        // At least two bytes per cluster; a pack is 32 bytes at most.
        if header[7] != 0 || clusters > end / 2 {
            return Ok(None);
        }
        let at = at + index::HEADER as u64;
        let room = (clusters * 4 + 32).min(end.saturating_sub(at));
        let mut packs = vec![0; usize::try_from(room).unwrap_or(0)];
        image.bytes(at, &mut packs)?;
        let Some((heads, used)) = index::decode(head, &packs, inode.size) else {
            return Ok(None);
        };
        if heads.first().is_none_or(|first| first.start != 0) {
            return Ok(None);
        }
        let tail_size = u32::from(u16_at(&header, 2));
        let tail = (tail_size > 0).then_some((at + used as u64, tail_size));
        Ok(Some(Place::Packed {
            heads,
            algorithm: header[6] & 0xf,
            tail,
            index: at - index::HEADER as u64..at + used as u64,
        }))
    }

    /// Where index and data lie in the image.
    pub fn spans(&self) -> Vec<(Span, Range<u64>)> {
        let block = BLOCK as u64;
        match &self.place {
            Place::Flat {
                start,
                inline_from,
                inline_at,
            } => {
                let whole = self.size.min(*inline_from);
                let end = start.saturating_add(whole.next_multiple_of(block));
                let tail = inline_at.saturating_add(self.size - whole);
                vec![(Span::Data, *start..end), (Span::Tail, *inline_at..tail)]
            }
            Place::Chunked {
                bits,
                starts,
                table,
            } => {
                let mut spans = vec![(Span::Index, *table..table + 4 * starts.len() as u64)];
                let chunk = block << bits;
                for (at, start) in (0..self.size).step_by(chunk_step(chunk)).zip(starts) {
                    let length = (self.size - at).min(chunk).next_multiple_of(block);
                    let from = u64::from(*start) * block;
                    if *start != HOLE {
                        spans.push((Span::Data, from..from + length));
                    }
                }
                spans
            }
            Place::Packed {
                heads, tail, index, ..
            } => {
                let mut spans = vec![(Span::Index, index.clone())];
                let inline = usize::from(tail.is_some()).min(heads.len());
                for head in &heads[..heads.len() - inline] {
                    let from = u64::from(head.block) * block;
                    spans.push((Span::Data, from..from + u64::from(head.blocks) * block));
                }
                let tail = tail.map(|(at, size)| (Span::Tail, at..at + u64::from(size)));
                spans.extend(tail);
                spans
            }
        }
    }

    /// The layout in words, for the dump.
    pub fn describe(&self) -> String {
        match &self.place {
            Place::Flat {
                inline_from: u64::MAX,
                ..
            } => "plain".to_owned(),
            Place::Flat { .. } => "inline".to_owned(),
            Place::Chunked { bits, starts, .. } => {
                let holes = starts.iter().filter(|start| **start == HOLE).count();
                format!(
                    "chunks of {} KiB, {holes} of {} holes",
                    4 << bits,
                    starts.len()
                )
            }
            Place::Packed { heads, tail, .. } => {
                let inline = usize::from(tail.is_some());
                let kept = &heads[..heads.len() - inline.min(heads.len())];
                let blocks: u32 = kept.iter().map(|head| head.blocks).sum();
                let plain = kept
                    .iter()
                    .filter(|head| head.encoding == Encoding::Plain)
                    .count();
                let tail = tail.map_or(0, |(_, size)| size);
                format!("packed into {blocks} blocks ({plain} plain) and a tail of {tail} bytes")
            }
        }
    }

    /// Fills `buffer` from byte `offset` of the file; bytes past its end are an error.
    pub fn read(
        &self,
        image: &Image<'_>,
        window: &mut Window,
        mut offset: u64,
        mut buffer: &mut [u8],
    ) -> Result<(), ReadError> {
        while !buffer.is_empty() {
            if offset >= self.size {
                let source = io::ErrorKind::UnexpectedEof.into();
                return Err(ReadError::Image { offset, source });
            }
            let done = match &self.place {
                Place::Flat {
                    start,
                    inline_from,
                    inline_at,
                } => {
                    let before =
                        usize::try_from(inline_from.saturating_sub(offset)).unwrap_or(usize::MAX);
                    let (at, length) = if before == 0 {
                        (inline_at + (offset - inline_from), buffer.len())
                    } else {
                        (start.saturating_add(offset), buffer.len().min(before))
                    };
                    image.bytes(at, &mut buffer[..length])?;
                    length
                }
                Place::Chunked { bits, starts, .. } => {
                    read_chunk(image, *bits, starts, offset, buffer)?
                }
                Place::Packed {
                    heads,
                    algorithm,
                    tail,
                    ..
                } => {
                    self.load(image, heads, *algorithm, *tail, offset, window)?;
                    let from = usize::try_from(offset - window.start).unwrap_or(usize::MAX);
                    let ready = window.bytes.get(from..).unwrap_or_default();
                    let length = ready.len().min(buffer.len());
                    buffer[..length].copy_from_slice(&ready[..length]);
                    length
                }
            };
            offset += done as u64;
            buffer = &mut buffer[done..];
        }
        Ok(())
    }

    /// Unpacks the extent that holds `offset` unless it is the one in the window.
    fn load(
        &self,
        image: &Image<'_>,
        heads: &[Head],
        algorithm: u8,
        tail: Option<(u64, u32)>,
        offset: u64,
        window: &mut Window,
    ) -> Result<(), ReadError> {
        let end = window.start + window.bytes.len() as u64;
        if (window.start..end).contains(&offset) {
            return Ok(());
        }
        let at = heads
            .partition_point(|head| head.start <= offset)
            .saturating_sub(1);
        let head = heads[at];
        let end = heads.get(at + 1).map_or(self.size, |next| next.start);
        let (from, size) = match tail {
            Some((from, size)) if at + 1 == heads.len() => (from, size as usize),
            _ => (
                u64::from(head.block) * BLOCK as u64,
                head.blocks as usize * BLOCK,
            ),
        };
        if end <= offset || end - head.start > UNPACKED_LIMIT {
            return Err(ReadError::Damaged {
                offset: from,
                what: "the length of an extent",
                found: end.wrapping_sub(head.start),
                expected: format!("1 to {UNPACKED_LIMIT}"),
            });
        }
        let mut packed = vec![0; size];
        image.bytes(from, &mut packed)?;
        let length = usize::try_from(end - head.start).unwrap_or(0);
        let mut bytes = vec![0; length];
        unpack(head.encoding, algorithm, &packed, &mut bytes).map_err(|source| {
            ReadError::Unpack {
                offset: from,
                source,
            }
        })?;
        *window = Window {
            start: head.start,
            bytes,
        };
        Ok(())
    }
}

/// A chunk as a step; chunks too large to count have no second one.
fn chunk_step(chunk: u64) -> usize {
    usize::try_from(chunk).unwrap_or(usize::MAX)
}

fn read_chunk(
    image: &Image<'_>,
    bits: u32,
    starts: &[u32],
    offset: u64,
    buffer: &mut [u8],
) -> Result<usize, ReadError> {
    let chunk = (BLOCK as u64) << bits;
    let index = usize::try_from(offset / chunk).unwrap_or(usize::MAX);
    let within = offset % chunk;
    let length = usize::try_from(chunk - within)
        .unwrap_or(usize::MAX)
        .min(buffer.len());
    match starts.get(index) {
        Some(&start) if start != HOLE => {
            let at = u64::from(start) * BLOCK as u64 + within;
            image.bytes(at, &mut buffer[..length])?;
        }
        _ => buffer[..length].fill(0),
    }
    Ok(length)
}

fn unpack(encoding: Encoding, algorithm: u8, packed: &[u8], out: &mut [u8]) -> io::Result<()> {
    let broken = |text| Err(io::Error::new(io::ErrorKind::InvalidData, text));
    if encoding == Encoding::Plain {
        let Some(bytes) = packed.get(..out.len()) else {
            return broken("a plain extent is longer than its block");
        };
        out.copy_from_slice(bytes);
        return Ok(());
    }
    let zeros = packed.iter().take_while(|byte| **byte == 0).count();
    let packed = &packed[zeros..];
    let made = match algorithm {
        ALGORITHM_LZ4 => lz4::unpack(packed, out)?,
        ALGORITHM_ZSTD => zstd::bulk::decompress_to_buffer(packed, out)?,
        _ => return broken("the algorithm is neither LZ4 nor Zstandard"),
    };
    if made == out.len() {
        Ok(())
    } else {
        broken("an extent is shorter than its index says")
    }
}
