//! The data of regular files: read, packed by the workers, written in order.

use std::io::{self, Write};
use std::num::NonZeroUsize;

use baker_model::tree::{Content, Contents, TreePath};

use super::Request;
use super::codec::Codec;
use super::error::Error;
use super::format::{BLOCK, HOLE};
use super::index::{Encoding, Extent};
use super::inventory::{self, Inode};
use super::output::Output;
use super::parcel::Parcel;
use super::segment::{self, Packed, Position, SEGMENT, TAIL_LIMIT};
use crate::pipeline::{self, Stop};

/// Small files travel together until they are this many bytes, to spare the line its overhead.
const BATCH: u64 = 1 << 20;

/// Files below this size are not searched for holes.
const HOLE_MINIMUM: u64 = 64 << 10;

/// A file has at most this many chunks, unless they would be longer than a segment.
const CHUNKS: u64 = 16 << 10;

/// Where the data of an inode went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// Whole blocks from `start`; the last, partial one behind the inode when `tail` has it.
    Flat {
        /// First block.
        start: u32,
        /// Bytes of the last block.
        tail: Vec<u8>,
    },
    /// Chunks of `1 << bits` blocks at these places, [`HOLE`] for those of zeros.
    Chunked {
        /// `log2` of the blocks per chunk.
        bits: u32,
        /// First block of each chunk.
        starts: Vec<u32>,
    },
    /// Compressed.
    Packed {
        /// First block.
        start: u32,
        /// The extents, in order.
        extents: Vec<Extent>,
        /// The last extent when it lies behind the inode.
        tail: Option<Vec<u8>>,
    },
}

/// A piece of a file that a worker handles at once.
#[derive(Debug, Clone, Copy)]
struct Piece {
    inode: usize,
    offset: u64,
    length: usize,
    position: Position,
}

/// What a worker made of a piece.
enum Made {
    /// Compressed extents.
    Packed(Packed),
    /// The bytes as they are, with the chunks that are only zeros.
    Raw { data: Vec<u8>, holes: Vec<bool> },
}

/// Per worker: the codec and the input buffer.
struct Bench {
    codec: io::Result<Option<Codec>>,
    input: Vec<u8>,
    /// What a whole segment of zeros packs to: sparse files hold little else.
    blank: Option<Packed>,
}

/// Writes the data of all regular files; gives for each inode where it went, none for inodes
/// that are not regular files or are empty.
///
/// # Errors
/// Content cannot be read, output cannot be written, the codec fails, or the request was
/// interrupted.
pub fn write_all<W: Write>(
    request: &Request<'_>,
    inodes: &[Inode<'_>],
    out: &mut Output<'_, W>,
) -> Result<Vec<Option<Stored>>, Error> {
    let units = plan(inodes, &inventory::order(inodes, request.first));
    let cluster = request.options.cluster_size as usize;
    let compression = request.options.compression;
    let bench = || Bench {
        codec: Codec::new(compression, cluster),
        input: Vec::new(),
        blank: None,
    };
    let work = |bench: &mut Bench, unit: usize| {
        units[unit]
            .iter()
            .map(|piece| {
                if request.interrupt.is_raised() {
                    return Err(Error::Interrupted);
                }
                let inode = &inodes[piece.inode];
                let at = At {
                    path: inode.path,
                    size: size(inode),
                    piece,
                };
                Ok((*piece, bench.piece(&at, inode.content(), request)?))
            })
            .collect::<Result<Vec<_>, Error>>()
    };
    let mut stored: Vec<Option<Stored>> = inodes.iter().map(|_| None).collect();
    let receive = |pieces: Vec<(Piece, Made)>| {
        for (piece, made) in pieces {
            let inode = &inodes[piece.inode];
            store(&mut stored[piece.inode], inode, piece.position, made, out)?;
            (request.progress)(piece.length as u64);
        }
        Ok(())
    };
    let threads: NonZeroUsize = request.options.threads;
    pipeline::run(units.len(), threads, bench, work, receive).map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::Lost => Error::Worker,
    })?;
    stored.iter_mut().flatten().for_each(simplify);
    Ok(stored)
}

/// Cuts the files into pieces and groups these into units; depends on sizes and order only.
fn plan(inodes: &[Inode<'_>], order: &[usize]) -> Vec<Vec<Piece>> {
    let mut units: Vec<Vec<Piece>> = Vec::new();
    let mut filled = BATCH;
    for &index in order {
        let size = size(&inodes[index]);
        let mut offset = 0;
        while offset < size {
            let length = (size - offset).min(SEGMENT);
            if filled + length > BATCH {
                units.push(Vec::new());
                filled = 0;
            }
            filled += length;
            let end = offset + length == size;
            let position = if end { Position::Last } else { Position::Inner };
            let length = usize::try_from(length).expect("a segment is 4 MiB");
            let piece = Piece {
                inode: index,
                offset,
                length,
                position,
            };
            units.last_mut().expect("a unit was just made").push(piece);
            offset += SEGMENT;
        }
    }
    units
}

fn size(inode: &Inode<'_>) -> u64 {
    inode.content().map_or(0, Content::size)
}

/// A piece with what is needed to speak of it.
struct At<'a> {
    path: &'a TreePath,
    size: u64,
    piece: &'a Piece,
}

impl Bench {
    /// A piece as an earlier image has it, or packed now.
    fn piece(
        &mut self,
        at: &At<'_>,
        content: Option<&Content>,
        request: &Request<'_>,
    ) -> Result<Made, Error> {
        let cluster = request.options.cluster_size as usize;
        let compresses = matches!(&self.codec, Ok(Some(_)));
        let parcels = request.parcels.filter(|_| compresses);
        let (Some(parcels), Some(Content::Extern { digest, .. })) = (parcels, content) else {
            self.read(at, content, request.contents)?;
            return self.make(at, cluster);
        };
        let Piece { offset, length, .. } = *at.piece;
        let taken = parcels.take(digest, offset);
        match taken.and_then(|bytes| Parcel::decode(&bytes, length, cluster)) {
            Some(Parcel::Packed(packed)) => Ok(Made::Packed(packed)),
            Some(Parcel::Raw) => {
                self.read(at, content, request.contents)?;
                Ok(self.as_it_is())
            }
            None => {
                self.read(at, content, request.contents)?;
                let made = self.make(at, cluster)?;
                let packed = match &made {
                    Made::Packed(packed) => Some(packed),
                    Made::Raw { .. } => None,
                };
                parcels.give(digest, offset, &Parcel::encode(packed));
                Ok(made)
            }
        }
    }

    fn as_it_is(&mut self) -> Made {
        Made::Raw {
            data: std::mem::take(&mut self.input),
            holes: Vec::new(),
        }
    }

    fn make(&mut self, at: &At<'_>, cluster: usize) -> Result<Made, Error> {
        let Piece {
            offset,
            length,
            position,
            ..
        } = *at.piece;
        let refuse = |source: io::Error| Error::Codec {
            path: at.path.clone(),
            offset,
            source,
        };
        let codec = match &mut self.codec {
            Ok(Some(codec)) => codec,
            Ok(None) => return Ok(raw(std::mem::take(&mut self.input), at.size, position)),
            Err(source) => return Err(refuse(io::Error::other(source.to_string()))),
        };
        let blank = position == Position::Inner && is_zero(&self.input);
        if let (true, Some(packed)) = (blank, &self.blank) {
            return Ok(Made::Packed(packed.clone()));
        }
        let packed = segment::pack(codec, &self.input, position, cluster).map_err(refuse)?;
        if blank {
            self.blank = Some(packed.clone());
        }
        let only = offset == 0 && position == Position::Last;
        if only && round(packed.cost()) >= round(raw_cost(length)) {
            return Ok(self.as_it_is());
        }
        Ok(Made::Packed(packed))
    }

    fn read(
        &mut self,
        at: &At<'_>,
        content: Option<&Content>,
        contents: &dyn Contents,
    ) -> Result<(), Error> {
        let Piece { offset, length, .. } = *at.piece;
        match content {
            Some(Content::Inline(bytes)) => {
                let from = usize::try_from(offset).expect("inline content lies in memory");
                self.input.clear();
                self.input.extend_from_slice(&bytes[from..from + length]);
                Ok(())
            }
            Some(Content::Extern { digest, .. }) => {
                // Clean pages of the system when the buffer was given away, and no zeros over what is
                // overwritten anyway when not.
                if self.input.is_empty() {
                    self.input = vec![0; length];
                } else {
                    self.input.resize(length, 0);
                }
                contents
                    .read_exact_at(digest, offset, &mut self.input)
                    .map_err(|source| Error::Content {
                        path: at.path.clone(),
                        offset,
                        source,
                    })
            }
            None => {
                self.input.clear();
                Ok(())
            }
        }
    }
}

fn raw(data: Vec<u8>, size: u64, position: Position) -> Made {
    let mut holes: Vec<bool> = match chunk_bits(size) {
        Some(bits) => data.chunks(BLOCK << bits).map(is_zero).collect(),
        None => Vec::new(),
    };
    if let (Some(last), Position::Last) = (holes.last_mut(), position) {
        // `fsck.erofs --extract` up to 1.8 seeks over holes and forgets those at the end.
        *last = false;
    }
    Made::Raw { data, holes }
}

/// Compares with a block of zeros: `memcmp` is much faster than a loop over bytes.
fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(BLOCK)
        .all(|block| *block == [0; BLOCK][..block.len()])
}

/// `log2` of the blocks per chunk of a file of this size; none when holes would not pay.
fn chunk_bits(size: u64) -> Option<u32> {
    (size >= HOLE_MINIMUM).then(|| {
        let chunk = (size / CHUNKS)
            .clamp(HOLE_MINIMUM, SEGMENT)
            .next_power_of_two();
        (chunk / BLOCK as u64).ilog2()
    })
}

fn raw_cost(length: usize) -> usize {
    let tail = length % BLOCK;
    if tail > TAIL_LIMIT {
        length.next_multiple_of(BLOCK)
    } else {
        length
    }
}

fn round(cost: usize) -> usize {
    cost.next_multiple_of(super::format::SLOT)
}

/// Appends one piece of a file to the image.
fn store<W: Write>(
    stored: &mut Option<Stored>,
    inode: &Inode<'_>,
    position: Position,
    made: Made,
    out: &mut Output<'_, W>,
) -> Result<(), Error> {
    let start = out.block(inode.path)?;
    match made {
        Made::Packed(packed) => {
            out.write(&packed.data)?;
            match stored {
                Some(Stored::Packed { extents, tail, .. }) => {
                    extents.extend(packed.extents);
                    *tail = packed.tail;
                }
                _ => {
                    let Packed { extents, tail, .. } = packed;
                    *stored = Some(Stored::Packed {
                        start,
                        extents,
                        tail,
                    });
                }
            }
        }
        Made::Raw { data, holes } if holes.is_empty() => {
            *stored = Some(Stored::Flat {
                start,
                tail: write_flat(&data, position, out)?,
            });
        }
        Made::Raw { data, holes } => {
            let bits = chunk_bits(size(inode)).expect("holes were looked for");
            let mut starts = match stored.take() {
                Some(Stored::Chunked { starts, .. }) => starts,
                _ => Vec::new(),
            };
            let full = !holes.contains(&true) && !starts.contains(&HOLE);
            if full && position == Position::Last {
                // Not one hole: the chunks lie one after the other, which is a flat file.
                let start = starts.first().copied().unwrap_or(start);
                *stored = Some(Stored::Flat {
                    start,
                    tail: write_flat(&data, position, out)?,
                });
                return Ok(());
            }
            for (chunk, hole) in data.chunks(BLOCK << bits).zip(holes) {
                starts.push(if hole { HOLE } else { out.block(inode.path)? });
                if !hole {
                    out.write(chunk)?;
                    out.align()?;
                }
            }
            *stored = Some(Stored::Chunked { bits, starts });
        }
    }
    out.block(inode.path).map(|_| ())
}

/// Writes a file (or its end) flat and gives back the tail that is to lie behind the inode.
fn write_flat<W: Write>(
    data: &[u8],
    position: Position,
    out: &mut Output<'_, W>,
) -> Result<Vec<u8>, Error> {
    let tail = data.len() % BLOCK;
    if position == Position::Last && tail <= TAIL_LIMIT {
        let (blocks, tail) = data.split_at(data.len() - tail);
        out.write(blocks)?;
        return Ok(tail.to_vec());
    }
    out.write(data)?;
    out.align()?;
    Ok(Vec::new())
}

/// A file of which no extent is compressed is a flat file.
fn simplify(stored: &mut Stored) {
    if let Stored::Packed {
        start,
        extents,
        tail,
    } = stored
        && extents
            .iter()
            .all(|extent| extent.encoding == Encoding::Plain)
    {
        *stored = Stored::Flat {
            start: *start,
            tail: tail.take().unwrap_or_default(),
        };
    }
}
