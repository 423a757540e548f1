//! Sector 0 and both copies of the partition table.

use baker_model::layout::SECTOR;

use super::structure::{Copy, MbrPart, Structure, TablePart};
use super::{AnatomyError, Map};

/// Adds MBR and table; a copy that is damaged beyond knowing is left as a gap.
pub(super) fn map(map: &mut Map<'_>, size: u64) -> Result<(), AnatomyError> {
    for (range, part) in [
        (0..446, MbrPart::BootCode),
        (446..510, MbrPart::Entries),
        (510..512, MbrPart::Signature),
    ] {
        map.add(range, Structure::Mbr(part));
    }
    copy(map, Copy::Primary, SECTOR)?;
    copy(map, Copy::Backup, size.saturating_sub(SECTOR))
}

/// UEFI specification, section 5.3.2.
fn copy(map: &mut Map<'_>, copy: Copy, at: u64) -> Result<(), AnatomyError> {
    let mut header = [0; 512];
    map.read(at, &mut header)?;
    let number = |at: usize| -> u64 {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u32::from_le_bytes(bytes).into()
    };
    let (length, count, entry_size) = (number(12), number(80), number(84));
    let entries = (number(72) | number(76) << 32).checked_mul(SECTOR);
    let sound = header.starts_with(b"EFI PART") && (92..=SECTOR).contains(&length);
    // What `gpt::read` takes, too.
    let (Some(entries), true) = (entries, sound && count <= 1024 && entry_size == 128) else {
        return Ok(());
    };
    let mut add = |range, part| map.add(range, Structure::Table { copy, part });
    add(at..at + length, TablePart::Header);
    add(at + length..at + SECTOR, TablePart::HeaderRest);
    let mut free: Option<std::ops::Range<u64>> = None;
    for index in 0..count {
        let range = entries + index * entry_size..entries + (index + 1) * entry_size;
        let mut entry = [0; 128];
        map.read(range.start, &mut entry)?;
        if entry[..16] == [0; 16] {
            match &mut free {
                Some(free) => free.end = range.end,
                None => free = Some(range),
            }
            continue;
        }
        let part = TablePart::Entry(name(&entry));
        map.add(range, Structure::Table { copy, part });
        if let Some(range) = free.take() {
            let part = TablePart::FreeEntries;
            map.add(range, Structure::Table { copy, part });
        }
    }
    if let Some(range) = free {
        let part = TablePart::FreeEntries;
        map.add(range, Structure::Table { copy, part });
    }
    Ok(())
}

fn name(entry: &[u8; 128]) -> String {
    let units = entry[56..]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0);
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}
