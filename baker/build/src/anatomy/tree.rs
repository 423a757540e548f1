//! The hash tree: superblock and levels.

use baker_formats::verity::{self, BLOCK};
use baker_model::layout::Partition;

use super::structure::{Structure, TreePart};
use super::{AnatomyError, Map, partition_error};

/// Bytes of `struct verity_sb`.
const SUPER_BLOCK: u64 = 512;

/// Adds everything of a hash partition.
pub(super) fn map(map: &mut Map<'_>, partition: &Partition) -> Result<(), AnatomyError> {
    let start = partition.offset;
    let mut head = [0; 88];
    map.read(start, &mut head)?;
    let mut blocks = [0; 8];
    blocks.copy_from_slice(&head[72..80]);
    let levels = verity::level_blocks(u64::from_le_bytes(blocks));
    let total = levels
        .iter()
        .fold(1, |sum: u64, blocks| sum.saturating_add(*blocks));
    let size = total.saturating_mul(BLOCK);
    if !head.starts_with(b"verity\0\0") || size > partition.size {
        let problem = "it holds no verity superblock, or a tree that does not fit";
        return Err(partition_error(partition, problem));
    }
    let mut add = |range: std::ops::Range<u64>, part| {
        let structure = Structure::HashTree {
            partition: partition.name.clone(),
            part,
        };
        map.add(start + range.start..start + range.end, structure);
    };
    add(0..16, TreePart::SuperBlock);
    add(16..32, TreePart::Uuid);
    add(32..SUPER_BLOCK, TreePart::SuperBlock);
    add(SUPER_BLOCK..BLOCK, TreePart::SuperBlockRest);
    let mut at = BLOCK;
    // The highest level comes first.
    for (level, blocks) in (0_u32..).zip(&levels).collect::<Vec<_>>().into_iter().rev() {
        add(at..at + blocks * BLOCK, TreePart::Level(level));
        at += blocks * BLOCK;
    }
    add(at..partition.size, TreePart::Rest);
    Ok(())
}
