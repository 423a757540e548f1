//! Where each inode goes in the metadata area.
//!
//! An inode starts at a multiple of 32 bytes and may cross blocks, but the data behind it must
//! not. Inodes are placed in order; one that would break this rule moves to where it does not,
//! and the gap it leaves is filled by later ones that fit, tightest gap first.

use std::collections::BTreeSet;

use super::format::{BLOCK, SLOT};

/// The size of an inode with all that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes that may cross blocks.
    pub free: u64,
    /// Bytes after them that must lie inside of one block.
    pub bound: u64,
}

/// Places the shapes one by one from byte `start` (a multiple of 32) on; gives their positions
/// and the end of the last.
#[must_use]
pub fn place(shapes: &[Shape], start: u64) -> (Vec<u64>, u64) {
    let mut gaps: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut end = start;
    let positions = shapes
        .iter()
        .map(|shape| {
            let size = (shape.free + shape.bound).next_multiple_of(SLOT as u64);
            // Every gap lies inside of one block, so whatever fits keeps the rule.
            if let Some(&gap) = gaps.range((size, 0)..).next() {
                gaps.remove(&gap);
                add_gap(&mut gaps, gap.1 + size, gap.1 + gap.0);
                return gap.1;
            }
            let position = valid_from(end, *shape);
            let mut from = end;
            while from < position {
                let to = (from + 1).next_multiple_of(BLOCK as u64).min(position);
                add_gap(&mut gaps, from, to);
                from = to;
            }
            end = position + size;
            position
        })
        .collect();
    (positions, end)
}

fn add_gap(gaps: &mut BTreeSet<(u64, u64)>, from: u64, to: u64) {
    if from < to {
        gaps.insert((to - from, from));
    }
}

/// The first position at or after `from` where the bound bytes do not cross a block.
fn valid_from(from: u64, shape: Shape) -> u64 {
    let block = BLOCK as u64;
    let bound = from + shape.free;
    if bound % block + shape.bound <= block {
        from
    } else {
        (bound.next_multiple_of(block) - shape.free).next_multiple_of(SLOT as u64)
    }
}
