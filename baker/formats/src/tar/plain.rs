//! Headers of regular files with plain names: all that an archive of baker's own needs.

use super::BLOCK;

/// The longest name that a ustar header holds without splitting it.
const NAME_LIMIT: usize = 100;

/// The largest number of eleven octal digits: 8 GiB less one.
const SIZE_LIMIT: u64 = 0o777_7777_7777;

/// A ustar header of a regular file: root's own, mode 0644. None when the name is longer than 100
/// bytes or not ASCII, or a number has no room.
#[must_use]
pub fn plain_header(name: &str, size: u64, mtime: u64) -> Option<[u8; BLOCK]> {
    let fits = !name.is_empty() && name.len() <= NAME_LIMIT && name.is_ascii();
    if !fits || size > SIZE_LIMIT || mtime > SIZE_LIMIT {
        return None;
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, &format!("{mtime:011o}"));
    // The checksum counts itself as blanks.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::{Kind, Limits, Reader};
    use super::*;

    #[test]
    fn the_reader_takes_it() {
        let mut archive = plain_header("inputs/a", 5, 1_700_000_000).unwrap().to_vec();
        archive.extend(b"hello");
        archive.resize(BLOCK * 4, 0);
        let mut reader = Reader::new(&archive[..], Limits::default());
        let mut entry = reader.next_entry().unwrap().unwrap();
        assert_eq!(entry.header.path, b"inputs/a");
        assert_eq!(
            (entry.header.mode, entry.header.mtime),
            (0o644, 1_700_000_000)
        );
        assert!(matches!(entry.header.kind, Kind::File));
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert!(reader.next_entry().unwrap().is_none());
        for (name, size) in [("", 1), ("ü", 1), (&*"x".repeat(101), 1), ("a", 1 << 40)] {
            assert!(plain_header(name, size, 0).is_none(), "{name}");
        }
    }
}
