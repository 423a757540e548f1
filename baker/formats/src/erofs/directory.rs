//! Directory data: blocks of sorted entries.
//!
//! ```text
//! block:   entry * n | name * n | zeros up to 4096 (the last block ends with its last name)
//! entry:   nid u64 | name offset u16 | type u8 | zero u8
//! ```
//! The kernel finds a name by binary search over the first names of the blocks, then inside of
//! one block; `.` and `..` are sorted like any other name.

use super::error::ReadError;
use super::format::{BLOCK, mode, u16_at, u64_at};

/// Bytes per entry.
const ENTRY: usize = 12;

/// One name of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry<'a> {
    /// The name, 1 to 255 bytes.
    pub name: &'a [u8],
    /// Its inode.
    pub nid: u64,
    /// `EROFS_FT_*`, see [`file_type`].
    pub file_type: u8,
}

/// `EROFS_FT_*` for a mode.
#[must_use]
pub const fn file_type(mode: u16) -> u8 {
    match mode & mode::TYPE {
        mode::FILE => 1,
        mode::DIRECTORY => 2,
        mode::CHAR => 3,
        mode::BLOCK => 4,
        mode::FIFO => 5,
        mode::SOCKET => 6,
        mode::SYMLINK => 7,
        _ => 0,
    }
}

/// The data of a directory with these entries, which must be sorted by name.
#[must_use]
pub fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let (block, later) = rest.split_at(fitting(rest));
        data.resize(data.len().next_multiple_of(BLOCK), 0);
        let mut name_offset = ENTRY * block.len();
        for entry in block {
            let offset = u16::try_from(name_offset).expect("offsets stay inside of a block");
            data.extend_from_slice(&entry.nid.to_le_bytes());
            data.extend_from_slice(&offset.to_le_bytes());
            data.extend_from_slice(&[entry.file_type, 0]);
            name_offset += entry.name.len();
        }
        data.extend(block.iter().flat_map(|entry| entry.name));
        rest = later;
    }
    data
}

/// How many of the first entries fit into one block.
fn fitting(entries: &[Entry<'_>]) -> usize {
    let mut used = 0;
    entries
        .iter()
        .take_while(|entry| {
            used += ENTRY + entry.name.len();
            used <= BLOCK
        })
        .count()
}

/// Reads the entries of one block (of at most 4096 bytes) that lies at byte `offset` of the
/// image.
///
/// # Errors
/// Name offsets that do not ascend, point outside of the block, or names that are empty.
pub fn decode(block: &[u8], offset: u64) -> Result<Vec<Entry<'_>>, ReadError> {
    let damaged = |found: usize| ReadError::Damaged {
        offset,
        what: "a name offset of a directory block",
        found: found as u64,
        expected: "ascending offsets inside of the block".to_owned(),
    };
    if block.len() < ENTRY {
        return Err(damaged(0));
    }
    let first = usize::from(u16_at(block, 8));
    if first == 0 || first % ENTRY != 0 || first > block.len() {
        return Err(damaged(first));
    }
    let starts: Vec<usize> = (0..first / ENTRY)
        .map(|n| usize::from(u16_at(block, n * ENTRY + 8)))
        .collect();
    let mut entries = Vec::with_capacity(starts.len());
    for (n, &start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied().unwrap_or(block.len());
        let name = block.get(start..end).ok_or_else(|| damaged(start))?;
        // Only the last name of a full block is followed by zeros.
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        if name.is_empty() {
            return Err(damaged(start));
        }
        let nid = u64_at(block, n * ENTRY);
        entries.push(Entry {
            name,
            nid,
            file_type: block[n * ENTRY + 10],
        });
    }
    Ok(entries)
}
