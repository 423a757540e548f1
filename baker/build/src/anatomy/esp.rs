//! The ESP: its file system, and the programs on it part by part.

use std::collections::BTreeMap;
use std::ops::Range;

use baker_formats::fat::{self, Part};
use baker_formats::io::Slice;
use baker_model::layout::Partition;

use super::program::{self, HEAD_LIMIT};
use super::structure::{EspPart, Structure};
use super::{AnatomyError, Map, partition_error};

/// Adds everything of the ESP.
pub(super) fn map(map: &mut Map<'_>, partition: &Partition) -> Result<(), AnatomyError> {
    let start = partition.offset;
    let volume = Slice::new(map.disk, start..start + partition.size);
    let pieces =
        fat::pieces(&volume, partition.size).map_err(|error| partition_error(partition, error))?;
    // Where each file lies: byte of the file, range of the disk.
    let mut files: BTreeMap<String, Vec<(u64, Range<u64>)>> = BTreeMap::new();
    for piece in pieces {
        let range = start + piece.range.start..start + piece.range.end;
        let path = piece.path.unwrap_or_default();
        let part = match piece.part {
            Part::File(at) => {
                files.entry(path).or_default().push((at, range));
                continue;
            }
            Part::Entry => EspPart::Entry(path),
            Part::EntryNotes => EspPart::EntryNotes(path),
            Part::FreeEntries => EspPart::FreeEntries(path),
            Part::FileSlack => EspPart::Slack(path),
            part => EspPart::Volume(part),
        };
        map.add(range, Structure::Esp(part));
    }
    for (path, mut extents) in files {
        extents.sort_by_key(|(at, _)| *at);
        file(map, &path, &extents)?;
    }
    Ok(())
}

/// A file: as a program when it is one.
fn file(map: &mut Map<'_>, path: &str, extents: &[(u64, Range<u64>)]) -> Result<(), AnatomyError> {
    let size = extents
        .last()
        .map_or(0, |(at, range)| at + (range.end - range.start));
    let head = head(map, extents, size.min(HEAD_LIMIT))?;
    let Some(parts) = program::parts(&head, size) else {
        for (_, range) in extents {
            let part = EspPart::File(path.to_owned());
            map.add(range.clone(), Structure::Esp(part));
        }
        return Ok(());
    };
    for (place, part) in parts {
        for (at, range) in extents {
            // The part of this place that lies in this extent.
            let from = place.start.max(*at);
            let end = place.end.min(at + (range.end - range.start));
            if from < end {
                let structure = Structure::Program {
                    path: path.to_owned(),
                    part: part.clone(),
                };
                map.add(
                    range.start + (from - at)..range.start + (end - at),
                    structure,
                );
            }
        }
    }
    Ok(())
}

/// The first bytes of a file.
fn head(map: &Map<'_>, extents: &[(u64, Range<u64>)], size: u64) -> Result<Vec<u8>, AnatomyError> {
    let mut head = vec![0; usize::try_from(size).unwrap_or_default()];
    for (at, range) in extents {
        let Some(rest) = usize::try_from(*at).ok().and_then(|at| head.get_mut(at..)) else {
            break;
        };
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let length = length.min(rest.len());
        map.read(range.start, &mut rest[..length])?;
    }
    Ok(head)
}
