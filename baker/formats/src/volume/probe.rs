//! What a range of a disk holds, by its first bytes.

use std::io;

use super::Format;
use crate::io::Part;

/// What a range holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A volume that can be opened.
    Volume(Format),
    /// Something else that has a name.
    Named(&'static str),
    /// Zeros, as far as one looks.
    Blank,
    /// Nobody here knows.
    Unknown,
}

impl Content {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Volume(format) => format.name(),
            Self::Named(name) => name,
            Self::Blank => "empty",
            Self::Unknown => "unknown",
        }
    }
}

/// Bytes that are looked at: up to the magic of btrfs.
const HEAD: usize = (64 << 10) + 128;

/// Where a magic lies, the magic, what it stands for.
const MAGICS: [(usize, &[u8], Content); 16] = [
    (1024, b"\xe2\xe1\xf5\xe0", Content::Volume(Format::Erofs)),
    (0, b"hsqs", Content::Volume(Format::Squashfs)),
    (1080, b"\x53\xef", Content::Volume(Format::Ext4)),
    (257, b"ustar", Content::Volume(Format::Tar)),
    (0, b"verity\0\0", Content::Named("dm-verity hash tree")),
    (0, b"LUKS\xba\xbe", Content::Named("LUKS")),
    (0, b"XFSB", Content::Named("xfs")),
    (64 << 10 | 64, b"_BHRfS_M", Content::Named("btrfs")),
    (512, b"LABELONE", Content::Named("LVM")),
    (4086, b"SWAPSPACE2", Content::Named("swap")),
    (0x8001, b"CD001", Content::Named("iso9660")),
    (1024, b"\x10\x20\xf5\xf2", Content::Named("f2fs")),
    (3, b"NTFS    ", Content::Named("ntfs")),
    (3, b"EXFAT   ", Content::Named("exfat")),
    (0, b"MZ", Content::Named("UEFI program")),
    (1024, b"H+\0\x04", Content::Named("hfs+")),
];

/// Says what `part` holds.
///
/// # Errors
/// It cannot be read.
pub fn probe(part: &Part) -> io::Result<Content> {
    let head = part.up_to(0, HEAD)?;
    let found = MAGICS.iter().find(|(at, magic, _)| {
        head.get(*at..)
            .is_some_and(|bytes| bytes.starts_with(magic))
    });
    if let Some((_, _, content)) = found {
        return Ok(*content);
    }
    if is_fat(&head) {
        return Ok(Content::Volume(Format::Fat));
    }
    if head.iter().all(|byte| *byte == 0) {
        return Ok(Content::Blank);
    }
    Ok(Content::Unknown)
}

/// A boot sector with the signature, a jump, and the words of the type, which no reader relies on
/// and every tool writes.
fn is_fat(head: &[u8]) -> bool {
    let has = |at: usize, word: &[u8]| head.get(at..).is_some_and(|bytes| bytes.starts_with(word));
    has(510, b"\x55\xaa")
        && (has(0, b"\xeb") || has(0, b"\xe9"))
        && (has(54, b"FAT") || has(82, b"FAT32"))
}
