//! The index of a compressed file: which logical cluster belongs to which physical cluster.
//!
//! A logical cluster is one block of the file. Each has one entry; an extent (a physical cluster
//! and the bytes of the file that it unpacks to) starts in a *head* entry, the clusters that lie
//! wholly inside of it are *non-heads*. The compacted form packs entries:
//! ```text
//! header   8 bytes: 0 u16 | bytes of the inline tail u16 | advise u16 | algorithm u8 | 0 u8
//! packs    2 entries of 16 bits, block u32   until the next multiple of 32 bytes
//!          16 entries of 14 bits, block u32  as many as are full
//!          2 entries of 16 bits, block u32   the rest; an odd last entry is followed by zero
//! entry    low 12 bits: value | 2 bits: type (0 plain head, 1 compressed head, 2 non-head)
//! ```
//! The block of a pack is that of its first head, less the blocks of an extent whose head lies
//! in the pack before but whose size lies in this one. See `fs/erofs/zmap.c`,
//! `z_erofs_load_compact_lcluster`.

use super::format::{BLOCK, BLOCK_BITS};

/// `Z_EROFS_ADVISE_*`: compacted 2-byte entries, and clusters of several blocks for heads of
/// both types.
const ADVISE: u16 = 0x1 | 0x2 | 0x4;
/// `Z_EROFS_ADVISE_INLINE_PCLUSTER`: the last extent lies behind the index.
const ADVISE_TAIL: u16 = 0x8;
/// `Z_EROFS_LI_D0_CBLKCNT`: the value of a non-head is a number of blocks.
const BLOCK_COUNT: u32 = 1 << 11;
/// Bytes of `z_erofs_map_header`.
pub const HEADER: usize = 8;

/// How the bytes of an extent are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are, in one block.
    Plain,
    /// Compressed.
    Packed,
}

/// Bytes of a file that unpack together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of the file.
    pub length: u32,
    /// Blocks of the image; 1 for the inline tail, which has none.
    pub blocks: u16,
    /// How they are kept.
    pub encoding: Encoding,
}

/// One entry of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cluster {
    Head {
        encoding: Encoding,
        offset: u32,
        block: u32,
    },
    Inner {
        back: u32,
        ahead: u32,
        blocks: Option<u16>,
    },
}

/// The index of a file, header included.
///
/// `at` is the byte where the index starts, counted from the start of the inode (a multiple of
/// 8); `start` the first block of the data; `tail` the size of the inline tail, none when the
/// last extent is a block like the others.
#[must_use]
pub fn encode(
    at: usize,
    extents: &[Extent],
    start: u32,
    tail: Option<u16>,
    algorithm: u8,
) -> Vec<u8> {
    let clusters = clusters(extents, start);
    let advise = if tail.is_some() {
        ADVISE | ADVISE_TAIL
    } else {
        ADVISE
    };
    let mut out = Vec::with_capacity(HEADER + clusters.len() * 2 + 32);
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&tail.unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&advise.to_le_bytes());
    out.extend_from_slice(&[algorithm, 0]);

    let (first, middle) = pack_counts(at + HEADER, clusters.len());
    let (first, rest) = clusters.split_at(first);
    let (middle, last) = rest.split_at(middle);
    first
        .chunks(2)
        .for_each(|pack| encode_pack(pack, 2, &mut out));
    middle
        .chunks(16)
        .for_each(|pack| encode_pack(pack, 16, &mut out));
    last.chunks(2)
        .for_each(|pack| encode_pack(pack, 2, &mut out));
    out
}

/// How many entries come before the 16-entry packs, and how many lie in those.
#[must_use]
pub fn pack_counts(base: usize, clusters: usize) -> (usize, usize) {
    let first = (32 - base % 32) / 4 % 8;
    if first < clusters {
        (first, (clusters - first) / 16 * 16)
    } else {
        (clusters, 0)
    }
}

fn clusters(extents: &[Extent], start: u32) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    let (mut offset, mut block) = (0, start);
    let mut open = false;
    for extent in extents {
        let end = offset + extent.length;
        let reach = end >> BLOCK_BITS;
        clusters.push(Cluster::Head {
            encoding: extent.encoding,
            offset,
            block,
        });
        clusters.extend((1..reach).map(|back| Cluster::Inner {
            back,
            ahead: reach - back,
            blocks: (back == 1).then_some(extent.blocks),
        }));
        block += u32::from(extent.blocks);
        offset = end % (1 << BLOCK_BITS);
        open = reach > 0 && offset > 0;
    }
    if open {
        // The file ends inside of a cluster that the last extent reaches into: a head that
        // starts at the end of the file closes it.
        clusters.push(Cluster::Head {
            encoding: Encoding::Plain,
            offset,
            block,
        });
    }
    clusters
}

fn encode_pack(pack: &[Cluster], entries: usize, out: &mut Vec<u8>) {
    let width = if entries == 2 { 16 } else { 14 };
    let mut bits = 0_u128;
    let mut high = 0_u128;
    for (n, cluster) in pack.iter().enumerate() {
        let value = u128::from(value(*cluster, n + 1 == entries));
        // Sixteen entries of 14 bits are 224 bits: the upper half has its own word.
        if n < 8 {
            bits |= value << (n * width);
        } else {
            high |= value << ((n - 8) * width);
        }
    }
    let half = if entries == 2 { 4 } else { 14 };
    out.extend_from_slice(&bits.to_le_bytes()[..half]);
    if entries == 16 {
        out.extend_from_slice(&high.to_le_bytes()[..half]);
    }
    out.extend_from_slice(&pack_block(pack).to_le_bytes());
}

fn value(cluster: Cluster, last_of_pack: bool) -> u32 {
    match cluster {
        Cluster::Head {
            encoding: Encoding::Plain,
            offset,
            ..
        } => offset,
        Cluster::Head {
            encoding: Encoding::Packed,
            offset,
            ..
        } => 1 << 12 | offset,
        Cluster::Inner {
            blocks: Some(blocks),
            ..
        } => 2 << 12 | BLOCK_COUNT | u32::from(blocks),
        // Longer distances are walked in several steps by the kernel.
        Cluster::Inner { ahead, .. } if last_of_pack => 2 << 12 | ahead.min(BLOCK_COUNT - 1),
        Cluster::Inner { back, .. } => 2 << 12 | back.min(BLOCK_COUNT - 1),
    }
}

fn pack_block(pack: &[Cluster]) -> u32 {
    let before = match pack.first() {
        Some(Cluster::Inner {
            blocks: Some(blocks),
            ..
        }) => u32::from(*blocks),
        _ => 0,
    };
    pack.iter()
        .find_map(|cluster| match cluster {
            Cluster::Head { block, .. } => Some(block - before),
            Cluster::Inner { .. } => None,
        })
        .unwrap_or(0)
}

/// A head entry found by [`decode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// First byte of the file that the extent holds.
    pub start: u64,
    /// First block of the extent.
    pub block: u32,
    /// Number of blocks.
    pub blocks: u32,
    /// How it is kept.
    pub encoding: Encoding,
}

/// Reads the packs behind a map header: the heads of a file of `size` bytes in order, and the
/// bytes that the packs take. None when the index is broken.
#[must_use]
pub fn decode(at: usize, packs: &[u8], size: u64) -> Option<(Vec<Head>, usize)> {
    let total = usize::try_from(size.div_ceil(BLOCK as u64)).ok()?;
    let (first, middle) = pack_counts(at + HEADER, total);
    let mut heads: Vec<Head> = Vec::new();
    let (mut cluster, mut used) = (0, 0);
    while cluster < total {
        let entries = if (first..first + middle).contains(&cluster) {
            16
        } else {
            2
        };
        let bytes = packs.get(used..used + if entries == 16 { 32 } else { 8 })?;
        used += bytes.len();
        let mut block = u32::from_le_bytes(bytes[bytes.len() - 4..].try_into().ok()?);
        let mut after_head = false;
        for n in 0..entries.min(total - cluster) {
            let (kind, low) = entry(bytes, entries, n);
            if kind == 2 && low & BLOCK_COUNT != 0 {
                // A head in this pack has counted one block already.
                let blocks = low & !BLOCK_COUNT;
                block = block.checked_add(blocks.checked_sub(u32::from(after_head))?)?;
                heads.last_mut()?.blocks = blocks;
            } else if kind < 2 {
                let encoding = if kind == 1 {
                    Encoding::Packed
                } else {
                    Encoding::Plain
                };
                let start = ((cluster + n) * BLOCK) as u64 + u64::from(low);
                heads.push(Head {
                    start,
                    block,
                    blocks: 1,
                    encoding,
                });
                block = block.checked_add(1)?;
            } else if kind > 2 {
                return None;
            }
            after_head = kind < 2;
        }
        cluster += entries;
    }
    heads.retain(|head| head.start < size);
    Some((heads, used))
}

fn entry(pack: &[u8], entries: usize, n: usize) -> (u32, u32) {
    let bit = n * if entries == 2 { 16 } else { 14 };
    let mut word = [0; 4];
    let from = bit / 8;
    let end = (from + 4).min(pack.len());
    word[..end - from].copy_from_slice(&pack[from..end]);
    let value = u32::from_le_bytes(word) >> (bit % 8);
    (value >> 12 & 3, value & 0xfff)
}
