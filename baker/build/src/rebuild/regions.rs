//! Byte by byte: which regions of the map differ.

use std::io;

use baker_formats::io::{Part, Source as _};
use baker_model::Interrupt;

use super::{Difference, Disks, EACH};
use crate::anatomy::{Anatomy, EspPart, Region, RootPart, Structure};

/// Bytes read at once.
const STEP: usize = 1 << 20;

/// A region that differs, and its first byte that does.
pub(super) struct Differing {
    pub region: Region,
    pub offset: u64,
}

/// The regions of the map that differ. Bytes that the release's disk does not have differ.
pub(super) fn differing(
    map: &Anatomy,
    release: &Part,
    rebuilt: &Part,
    interrupt: &Interrupt,
) -> io::Result<Vec<Differing>> {
    let mut found = Vec::new();
    let (mut left, mut right) = (vec![0; STEP], vec![0; STEP]);
    let mut regions = map.regions().iter().peekable();
    let mut at = 0;
    while at < rebuilt.size() {
        if interrupt.is_raised() {
            return Err(io::Error::other("interrupted"));
        }
        let wanted = usize::try_from(rebuilt.size() - at)
            .unwrap_or(STEP)
            .min(STEP);
        let there = usize::try_from(release.size().saturating_sub(at)).unwrap_or(STEP);
        let there = there.min(wanted);
        rebuilt.read_exact_at(at, &mut right[..wanted])?;
        release.read_exact_at(at, &mut left[..there])?;
        let end = at + wanted as u64;
        if left[..there] == right[..wanted] {
            at = end;
            continue;
        }
        // All regions that reach into this step; the last may go on in the next one.
        while let Some(region) = regions.peek() {
            if region.range.end <= at {
                regions.next();
                continue;
            }
            if region.range.start >= end {
                break;
            }
            let from = usize::try_from(region.range.start.saturating_sub(at)).unwrap_or(0);
            let to = usize::try_from(region.range.end - at)
                .unwrap_or(STEP)
                .min(wanted);
            if let Some(index) = first(&left[..there], &right[..wanted], from, to) {
                found.push(Differing {
                    region: (*region).clone(),
                    offset: at + index as u64,
                });
                regions.next();
            } else if region.range.end <= end {
                regions.next();
            } else {
                break;
            }
        }
        at = end;
    }
    Ok(found)
}

/// The first byte of `from..to` that differs.
fn first(left: &[u8], right: &[u8], from: usize, to: usize) -> Option<usize> {
    (from..to).find(|index| left.get(*index) != right.get(*index))
}

/// The regions of some structures as differences.
pub(super) fn of(
    regions: &[Differing],
    disks: &Disks<'_>,
    wanted: impl Fn(&Structure) -> bool,
) -> Vec<Difference> {
    let chosen = regions
        .iter()
        .filter(|differing| wanted(&differing.region.structure));
    chosen
        .take(EACH)
        .map(|differing| plain(differing, disks))
        .collect()
}

/// A difference that is told as bytes.
pub(super) fn plain(differing: &Differing, disks: &Disks<'_>) -> Difference {
    let (structure, partition, path) = names(&differing.region.structure);
    Difference {
        structure,
        partition,
        path,
        offset: Some(differing.offset),
        detail: bytes(disks, differing.offset, differing.region.range.end),
    }
}

/// Structure, partition and path, each on its own.
fn names(structure: &Structure) -> (String, Option<String>, Option<String>) {
    match structure {
        Structure::Root {
            partition,
            part: RootPart::Erofs(part, Some(path)),
        } => {
            let part = RootPart::Erofs(*part, None);
            let path = format!("/{}", path.trim_start_matches('/'));
            (part.to_string(), Some(partition.clone()), Some(path))
        }
        Structure::Root { partition, part } => (part.to_string(), Some(partition.clone()), None),
        Structure::HashTree { partition, .. } => {
            let name = structure.to_string();
            let name = name.replacen(&format!(" {partition}"), "", 1);
            (name, Some(partition.clone()), None)
        }
        Structure::Program { path, part } => {
            (part.to_string(), Some("ESP".to_owned()), Some(path.clone()))
        }
        Structure::Esp(part) => {
            let esp = Some("ESP".to_owned());
            match part {
                EspPart::Volume(_) => (format!("FAT {part}"), esp, None),
                EspPart::Entry(path) => ("FAT entry".to_owned(), esp, Some(path.clone())),
                EspPart::EntryNotes(path) => {
                    ("FAT entry, its times".to_owned(), esp, Some(path.clone()))
                }
                EspPart::FreeEntries(path) => {
                    ("FAT free entries".to_owned(), esp, Some(path.clone()))
                }
                EspPart::File(path) => ("file".to_owned(), esp, Some(path.clone())),
                EspPart::Slack(path) => {
                    ("fill behind the file".to_owned(), esp, Some(path.clone()))
                }
            }
        }
        other => (other.to_string(), None, None),
    }
}

/// Some bytes of both from `offset` on.
fn bytes(disks: &Disks<'_>, offset: u64, end: u64) -> String {
    let length = usize::try_from(end - offset).unwrap_or(8).min(8);
    let show = |disk: &Part| match disk.up_to(offset, length) {
        Ok(bytes) if bytes.is_empty() => "nothing".to_owned(),
        Ok(bytes) => bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" "),
        Err(error) => error.to_string(),
    };
    format!(
        "at byte {offset} of the disk it has {}, not {}",
        show(disks.release),
        show(disks.rebuilt)
    )
}
