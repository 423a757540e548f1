//! VMDK: takes what is whole in one sparse file, refuses what names others.

use std::io::{Read, Seek};

use super::{Kind, MediumError, field, read_at, shown};

pub(super) const MAGIC: &[u8] = b"KDMV";

/// Bytes of a sector; offsets in headers count them.
pub(super) const SECTOR: u64 = 512;

/// A grain directory with this offset is named by the header's copy near the end.
pub(super) const AT_END: u64 = u64::MAX;

/// QEMU reads a descriptor of this many bytes at least, whatever the header says.
const DESCRIPTOR: u64 = 20 * SECTOR;

/// Larger descriptors than this come from no sane tool.
const LARGEST_DESCRIPTOR: u64 = 1 << 20;

/// Key of the descriptor that names a parent.
const PARENT: &[u8] = b"parentFileNameHint";

/// Checks the header, and its copy near the end of the file where that one rules.
pub(super) fn check(image: &mut (impl Read + Seek), size: u64) -> Result<(), MediumError> {
    let header = read_at(image, 0, 512)?;
    check_header(image, &header)?;
    if long(&header, 56) == Some(AT_END) {
        // Footer marker, header, end-of-stream marker: the last three sectors.
        let footer = read_at(image, size.saturating_sub(2 * SECTOR), 512)?;
        if !footer.starts_with(MAGIC) {
            return Err(damaged());
        }
        check_header(image, &footer)?;
    }
    Ok(())
}

fn check_header(image: &mut (impl Read + Seek), header: &[u8]) -> Result<(), MediumError> {
    let (Some(capacity), Some(offset), Some(sectors)) =
        (long(header, 12), long(header, 28), long(header, 36))
    else {
        return Err(damaged());
    };
    let start = offset.checked_mul(SECTOR).ok_or_else(damaged)?;
    let length = sectors.saturating_mul(SECTOR).max(DESCRIPTOR);
    if length > LARGEST_DESCRIPTOR {
        return Err(damaged());
    }
    let length = usize::try_from(length).map_err(|_| damaged())?;
    let descriptor = if offset == 0 {
        Vec::new()
    } else {
        read_at(image, start, length)?
    };
    if capacity == 0 {
        // Only a wrapper around a descriptor: QEMU opens the extents that it names.
        return Err(MediumError::Reference {
            kind: Kind::Vmdk,
            what: "data",
            name: first_extent(&descriptor),
        });
    }
    match value(&descriptor, PARENT) {
        Some(name) => Err(MediumError::Reference {
            kind: Kind::Vmdk,
            what: "parent",
            name: shown(name),
        }),
        None => Ok(()),
    }
}

/// True for a descriptor in a file of its own: text that names the files with the data.
pub(super) fn is_descriptor(head: &[u8]) -> bool {
    // QEMU skips comments and blank lines before it looks for `version=`.
    let lines = head.split(|&byte| byte == b'\n').take(20);
    let lines = lines.map(<[u8]>::trim_ascii);
    lines
        .filter(|line| !line.is_empty())
        .take_while(|line| line.starts_with(b"#") || line.starts_with(b"version="))
        .any(|line| line.eq_ignore_ascii_case(b"# disk descriptorfile") || !line.starts_with(b"#"))
}

/// The name in the first extent line: `RW 1024 FLAT "name" 0`.
pub(super) fn first_extent(descriptor: &[u8]) -> String {
    let lines = descriptor.split(|&byte| byte == b'\n');
    let access = [&b"RW "[..], b"RDONLY ", b"NOACCESS "];
    let extent = lines
        .into_iter()
        .find(|line| access.iter().any(|word| line.starts_with(word)));
    let name = extent.and_then(|line| line.split(|&byte| byte == b'"').nth(1));
    name.map_or_else(|| "an unnamed one".to_owned(), shown)
}

/// What stands behind `key=`, to the end of its line.
fn value<'a>(descriptor: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = descriptor
        .windows(key.len())
        .position(|window| window == key)?;
    let rest = descriptor.get(at + key.len() + 1..).unwrap_or_default();
    rest.split(|&byte| byte == b'\n').next()
}

fn long(header: &[u8], offset: usize) -> Option<u64> {
    field(header, offset).map(u64::from_le_bytes)
}

fn damaged() -> MediumError {
    MediumError::Unsupported {
        what: "a VMDK with a damaged header",
        mend: "make it again where it came from",
    }
}
