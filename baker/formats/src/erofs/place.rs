//! Where each inode goes in the metadata area.
//!
//! An inode starts at a multiple of 32 bytes and may cross blocks, but the data behind it must
//! not. One that would break this rule moves to where it does not, and the gap it leaves is filled
//! by later ones that fit, tightest gap first. So the long ones come first, of so many at a time
//! that a folder still lies close together.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::format::{BLOCK, SLOT};

/// Inodes that are placed at a time, one or two MiB of them. In the order of the tree, gaps would be
/// a tenth of the metadata: files of a kind lie together, and long tails have no short ones to
/// follow them.
const WINDOW: usize = 2048;

/// The size of an inode with all that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes that may cross blocks.
    pub free: u64,
    /// Bytes after them that must lie inside of one block.
    pub bound: u64,
}

/// Places the shapes from byte `start` (a multiple of 32) on, the first of them first; gives their
/// positions and the end of the last.
#[must_use]
pub fn place(shapes: &[Shape], start: u64) -> (Vec<u64>, u64) {
    let mut order: Vec<usize> = (0..shapes.len()).collect();
    // The first is the root, whose place has 16 bits in the superblock.
    let later = order.get_mut(1..).unwrap_or_default();
    for window in later.chunks_mut(WINDOW) {
        window.sort_by_key(|&index| Reverse((shapes[index].bound, shapes[index].free)));
    }
    let mut gaps: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut end = start;
    let mut positions = vec![0; shapes.len()];
    for index in order {
        let shape = shapes[index];
        let size = (shape.free + shape.bound).next_multiple_of(SLOT as u64);
        // Every gap lies inside of one block, so whatever fits keeps the rule.
        if let Some(&gap) = gaps.range((size, 0)..).next() {
            gaps.remove(&gap);
            add_gap(&mut gaps, gap.1 + size, gap.1 + gap.0);
            positions[index] = gap.1;
            continue;
        }
        let position = valid_from(end, shape);
        let mut from = end;
        while from < position {
            let to = (from + 1).next_multiple_of(BLOCK as u64).min(position);
            add_gap(&mut gaps, from, to);
            from = to;
        }
        end = position + size;
        positions[index] = position;
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_overlaps_and_what_is_bound_lies_in_one_block(
            shapes in proptest::collection::vec((32..9000_u64, 0..4065_u64), 1..200),
        ) {
            let shapes: Vec<Shape> =
                shapes.into_iter().map(|(free, bound)| Shape { free, bound }).collect();
            let (positions, end) = place(&shapes, 64);
            prop_assert!(positions[0] < 64 + BLOCK as u64);
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (shape, position) in shapes.iter().zip(positions) {
                let bound = position + shape.free;
                prop_assert!(position % SLOT as u64 == 0 && position >= 64);
                prop_assert!(bound % BLOCK as u64 + shape.bound <= BLOCK as u64);
                taken.push((position, bound + shape.bound));
            }
            taken.sort_unstable();
            prop_assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0));
            prop_assert!(taken.iter().all(|(_, to)| *to <= end));
        }
    }

    /// A folder of short files, then one of long ones, as kernel modules are.
    #[test]
    fn short_tails_fill_what_long_ones_leave() {
        let shape = |bound| Shape { free: 64, bound };
        let shapes: Vec<Shape> = (0..600)
            .map(|at| shape(if at < 400 { 300 + at } else { 3000 + at }))
            .collect();
        let (_, end) = place(&shapes, 0);
        let bytes: u64 = shapes.iter().map(|shape| shape.free + shape.bound).sum();
        assert!(end < bytes * 103 / 100, "{end} for {bytes} bytes");
    }
}
