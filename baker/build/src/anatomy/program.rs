//! A PE file by its parts.

use std::ops::Range;

use baker_formats::pe::Image;

use super::structure::ProgramPart;

/// Bytes of a program that are read: headers lie inside of them.
pub(super) const HEAD_LIMIT: u64 = 64 << 10;

/// Every byte of a file of `size` bytes that begins with `head`; none when it is no program.
pub(super) fn parts(head: &[u8], size: u64) -> Option<Vec<(Range<u64>, ProgramPart)>> {
    let image = Image::parse_headers(head, size).ok()?;
    let places = image.header_places();
    let wide = |range: Range<usize>| range.start as u64..range.end as u64;
    let signature = places.signature as u64;
    let table = wide(places.table);
    let mut parts = vec![
        (0..signature, ProgramPart::DosHeader),
        (wide(places.check_sum), ProgramPart::CheckSum),
        (table.clone(), ProgramPart::SectionTable),
    ];
    if let Some(range) = places.certificates {
        parts.push((wide(range), ProgramPart::CertificateEntry));
    }
    for section in &image.sections {
        let start = u64::from(section.raw_offset);
        let end = start + u64::from(section.raw_size);
        let used = start + u64::from(section.raw_size.min(section.virtual_size));
        if start == 0 {
            continue; // no bytes in the file
        }
        parts.push((start..used, ProgramPart::Section(section.name.clone())));
        parts.push((used..end, ProgramPart::SectionPadding(section.name.clone())));
    }
    if let Some((offset, length)) = image.certificates {
        let offset = u64::from(offset);
        parts.push((
            offset..offset + u64::from(length),
            ProgramPart::Certificates,
        ));
    }
    fill(parts, signature..table.start, size)
}

/// Sorts the parts and names what lies between them; none when they overlap.
fn fill(
    mut parts: Vec<(Range<u64>, ProgramPart)>,
    headers: Range<u64>,
    size: u64,
) -> Option<Vec<(Range<u64>, ProgramPart)>> {
    parts.retain(|(range, _)| !range.is_empty());
    parts.sort_by_key(|(range, _)| range.start);
    let mut all = Vec::new();
    let mut at = 0;
    let between = |range: Range<u64>| {
        let part = match headers.contains(&range.start) {
            true => ProgramPart::Headers,
            false => ProgramPart::Padding,
        };
        (range, part)
    };
    for (range, part) in parts {
        if range.start < at || range.end > size {
            return None;
        }
        if at < range.start {
            all.push(between(at..range.start));
        }
        at = range.end;
        all.push((range, part));
    }
    if at < size {
        all.push(between(at..size));
    }
    Some(all)
}
