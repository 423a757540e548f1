//! VHD: knows the footer, refuses children of other disks.

use super::{MediumError, field};

/// Bytes of the footer: the last of the file, and the first too unless the disk is fixed.
pub(super) const FOOTER: u64 = 512;

/// Where its checksum is.
const CHECKSUM: usize = 64;

/// True for a footer whose checksum, the complement of the sum of all other bytes, is right: the
/// last sector of a raw disk belongs to whoever writes on the disk.
pub(super) fn is_footer(bytes: &[u8]) -> bool {
    let Some(footer) = bytes.first_chunk::<512>() else {
        return false;
    };
    let others = (0..)
        .zip(footer)
        .filter(|(at, _)| !(CHECKSUM..CHECKSUM + 4).contains(at));
    let sum: u32 = others.map(|(_, byte)| u32::from(*byte)).sum();
    footer.starts_with(b"conectix") && field(footer, CHECKSUM).map(u32::from_be_bytes) == Some(!sum)
}

/// Takes fixed (2) and dynamic (3) disks; 4 is a child of another one.
pub(super) fn check(footer: &[u8]) -> Result<(), MediumError> {
    match field(footer, 60).map(u32::from_be_bytes) {
        Some(2 | 3) => Ok(()),
        _ => Err(MediumError::Unsupported {
            what: "a VHD that only holds the differences to another one",
            mend: "merge it with its parent where it was made, and name the whole disk",
        }),
    }
}
