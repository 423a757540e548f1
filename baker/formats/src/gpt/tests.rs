//! Tables on disks full of junk, judged by `sgdisk` and `sfdisk`.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::judge::{judge, run};

const MIB: u64 = 1 << 20;

fn partition(name: &str, role: Role, type_uuid: &str, offset: u64, size: u64) -> Partition {
    let digest = baker_model::Digest::of(name.as_bytes());
    let attributes = if role == Role::Root { 1 << 60 } else { 0 };
    let (name, type_uuid) = (name.to_owned(), type_uuid.to_owned());
    Partition {
        role,
        name,
        type_uuid,
        uuid: digest.to_uuid_bytes(),
        offset,
        size,
        attributes,
    }
}

fn layout() -> Layout {
    let partitions = vec![
        partition("esp", Role::Esp, partition_type::ESP, MIB, 33 * MIB),
        partition(
            "web_1.0.0",
            Role::Root,
            partition_type::ROOT_X86_64,
            34 * MIB,
            MIB + 4096,
        ),
        partition("grün", Role::Data, partition_type::VAR, 36 * MIB, 2 * MIB),
    ];
    Layout {
        disk_uuid: *b"0123456789abcdef",
        size: 39 * MIB,
        partitions,
    }
}

/// A disk full of junk with the table of `layout` on it.
fn written(layout: &Layout) -> Vec<u8> {
    let mut disk = Cursor::new(vec![0xa5; usize::try_from(layout.size).unwrap()]);
    write(layout, &mut disk).unwrap();
    disk.into_inner()
}

#[test]
fn what_is_written_is_read_back_and_only_tables_are_touched() {
    let layout = layout();
    let bytes = written(&layout);
    assert_eq!(bytes, written(&layout));
    assert_eq!(read(&mut Cursor::new(&bytes)).unwrap(), layout);
    let (table, end) = (34 * 512, bytes.len() - 33 * 512);
    assert!(bytes[table..end].iter().all(|&byte| byte == 0xa5));
    let mut damaged = bytes;
    damaged[520] ^= 1;
    assert_eq!(read(&mut Cursor::new(&damaged)).unwrap(), layout);
    let last = damaged.len() - 500;
    damaged[last] ^= 1;
    assert!(matches!(
        read(&mut Cursor::new(&damaged)),
        Err(GptError::Read(_))
    ));
}

#[test]
fn sgdisk_and_sfdisk_find_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    std::fs::write(&path, written(&layout())).unwrap();
    if let Some(mut sgdisk) = judge("sgdisk") {
        let (good, said) = run(sgdisk.arg("-v").arg(&path));
        assert!(good && said.contains("No problems found"), "{said}");
        let (_, said) = run(judge("sgdisk").unwrap().args(["-i", "2"]).arg(&path));
        assert!(said.contains("Partition name: 'web_1.0.0'"), "{said}");
        assert!(said.contains("Attribute flags: 1000000000000000"), "{said}");
        assert!(
            said.to_lowercase().contains(partition_type::ROOT_X86_64),
            "{said}"
        );
    }
    if let Some(mut sfdisk) = judge("sfdisk") {
        let (good, said) = run(sfdisk.arg("--verify").arg(&path));
        assert!(good && said.contains("No errors detected"), "{said}");
        let (_, said) = run(judge("sfdisk").unwrap().arg("--dump").arg(&path));
        assert!(
            said.contains("label-id: 30313233-3435-3637-3839-616263646566"),
            "{said}"
        );
    }
}

#[test]
fn contradictions_are_refused() {
    let change = |with: fn(&mut Layout)| {
        let mut layout = layout();
        with(&mut layout);
        let size = usize::try_from(layout.size).unwrap();
        write(&layout, &mut Cursor::new(vec![0; size]))
            .unwrap_err()
            .to_string()
    };
    for (error, expected) in [
        (
            change(|layout| layout.partitions[1].offset -= 512),
            "overlaps",
        ),
        (
            change(|layout| layout.partitions[0].offset = 512),
            "overlaps",
        ),
        (
            change(|layout| layout.partitions[2].size = 3 * MIB),
            "last usable sector",
        ),
        (
            change(|layout| layout.partitions[2].size = u64::MAX - 511),
            "last usable sector",
        ),
        (change(|layout| layout.partitions[2].size = 0), "is empty"),
        (
            change(|layout| layout.partitions[2].name = "n".repeat(37)),
            "36 UTF-16 units",
        ),
        (
            change(|layout| layout.partitions[2].type_uuid = "x".into()),
            "no UUID",
        ),
        (change(|layout| layout.size = 512), "too small"),
    ] {
        assert!(error.contains(expected), "{error} / {expected}");
    }
    let mut short = Cursor::new(vec![0; 1024]);
    assert!(matches!(
        write(&layout(), &mut short),
        Err(GptError::Layout { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Headers with any values under a right checksum, primary and backup alike.
    #[test]
    fn hostile_headers_never_panic(
        changes in prop::collection::vec((8_usize..92, any::<u8>()), 1..6),
        both in any::<bool>(),
    ) {
        let mut bytes = written(&layout());
        let backup = bytes.len() - 512;
        for start in if both { vec![512, backup] } else { vec![512] } {
            let header = &mut bytes[start..start + 92];
            for &(at, value) in &changes {
                header[at] = value;
            }
            header[16..20].fill(0);
            let mut crc = flate2::Crc::new();
            crc.update(header);
            header[16..20].copy_from_slice(&crc.sum().to_le_bytes());
        }
        drop(read(&mut Cursor::new(bytes)));
    }
}

#[test]
fn odd_entry_sizes_and_counts_are_errors() {
    for (at, value) in [(80, 1 << 30), (84, 256_u32)] {
        let mut bytes = written(&layout());
        bytes[512 + at..516 + at].copy_from_slice(&value.to_le_bytes());
        let header = &mut bytes[512..604];
        header[16..20].fill(0);
        let mut crc = flate2::Crc::new();
        crc.update(header);
        header[16..20].copy_from_slice(&crc.sum().to_le_bytes());
        assert!(matches!(
            read(&mut Cursor::new(bytes)),
            Err(GptError::Read(_))
        ));
    }
}
