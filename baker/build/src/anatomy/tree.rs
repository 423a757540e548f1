//! The hash tree: superblock and levels.

use baker_formats::verity::{self, BLOCK};
use baker_model::layout::Partition;

use super::structure::{Structure, TreePart};
use super::{AnatomyError, Map, partition_error};

/// Room for the salt in the superblock.
const SALT_ROOM: u64 = 256;

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
    // `struct verity_sb` of cryptsetup; what is not named is padding.
    add(0..16, TreePart::SuperBlock); // signature, version, hash type
    add(16..32, TreePart::Uuid);
    let name = head[32..64].iter().take_while(|byte| **byte != 0).count() as u64;
    let name_end = (32 + name + 1).min(64);
    add(32..name_end, TreePart::SuperBlock); // algorithm and the zero behind it
    add(name_end..64, TreePart::SuperBlockRest);
    add(64..82, TreePart::SuperBlock); // block sizes, data blocks, size of the salt
    add(82..88, TreePart::SuperBlockRest);
    let salt = u64::from(u16::from_le_bytes([head[80], head[81]])).min(SALT_ROOM);
    add(88..88 + salt, TreePart::SuperBlock);
    add(88 + salt..BLOCK, TreePart::SuperBlockRest);
    let mut at = BLOCK;
    // The highest level comes first.
    for (level, blocks) in (0_u32..).zip(&levels).collect::<Vec<_>>().into_iter().rev() {
        add(at..at + blocks * BLOCK, TreePart::Level(level));
        at += blocks * BLOCK;
    }
    add(at..partition.size, TreePart::Rest);
    Ok(())
}
