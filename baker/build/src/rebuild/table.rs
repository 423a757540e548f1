//! Partition tables that differ: which entry, and what of it.

use std::ops::Range;

use super::regions::{Differing, of, plain};
use super::{Difference, Disks};
use crate::anatomy::{Copy, Structure, TablePart};

/// The fields of an entry, after the UEFI specification, section 5.3.3.
const FIELDS: [(&str, Range<usize>); 6] = [
    ("its type", 0..16),
    ("its unique id", 16..32),
    ("its first sector", 32..40),
    ("its last sector", 40..48),
    ("its attributes", 48..56),
    ("its name", 56..128),
];

/// Differences of both copies. An entry is told by its fields; what follows from entries (the
/// checksums in the headers) only when no entry differs.
pub(super) fn compare(disks: &Disks<'_>, regions: &[Differing]) -> Vec<Difference> {
    let entries: Vec<_> = regions
        .iter()
        .filter_map(|differing| match &differing.region.structure {
            Structure::Table {
                copy,
                part: TablePart::Entry(name),
            } => Some((differing, *copy, name)),
            _ => None,
        })
        .collect();
    if entries.is_empty() {
        return of(regions, disks, |structure| {
            matches!(structure, Structure::Table { .. })
        });
    }
    entries
        .into_iter()
        .map(|(differing, copy, name)| {
            let told = plain(differing, disks);
            Difference {
                structure: match copy {
                    Copy::Primary => "GPT entry".to_owned(),
                    Copy::Backup => "GPT entry in the backup table".to_owned(),
                },
                path: Some(name.clone()),
                detail: field(disks, differing).unwrap_or_else(|| told.detail.clone()),
                ..told
            }
        })
        .collect()
}

/// The first field of an entry that differs. Read from the very bytes: a table that contradicts
/// its checksum is given up by readers, who then take the other copy.
fn field(disks: &Disks<'_>, differing: &Differing) -> Option<String> {
    let start = differing.region.range.start;
    let old = disks.release.up_to(start, 128).ok()?;
    let new = disks.rebuilt.up_to(start, 128).ok()?;
    FIELDS.iter().find_map(|(name, range)| {
        let (old, new) = (old.get(range.clone())?, new.get(range.clone())?);
        (old != new).then(|| format!("{name} is {}, not {}", shown(range, old), shown(range, new)))
    })
}

fn shown(range: &Range<usize>, field: &[u8]) -> String {
    match (range.start, field) {
        (0..32, [a, b, c, d, e, f, g, h, rest @ ..]) => {
            // The first three groups are numbers, little-endian.
            let front = [*d, *c, *b, *a, *f, *e, *h, *g];
            let hex = front.iter().chain(rest).map(|byte| format!("{byte:02x}"));
            let hex: String = hex.collect();
            let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
            let parts: Vec<_> = parts.into_iter().filter_map(|part| hex.get(part)).collect();
            parts.join("-")
        }
        (56.., name) => {
            let units = name.as_chunks::<2>().0;
            let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
            let text = String::from_utf16_lossy(&units);
            format!("{:?}", text.trim_end_matches('\0'))
        }
        (_, number) => {
            let number = number.first_chunk().copied().unwrap_or_default();
            u64::from_le_bytes(number).to_string()
        }
    }
}
