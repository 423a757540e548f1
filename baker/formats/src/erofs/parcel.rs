//! Packed data of earlier images, so that no data is compressed twice.
//!
//! A parcel is what a worker made of one piece of a content. It depends on the content, the offset,
//! the codec and its level, and the cluster size, and on nothing else: an image has the same bytes
//! whether its parcels were taken over or made.
//!
//! ```text
//! 0                                            the piece is kept as it is
//! 1 | number of extents (u32 LE) | per extent: length (u32 LE), blocks (u16 LE), encoding (u8)
//!   | length of the tail + 1, or 0 (u16 LE) | tail | blocks
//! ```

use baker_model::Digest;

use super::format::BLOCK;
use super::index::{Encoding, Extent};
use super::segment::{Packed, TAIL_LIMIT};

/// Version of the way data is cut and packed. **Another one when equal settings give other bytes.**
pub const PARCEL_VERSION: u32 = 2;

/// Where parcels are kept between images of equal settings. Called from several threads.
pub trait Parcels: Sync {
    /// What was put down for the piece of `content` that starts at `offset`; none when nothing was.
    fn take(&self, content: &Digest, offset: u64) -> Option<Vec<u8>>;

    /// Puts down what was made of a piece.
    fn give(&self, content: &Digest, offset: u64, parcel: &[u8]);
}

const RAW: u8 = 0;
const PACKED: u8 = 1;

/// What a parcel says of its piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parcel {
    /// It is kept as it is.
    Raw,
    /// Compressed extents.
    Packed(Packed),
}

impl Parcel {
    /// A parcel as bytes.
    #[must_use]
    pub fn encode(packed: Option<&Packed>) -> Vec<u8> {
        let Some(packed) = packed else {
            return vec![RAW];
        };
        let tail = packed.tail.as_deref().unwrap_or_default();
        let room = 8 + packed.extents.len() * 7 + tail.len() + packed.data.len();
        let mut bytes = Vec::with_capacity(room);
        bytes.push(PACKED);
        let count = u32::try_from(packed.extents.len()).expect("a segment is 4 MiB");
        bytes.extend_from_slice(&count.to_le_bytes());
        for extent in &packed.extents {
            bytes.extend_from_slice(&extent.length.to_le_bytes());
            bytes.extend_from_slice(&extent.blocks.to_le_bytes());
            bytes.push(u8::from(extent.encoding == Encoding::Packed));
        }
        let length = packed.tail.as_ref().map_or(0, |tail| tail.len() + 1);
        let length = u16::try_from(length).expect("a tail is below 4 KiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(tail);
        bytes.extend_from_slice(&packed.data);
        bytes
    }

    /// Reads a parcel of a piece of `length` bytes; none when it can be none of it.
    #[must_use]
    pub fn decode(bytes: &[u8], length: usize, cluster: usize) -> Option<Self> {
        let mut rest = bytes;
        match take::<1>(&mut rest)? {
            [RAW] if rest.is_empty() => return Some(Self::Raw),
            [PACKED] => {}
            _ => return None,
        }
        let count = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
        let mut extents = Vec::with_capacity(count.min(length / BLOCK + 1));
        for _ in 0..count {
            extents.push(Extent {
                length: u32::from_le_bytes(take(&mut rest)?),
                blocks: u16::from_le_bytes(take(&mut rest)?),
                encoding: match take(&mut rest)? {
                    [0] => Encoding::Plain,
                    [1] => Encoding::Packed,
                    _ => return None,
                },
            });
        }
        let tail = match usize::from(u16::from_le_bytes(take(&mut rest)?)) {
            0 => None,
            length if length <= TAIL_LIMIT + 1 => {
                let (tail, blocks) = rest.split_at_checked(length - 1)?;
                rest = blocks;
                Some(tail.to_vec())
            }
            _ => return None,
        };
        let in_blocks = extents.len().checked_sub(usize::from(tail.is_some()))?;
        let fits = |extent: &Extent| {
            (1..=cluster / BLOCK).contains(&usize::from(extent.blocks)) && extent.length > 0
        };
        let blocks = extents[..in_blocks].iter().map(|it| usize::from(it.blocks));
        let lengths = extents.iter().map(|extent| extent.length as usize);
        let holds = extents.iter().all(fits)
            && lengths.sum::<usize>() == length
            && blocks.sum::<usize>() * BLOCK == rest.len();
        holds.then(|| {
            Self::Packed(Packed {
                extents,
                data: rest.to_vec(),
                tail,
            })
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*first)
}
