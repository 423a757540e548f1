//! Where an EROFS image has its metadata.
//!
//! Reference: `struct erofs_super_block` in `fs/erofs/erofs_fs.h` of the Linux kernel.

use std::ops::Range;

/// Where the superblock lies.
const SUPERBLOCK: usize = 1024;

/// Its first bytes.
const MAGIC: [u8; 4] = 0xe0f5_e1e2_u32.to_le_bytes();

/// The bytes from the first inode to the end of the image, by the image's first block; none when it
/// is of another format. They carry no authority: they are a hint.
pub fn metadata(block: &[u8; 4096]) -> Option<Range<u64>> {
    let superblock = &block[SUPERBLOCK..];
    if !superblock.starts_with(&MAGIC) {
        return None;
    }
    let bits = superblock[12];
    let number = |at: usize| {
        let bytes = superblock[at..at + 4].try_into().ok()?;
        u64::from(u32::from_le_bytes(bytes)).checked_shl(bits.into())
    };
    let (end, start) = (number(36)?, number(40)?);
    (bits < 32 && start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bits: u8, blocks: u32, start: u32) -> [u8; 4096] {
        let mut block = [0; 4096];
        block[1024..1028].copy_from_slice(&MAGIC);
        block[1036] = bits;
        block[1060..1064].copy_from_slice(&blocks.to_le_bytes());
        block[1064..1068].copy_from_slice(&start.to_le_bytes());
        block
    }

    #[test]
    fn metadata_ends_with_the_image() {
        assert_eq!(metadata(&block(12, 20, 15)), Some(61_440..81_920));
        assert_eq!(metadata(&[0; 4096]), None);
        // What makes no sense is no place.
        assert_eq!(metadata(&block(12, 15, 20)), None);
        assert_eq!(metadata(&block(200, 20, 15)), None);
    }
}
