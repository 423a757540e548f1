//! The root file system: EROFS inode by inode, `SquashFS` table by table.

use baker_formats::erofs;
use baker_formats::io::{Slice, Source};
use baker_model::layout::Partition;

use super::structure::{RootPart, SquashfsPart, Structure};
use super::{AnatomyError, Map, partition_error};

/// Where the magic number of EROFS lies, and the number.
const EROFS: (u64, [u8; 4]) = (1024, 0xe0f5_e1e2_u32.to_le_bytes());

/// The same of `SquashFS`.
const SQUASHFS: (u64, [u8; 4]) = (0, *b"hsqs");

/// Bytes of the superblock of `SquashFS`.
const SQUASHFS_SUPER: u64 = 96;

/// Adds everything of a root partition.
pub(super) fn map(map: &mut Map<'_>, partition: &Partition) -> Result<(), AnatomyError> {
    let start = partition.offset;
    let slice = Slice::new(map.disk, start..start + partition.size);
    let has = |(at, magic): (u64, [u8; 4])| -> Result<bool, AnatomyError> {
        let mut found = [0; 4];
        map.read(start + at, &mut found)?;
        Ok(found == magic)
    };
    let (erofs, squashfs) = (has(EROFS)?, has(SQUASHFS)?);
    let parts = if erofs {
        erofs::pieces(&slice)
            .map_err(|error| partition_error(partition, error))?
            .into_iter()
            .map(|piece| (piece.range, RootPart::Erofs(piece.part, piece.path)))
            .collect()
    } else if squashfs {
        squashfs_parts(&slice).map_err(|error| partition_error(partition, error))?
    } else {
        let partition_name = partition.name.clone();
        let structure = Structure::Data {
            partition: partition_name,
        };
        map.add(start..start + partition.size, structure);
        return Ok(());
    };
    let mut end = 0;
    let named = |part| Structure::Root {
        partition: partition.name.clone(),
        part,
    };
    for (range, part) in parts {
        end = range.end;
        map.add(start + range.start..start + range.end, named(part));
    }
    map.add(start + end..start + partition.size, named(RootPart::Rest));
    Ok(())
}

type Parts = Vec<(std::ops::Range<u64>, RootPart)>;

/// The tables by the superblock's places (`struct squashfs_super_block`,
/// `fs/squashfs/squashfs_fs.h`); each reaches to the next.
fn squashfs_parts(slice: &Slice<'_>) -> Result<Parts, String> {
    let mut head = [0; 96];
    slice
        .read_exact_at(0, &mut head)
        .map_err(|error| format!("cannot read the superblock: {error}"))?;
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let used = number(40);
    if used > slice.size() {
        return Err(format!("SquashFS has {used} bytes, its partition fewer"));
    }
    // Of these four the superblock names a list of places, or a header, behind the table itself;
    // its first eight bytes say where the table begins.
    let behind = |at: usize| -> Result<u64, String> {
        let list = number(at);
        let mut first = [0; 8];
        if list == u64::MAX {
            return Ok(list);
        }
        slice
            .read_exact_at(list, &mut first)
            .map_err(|error| format!("cannot read a list of tables: {error}"))?;
        let first = u64::from_le_bytes(first);
        Ok(if (SQUASHFS_SUPER..list).contains(&first) {
            first
        } else {
            list
        })
    };
    let mut tables = vec![
        (0, SquashfsPart::SuperBlock),
        (SQUASHFS_SUPER, SquashfsPart::Data),
        (number(64), SquashfsPart::Inodes),
        (number(72), SquashfsPart::Directories),
        (behind(80)?, SquashfsPart::Fragments),
        (behind(88)?, SquashfsPart::Exports),
        (behind(48)?, SquashfsPart::Owners),
        (behind(56)?, SquashfsPart::Attributes),
    ];
    // All bits set: there is no such table.
    tables.retain(|(at, _)| *at != u64::MAX);
    tables.sort_by_key(|(at, _)| *at);
    let ends = tables.iter().skip(1).map(|(at, _)| *at).chain([used]);
    let ends: Vec<u64> = ends.collect();
    if ends.iter().any(|end| *end > used) {
        return Err("a table of SquashFS lies outside of it".to_owned());
    }
    // The image is filled up to whole blocks; the hash tree covers the fill, too.
    let end = used.next_multiple_of(4096).min(slice.size());
    let mut parts: Parts = tables
        .into_iter()
        .zip(ends)
        .map(|((start, part), end)| (start..end, RootPart::Squashfs(part)))
        .collect();
    if let Some((range, _)) = parts.last_mut() {
        range.end = end;
    }
    Ok(parts)
}
