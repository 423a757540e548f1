//! Appending sections: how a unified kernel image is made from its stub.

use std::collections::BTreeSet;

use super::image::{Image, PeError, SECTION_HEADER, optional};

/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const DATA: u32 = 0x4000_0040;

/// A section to append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewSection<'a> {
    /// At most 8 bytes.
    pub name: &'a str,
    /// What it holds.
    pub bytes: &'a [u8],
    /// Bytes in memory, zeros after `bytes`; less than their number means exactly their number.
    pub virtual_size: u32,
}

impl<'a> NewSection<'a> {
    /// A section that is as large in memory as in the file.
    #[must_use]
    pub const fn new(name: &'a str, bytes: &'a [u8]) -> Self {
        Self {
            name,
            bytes,
            virtual_size: 0,
        }
    }
}

/// The file `image` with `sections` appended as read-only data, in this order, in file and memory.
///
/// A signature of `image` would no longer hold and is removed. Sizes and checksum are set anew;
/// all else stays as it was.
///
/// # Errors
/// See [`PeError`].
pub fn append(image: &[u8], sections: &[NewSection<'_>]) -> Result<Vec<u8>, PeError> {
    let headers = Image::parse(image)?;
    let slots = check_room(image, &headers, sections)?;
    check_names(&headers, sections)?;
    let mut out = unsigned(image, &headers)?;
    let mut address = 0;
    for section in &headers.sections {
        let end = section
            .virtual_address
            .checked_add(section.virtual_size.max(section.raw_size));
        address = address.max(end.ok_or(PeError::TooLarge)?);
    }
    for (section, slot) in sections.iter().zip(slots) {
        pad(&mut out, headers.file_alignment);
        let start = length(out.len())?;
        out.extend_from_slice(section.bytes);
        pad(&mut out, headers.file_alignment);
        address = address
            .checked_next_multiple_of(headers.section_alignment)
            .ok_or(PeError::TooLarge)?;
        let virtual_size = length(section.bytes.len())?.max(section.virtual_size);
        let mut header = [0; SECTION_HEADER];
        header[..section.name.len()].copy_from_slice(section.name.as_bytes());
        put(&mut header, 8, virtual_size);
        put(&mut header, 12, address);
        put(&mut header, 16, length(out.len())? - start);
        put(&mut header, 20, start);
        put(&mut header, 36, DATA);
        out[slot..slot + SECTION_HEADER].copy_from_slice(&header);
        address = address.checked_add(virtual_size).ok_or(PeError::TooLarge)?;
    }
    let size = address
        .checked_next_multiple_of(headers.section_alignment)
        .ok_or(PeError::TooLarge)?;
    put(&mut out, headers.optional + optional::SIZE_OF_IMAGE, size);
    let count = headers.sections.len() + sections.len();
    let count = u16::try_from(count).map_err(|_| PeError::TooLarge)?;
    out[headers.coff + 2..headers.coff + 4].copy_from_slice(&count.to_le_bytes());
    let sum = checked_sum(&out, headers.optional + optional::CHECK_SUM);
    put(&mut out, headers.optional + optional::CHECK_SUM, sum);
    Ok(out)
}

/// Offsets of the new entries of the section table.
fn check_room(
    bytes: &[u8],
    headers: &Image,
    sections: &[NewSection<'_>],
) -> Result<impl Iterator<Item = usize>, PeError> {
    let start = headers.table + headers.sections.len() * SECTION_HEADER;
    let first = headers
        .sections
        .iter()
        .filter(|section| section.raw_size > 0);
    let first = first.map(|section| section.raw_offset).min();
    let end = first.unwrap_or(u32::MAX).min(headers.size_of_headers) as usize;
    let room = end.min(bytes.len()).saturating_sub(start) / SECTION_HEADER;
    let used = bytes
        .iter()
        .skip(start)
        .take(sections.len() * SECTION_HEADER);
    if sections.len() > room || used.clone().any(|&byte| byte != 0) {
        let room = if sections.len() > room { room } else { 0 };
        return Err(PeError::HeaderRoom {
            room,
            wanted: sections.len(),
        });
    }
    Ok((start..).step_by(SECTION_HEADER))
}

fn check_names(headers: &Image, sections: &[NewSection<'_>]) -> Result<(), PeError> {
    let mut names: BTreeSet<_> = headers
        .sections
        .iter()
        .map(|section| &*section.name)
        .collect();
    for section in sections {
        let name = section.name;
        let refuse = |problem| {
            Err(PeError::Section {
                name: name.to_owned(),
                problem,
            })
        };
        if name.is_empty() || name.len() > 8 {
            return refuse("its name must have 1 to 8 bytes");
        }
        if !names.insert(name) {
            return refuse("there is one already");
        }
    }
    Ok(())
}

/// The bytes in front of the certificate table, its directory entry zeroed.
pub(super) fn unsigned(bytes: &[u8], headers: &Image) -> Result<Vec<u8>, PeError> {
    let Some((offset, size)) = headers.certificates else {
        return Ok(bytes.to_vec());
    };
    let entry = headers.optional + optional::CERTIFICATES;
    let start = offset as usize;
    let end = start.checked_add(size as usize);
    // Signers put the table last, padded to 8 bytes; anywhere else it cannot be cut off.
    let behind_sections = headers.sections.iter().all(|section| {
        u64::from(section.raw_offset) + u64::from(section.raw_size) <= u64::from(offset)
    });
    if end.is_none_or(|end| end > bytes.len() || bytes.len() - end >= 8) || !behind_sections {
        let problem = "its certificate table does not lie at the end";
        return Err(PeError::Format {
            offset: entry,
            problem,
        });
    }
    let mut bytes = bytes[..start].to_vec();
    bytes[entry..entry + 8].fill(0);
    Ok(bytes)
}

fn pad(out: &mut Vec<u8>, alignment: u32) {
    out.resize(out.len().next_multiple_of(alignment as usize), 0);
}

fn length(length: usize) -> Result<u32, PeError> {
    u32::try_from(length).map_err(|_| PeError::TooLarge)
}

pub(super) fn put(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

/// The checksum of `ImageHlp`: 16-bit words added with end-around carry, the field itself left
/// out, plus the length of the file.
pub(super) fn checked_sum(bytes: &[u8], field: usize) -> u32 {
    let mut sum: u64 = 0;
    for (index, word) in bytes.chunks(2).enumerate() {
        let offset = index * 2;
        if offset == field || offset == field + 2 {
            continue;
        }
        let high = word.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_le_bytes([word[0], high]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Both summands fit: the sum has 16 bits, and the file is under 4 GiB.
    u32::try_from(sum + bytes.len() as u64).unwrap_or(u32::MAX)
}
