//! One segment of a file, from bytes to extents.
//!
//! A file is cut at fixed places ([`SEGMENT`]) and every segment is packed by itself. That is what
//! makes the image independent of the number of threads, and memory independent of file sizes.

use std::io;

use super::codec::Codec;
use super::format::BLOCK;
use super::index::{self, Encoding, Extent};

/// Bytes per segment; a multiple of the block size, and less than the 12 MiB that the kernel
/// unpacks at once (`Z_EROFS_PCLUSTER_MAX_DSIZE`).
pub const SEGMENT: u64 = 4 << 20;

/// The longest tail that may lie behind an inode: it must not cross a block boundary, and the
/// inode before it starts at a multiple of 32.
pub const TAIL_LIMIT: usize = BLOCK - super::format::SLOT;

/// A packed segment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The extents, in order.
    pub extents: Vec<Extent>,
    /// Their blocks, those of the inline tail left out.
    pub data: Vec<u8>,
    /// The last extent when it lies behind the inode.
    pub tail: Option<Vec<u8>>,
}

/// Where a segment lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// More follows; the segment is [`SEGMENT`] bytes long.
    Inner,
    /// The file ends here, so that a tail is possible.
    Last,
}

/// Packs a segment into clusters of at most `cluster` bytes.
///
/// # Errors
/// The codec fails.
pub fn pack(
    codec: &mut Codec,
    data: &[u8],
    position: Position,
    cluster: usize,
) -> io::Result<Packed> {
    codec.reset();
    let mut packed = Packed::default();
    let mut rest = data;
    while !rest.is_empty() {
        if position == Position::Last
            && rest.len() <= TAIL_LIMIT
            && packed.push_tail(codec, rest)?
        {
            break;
        }
        let fit = codec.fit(rest, cluster)?;
        let bytes = codec.output(fit).to_vec();
        let all = fit.taken == rest.len();
        if all && position == Position::Last && packed.end(codec, rest, &bytes)? {
            break;
        }
        if bytes.len().next_multiple_of(BLOCK) < fit.taken {
            packed.push_blocks(&bytes, fit.taken);
            rest = &rest[fit.taken..];
        } else {
            let (raw, later) = rest.split_at(rest.len().min(cluster));
            packed.push_plain(raw);
            rest = later;
        }
    }
    Ok(packed)
}

impl Packed {
    /// The space the packed file takes, index included.
    #[must_use]
    pub fn cost(&self) -> usize {
        let clusters: usize = self
            .extents
            .iter()
            .map(|extent| extent.length as usize)
            .sum();
        let index = index::HEADER + 8 + clusters.div_ceil(BLOCK) * 2;
        self.data.len() + index + self.tail.as_ref().map_or(0, Vec::len)
    }

    /// Tries to end the file with a tail behind the inode, given what all of `rest` packs into;
    /// says whether it did.
    fn end(&mut self, codec: &mut Codec, rest: &[u8], bytes: &[u8]) -> io::Result<bool> {
        if bytes.len() <= TAIL_LIMIT {
            self.set_tail(rest, Encoding::Packed, bytes.to_vec());
            return Ok(true);
        }
        let whole = bytes.len() / BLOCK * BLOCK;
        let over = bytes.len() - whole;
        if whole == 0 || over == 0 || BLOCK - over < 64 {
            return Ok(false);
        }
        // Full blocks for the front, what is left for the tail: saves half a block on average.
        let front = codec.shorten(rest, bytes, whole);
        if front.made.next_multiple_of(BLOCK) >= front.taken || front.taken == rest.len() {
            return Ok(false);
        }
        let blocks = codec.output(front).to_vec();
        let left = &rest[front.taken..];
        let Some((encoding, tail)) = tail(codec, left)? else {
            return Ok(false);
        };
        if blocks.len().next_multiple_of(BLOCK) + tail.len() >= whole + BLOCK {
            return Ok(false);
        }
        self.push_blocks(&blocks, front.taken);
        self.set_tail(left, encoding, tail);
        Ok(true)
    }

    /// Keeps `rest` as the tail; says whether it can be one.
    fn push_tail(&mut self, codec: &mut Codec, rest: &[u8]) -> io::Result<bool> {
        let found = tail(codec, rest)?;
        let can = found.is_some();
        if let Some((encoding, bytes)) = found {
            self.set_tail(rest, encoding, bytes);
        }
        Ok(can)
    }

    fn set_tail(&mut self, rest: &[u8], encoding: Encoding, bytes: Vec<u8>) {
        self.extents.push(Extent {
            length: length(rest),
            blocks: 1,
            encoding,
        });
        self.tail = Some(bytes);
    }

    /// Compressed bytes end at the end of their last block; zeros come first
    /// (`LZ4_0PADDING`).
    fn push_blocks(&mut self, bytes: &[u8], taken: usize) {
        let blocks = bytes.len().div_ceil(BLOCK);
        self.data
            .resize(self.data.len() + blocks * BLOCK - bytes.len(), 0);
        self.data.extend_from_slice(bytes);
        self.extents.push(Extent {
            length: u32::try_from(taken).expect("a segment is 4 MiB"),
            blocks: u16::try_from(blocks).expect("a cluster is at most 1 MiB"),
            encoding: Encoding::Packed,
        });
    }

    fn push_plain(&mut self, bytes: &[u8]) {
        for block in bytes.chunks(BLOCK) {
            self.data.extend_from_slice(block);
            self.extents.push(Extent {
                length: length(block),
                blocks: 1,
                encoding: Encoding::Plain,
            });
        }
        self.data.resize(self.data.len().next_multiple_of(BLOCK), 0);
    }
}

/// `rest` in its shorter form, compressed or plain; none when both are too long for a tail.
fn tail(codec: &mut Codec, rest: &[u8]) -> io::Result<Option<(Encoding, Vec<u8>)>> {
    Ok(match codec.whole(rest, rest.len().min(TAIL_LIMIT + 1))? {
        Some(fit) => Some((Encoding::Packed, codec.output(fit).to_vec())),
        None if rest.len() <= TAIL_LIMIT => Some((Encoding::Plain, rest.to_vec())),
        None => None,
    })
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a segment is 4 MiB")
}
