//! qcow2: refuses what is not whole.

use super::{Kind, MediumError, field, shown};

pub(super) const MAGIC: &[u8] = b"QFI\xfb";

/// Bit of the incompatible features: guest data is in a file of its own.
const EXTERNAL_DATA: u64 = 1 << 2;

/// Checks the header, all of whose numbers are big-endian.
pub(super) fn check(header: &[u8]) -> Result<(), MediumError> {
    let number = |offset| field(header, offset).map(u32::from_be_bytes);
    let long = |offset| field(header, offset).map(u64::from_be_bytes);
    let unsupported = |what| {
        Err(MediumError::Unsupported {
            what,
            mend: "convert it where its key is at hand: qemu-img convert -O qcow2 IMAGE NEW.qcow2",
        })
    };
    let (Some(version), Some(backing), Some(length), Some(encryption)) =
        (number(4), long(8), number(16), number(32))
    else {
        return unsupported("a qcow2 image without the rest of its header");
    };
    if version != 2 && version != 3 {
        return unsupported("a qcow image of a version other than 2 and 3");
    }
    if backing != 0 {
        let start = usize::try_from(backing).unwrap_or(usize::MAX);
        let name = header.get(start..).unwrap_or_default();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        return Err(MediumError::Reference {
            kind: Kind::Qcow2,
            what: "backing file",
            name: shown(&name[..name.len().min(length)]),
        });
    }
    if encryption != 0 {
        return unsupported("an encrypted qcow2 image");
    }
    let features = if version == 3 { long(72) } else { Some(0) };
    match features {
        Some(features) if features & EXTERNAL_DATA == 0 => Ok(()),
        Some(_) => Err(MediumError::Reference {
            kind: Kind::Qcow2,
            what: "data",
            name: data_file(header).unwrap_or_else(|| "an unnamed one".to_owned()),
        }),
        None => unsupported("a qcow2 image without the rest of its header"),
    }
}

/// The name in the header extension `0x44415441` ("DATA").
fn data_file(header: &[u8]) -> Option<String> {
    let word = |offset| field(header, offset).map(u32::from_be_bytes);
    let mut offset = usize::try_from(word(100)?).ok()?;
    loop {
        let kind = word(offset)?;
        let length = usize::try_from(word(offset.checked_add(4)?)?).ok()?;
        let start = offset.checked_add(8)?;
        let end = start.checked_add(length)?;
        match kind {
            0 => return None,
            0x4441_5441 => return header.get(start..end).map(shown),
            _ => offset = end.checked_next_multiple_of(8)?,
        }
    }
}
