//! dm-verity hash trees (superblock version 1, SHA-256, blocks of 4096 bytes).
//!
//! Takes the data once, in order; gives superblock and hash tree on a [`Write`] + [`Seek`] and the
//! root hash. Memory is bounded: one hash block per level and one batch of data. The bytes are
//! those of `veritysetup format` with the same salt and UUID, for any number of threads.
//!
//! ```text
//! block 0       superblock, 512 bytes, zeros after it
//! block 1       top level: one block, its hash is the root hash
//! ...           lower levels, each 128 times larger
//! last level    hashes of the data blocks: SHA-256(salt || block)
//! ```
//! After cryptsetup's on-disk format page and the kernel's `drivers/md/dm-verity-target.c`. A
//! data area of one block has no levels: its hash is the root hash.

use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::Digest as _;

/// Bytes of a data block and of a hash block.
pub const BLOCK: u64 = 4096;

/// [`BLOCK`] as a length.
const BLOCK_LEN: usize = 4096;

/// Hashes in one hash block.
const FANOUT: u64 = 128;

/// Bytes of data read and hashed at a time.
const BATCH: usize = 4 << 20;

/// A hash tree cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// The data is empty or not a whole number of blocks.
    #[error("verity data has {size} bytes; it must be a multiple of {BLOCK} and not 0")]
    Size {
        /// Bytes announced.
        size: u64,
    },
    /// The data cannot be read or ends early.
    #[error("cannot read verity data after byte {offset}")]
    Read {
        /// How far reading has come.
        offset: u64,
        /// What the reader said; `UnexpectedEof` when it gave too few bytes.
        #[source]
        source: io::Error,
    },
    /// The hash tree cannot be written.
    #[error("cannot write the verity hash tree")]
    Write(#[source] io::Error),
}

/// What decides the tree beside the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Put in front of every block that is hashed.
    pub salt: [u8; 32],
    /// UUID in the superblock, bytes in text order.
    pub uuid: [u8; 16],
    /// Threads that hash; at least 1 is used.
    pub threads: usize,
}

/// A tree that has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formatted {
    /// The hash that vouches for all data.
    pub root_hash: [u8; 32],
    /// Bytes of superblock and tree together.
    pub hash_size: u64,
}

/// Writes superblock and hash tree of `data_size` bytes of `data`, from the output's byte 0 on.
///
/// # Errors
/// See [`VerityError`].
pub fn format(
    data: &mut dyn Read,
    data_size: u64,
    options: &Options,
    hash_out: &mut (impl Write + Seek),
) -> Result<Formatted, VerityError> {
    if data_size == 0 || !data_size.is_multiple_of(BLOCK) {
        return Err(VerityError::Size { size: data_size });
    }
    let blocks = data_size / BLOCK;
    write_at(hash_out, 0, &superblock(blocks, options))?;
    let (levels, hash_blocks) = levels(blocks);
    let mut tree = Tree {
        levels,
        salt: &options.salt,
        out: hash_out,
        root_hash: [0; 32],
    };
    let mut batch = vec![0; BATCH];
    let mut hashes = vec![[0; 32]; BATCH / BLOCK_LEN];
    let mut offset = 0;
    while offset < data_size {
        let want = usize::try_from(data_size - offset)
            .unwrap_or(BATCH)
            .min(BATCH);
        let bytes = &mut batch[..want];
        data.read_exact(bytes)
            .map_err(|source| VerityError::Read { offset, source })?;
        let hashes = &mut hashes[..want / BLOCK_LEN];
        hash_blocks_of(bytes, hashes, options);
        for hash in &*hashes {
            tree.push(0, hash)?;
        }
        offset += want as u64;
    }
    tree.finish()?;
    let root_hash = tree.root_hash;
    hash_out.flush().map_err(VerityError::Write)?;
    Ok(Formatted {
        root_hash,
        hash_size: (1 + hash_blocks) * BLOCK,
    })
}

/// Bytes of superblock and tree for `data_size` bytes of data, rounded up to blocks.
#[must_use]
pub fn hash_size(data_size: u64) -> u64 {
    (1 + levels(data_size.div_ceil(BLOCK)).1) * BLOCK
}

/// One level of the tree while it is filled.
struct Level {
    /// The hash block that is being filled.
    block: Box<[u8; BLOCK_LEN]>,
    /// Bytes of it that are filled.
    filled: usize,
    /// Where it will be written.
    offset: u64,
}

/// Hash blocks of each level over `data_blocks` blocks of data, lowest level first.
#[must_use]
pub fn level_blocks(data_blocks: u64) -> Vec<u64> {
    let mut counts = Vec::new();
    let mut below = data_blocks;
    while below > 1 {
        below = below.div_ceil(FANOUT);
        counts.push(below);
    }
    counts
}

/// The levels, lowest first, and the number of their blocks.
fn levels(data_blocks: u64) -> (Vec<Level>, u64) {
    let counts = level_blocks(data_blocks);
    let total = counts.iter().sum();
    // The highest level comes first in the file, right behind the superblock.
    let mut end = 1 + total;
    let mut levels = Vec::new();
    for count in counts {
        end -= count;
        levels.push(Level {
            block: Box::new([0; BLOCK_LEN]),
            filled: 0,
            offset: end * BLOCK,
        });
    }
    (levels, total)
}

/// The tree while it is written.
struct Tree<'a, W> {
    levels: Vec<Level>,
    salt: &'a [u8; 32],
    out: &'a mut W,
    root_hash: [u8; 32],
}

impl<W: Write + Seek> Tree<'_, W> {
    /// Adds a hash to a level; a hash above the highest level is the root hash.
    fn push(&mut self, index: usize, hash: &[u8; 32]) -> Result<(), VerityError> {
        let Some(level) = self.levels.get_mut(index) else {
            self.root_hash = *hash;
            return Ok(());
        };
        level.block[level.filled..level.filled + 32].copy_from_slice(hash);
        level.filled += 32;
        if level.filled == BLOCK_LEN {
            self.flush(index)
        } else {
            Ok(())
        }
    }

    /// Writes the block of a level and hands its hash to the level above.
    fn flush(&mut self, index: usize) -> Result<(), VerityError> {
        let level = &mut self.levels[index];
        let hash = hash_block(self.salt, &level.block[..]);
        write_at(self.out, level.offset, &level.block[..])?;
        level.offset += BLOCK;
        level.block.fill(0);
        level.filled = 0;
        self.push(index + 1, &hash)
    }

    /// Writes the blocks that are not full, from the lowest level up.
    fn finish(&mut self) -> Result<(), VerityError> {
        for index in 0..self.levels.len() {
            if self.levels[index].filled > 0 {
                self.flush(index)?;
            }
        }
        Ok(())
    }
}

/// Hashes each block of `bytes`, divided among the threads.
fn hash_blocks_of(bytes: &[u8], hashes: &mut [[u8; 32]], options: &Options) {
    let hash_all = |bytes: &[u8], hashes: &mut [[u8; 32]]| {
        for (block, hash) in bytes.chunks_exact(BLOCK_LEN).zip(hashes) {
            *hash = hash_block(&options.salt, block);
        }
    };
    let share = hashes.len().div_ceil(options.threads.max(1)).max(32);
    if hashes.len() <= share {
        return hash_all(bytes, hashes);
    }
    std::thread::scope(|scope| {
        for (bytes, hashes) in bytes
            .chunks(share * BLOCK_LEN)
            .zip(hashes.chunks_mut(share))
        {
            scope.spawn(move || hash_all(bytes, hashes));
        }
    });
}

fn hash_block(salt: &[u8; 32], block: &[u8]) -> [u8; 32] {
    sha2::Sha256::new()
        .chain_update(salt)
        .chain_update(block)
        .finalize()
        .into()
}

/// Bytes of the data that a hash tree covers, by its superblock; none when the bytes are none of
/// a tree that this module writes.
#[must_use]
pub fn data_size(superblock: &[u8]) -> Option<u64> {
    let field = |at: usize| {
        superblock
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_le_bytes)
    };
    if !superblock.starts_with(b"verity\0\0") || [field(64)?, field(68)?] != [4096; 2] {
        return None;
    }
    let blocks = superblock
        .get(72..80)?
        .try_into()
        .ok()
        .map(u64::from_le_bytes)?;
    blocks.checked_mul(BLOCK).filter(|size| *size > 0)
}

/// `struct verity_sb`, little-endian, padded to a block.
fn superblock(data_blocks: u64, options: &Options) -> [u8; BLOCK_LEN] {
    let mut block = [0; BLOCK_LEN];
    let mut put = |offset: usize, bytes: &[u8]| {
        block[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, b"verity\0\0");
    put(8, &1_u32.to_le_bytes()); // superblock version
    put(12, &1_u32.to_le_bytes()); // hash type: salt in front
    put(16, &options.uuid);
    put(32, b"sha256");
    put(64, &4096_u32.to_le_bytes()); // data block
    put(68, &4096_u32.to_le_bytes()); // hash block
    put(72, &data_blocks.to_le_bytes());
    put(80, &32_u16.to_le_bytes()); // salt size
    put(88, &options.salt);
    block
}

fn write_at(out: &mut (impl Write + Seek), offset: u64, bytes: &[u8]) -> Result<(), VerityError> {
    out.seek(SeekFrom::Start(offset))
        .map_err(VerityError::Write)?;
    out.write_all(bytes).map_err(VerityError::Write)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Cursor;

    use super::*;
    use crate::judge::{judge, run};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    fn data(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK_LEN)
            .map(|index| u8::try_from(index / 5 % 251).unwrap())
            .collect()
    }

    fn options(threads: usize) -> Options {
        Options {
            salt: [0x5a; 32],
            uuid: *b"0123456789abcdef",
            threads,
        }
    }

    fn made(data: &[u8], threads: usize) -> (Formatted, Vec<u8>) {
        let mut out = Cursor::new(Vec::new());
        let size = data.len() as u64;
        let formatted = format(&mut &*data, size, &options(threads), &mut out).unwrap();
        assert_eq!(out.get_ref().len() as u64, formatted.hash_size);
        assert_eq!(hash_size(size), formatted.hash_size);
        assert_eq!(data_size(out.get_ref()), Some(size));
        (formatted, out.into_inner())
    }

    /// Every shape of tree: none, one level exactly full, two, two with a partial block, three.
    const SHAPES: [usize; 7] = [1, 2, 128, 129, 300, 1300, 16_385];

    #[test]
    fn thread_count_does_not_change_a_byte() {
        for blocks in SHAPES {
            let data = data(blocks);
            assert_eq!(made(&data, 1), made(&data, 3));
        }
        let (formatted, _) = made(&data(300), 1);
        assert_eq!(
            hex(&formatted.root_hash),
            "5224ee5ea5f048d4535701c7b3fb6753a510901faec9e7a86b5d5d6d964f1fc4"
        );
    }

    #[test]
    fn veritysetup_writes_the_same_bytes_and_sees_a_flipped_one() {
        let Some(program) = judge("veritysetup") else {
            return;
        };
        let program = program.get_program().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let [image, ours, theirs] = ["data", "ours", "theirs"].map(|name| folder.path().join(name));
        for blocks in SHAPES {
            let mut bytes = data(blocks);
            let (formatted, tree) = made(&bytes, 2);
            std::fs::write(&image, &bytes).unwrap();
            std::fs::write(&ours, &tree).unwrap();
            std::fs::write(&theirs, b"").unwrap();
            let mut format = std::process::Command::new(&program);
            format.args(["format", "--salt", &hex(&[0x5a; 32])]);
            format.args(["--uuid", "30313233-3435-3637-3839-616263646566"]);
            let (good, said) = run(format.arg(&image).arg(&theirs));
            assert!(good, "{said}");
            let root_hash = hex(&formatted.root_hash);
            assert!(said.contains(&root_hash), "{blocks} blocks: {said}");
            assert!(
                std::fs::read(&theirs).unwrap() == tree,
                "{blocks} blocks: trees differ"
            );
            let mut verify = std::process::Command::new(&program);
            verify.arg("verify").arg(&image).arg(&ours).arg(&root_hash);
            let (good, said) = run(&mut verify);
            assert!(good, "{said}");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&image, &bytes).unwrap();
            let (good, said) = run(&mut verify);
            assert!(!good, "a flipped byte went unseen: {said}");
        }
    }

    #[test]
    fn wrong_sizes_and_short_data_are_errors() {
        let mut out = Cursor::new(Vec::new());
        for size in [0, 1, 4095, 4097] {
            let error = format(&mut io::repeat(1), size, &options(1), &mut out).unwrap_err();
            assert!(matches!(error, VerityError::Size { .. }));
        }
        let error = format(&mut &data(3)[..], 4 * BLOCK, &options(1), &mut out).unwrap_err();
        assert!(matches!(error, VerityError::Read { .. }));
    }
}
