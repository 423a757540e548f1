//! Volumes judged by `fsck.fat` and read back by mtools.

use std::io::Cursor;
use std::path::Path;

use super::*;
use crate::judge::{judge, run};

const MIB: u64 = 1 << 20;

/// A disk with a volume on it that begins at `offset`.
fn disk(size: u64, offset: u64, files: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, FatError> {
    let mut out = Cursor::new(vec![0; usize::try_from(offset + size).unwrap()]);
    let mut readers: Vec<_> = files.iter().map(|(_, data)| &data[..]).collect();
    let mut files: Vec<_> = files
        .iter()
        .zip(&mut readers)
        .map(|((path, data), reader)| File {
            path,
            size: data.len() as u64,
            data: reader,
        })
        .collect();
    let volume = Volume {
        offset,
        size,
        id: 0x1234_abcd,
        label: "ESP",
        time: 1_763_769_600,
    };
    write(&mut out, &volume, &mut files)?;
    Ok(out.into_inner())
}

fn sample() -> Vec<(&'static str, Vec<u8>)> {
    let big = (0..9_000_000_u32)
        .flat_map(u32::to_le_bytes)
        .take(9_000_001)
        .collect();
    vec![
        ("EFI/BOOT/BOOTX64.EFI", big),
        ("EFI/Linux/minimal_1.0.0+3.efi", vec![3; 70_000]),
        ("loader/loader.conf", b"timeout 0\n".to_vec()),
        ("loader/entries/deep/er/empty", Vec::new()),
        ("a long name in the root.txt", b"x".to_vec()),
    ]
}

fn check_with_judges(volume: &Path, files: &[(&str, Vec<u8>)]) {
    if let Some(mut fsck) = judge("fsck.fat") {
        let (good, said) = run(fsck.arg("-nv").arg(volume));
        assert!(good && !said.contains("ifferences"), "{said}");
        // Plain `-n` counts files and clusters in its last line, and names whatever it would mend
        // before.
        let (_, said) = run(judge("fsck.fat").unwrap().arg("-n").arg(volume));
        assert_eq!(said.lines().count(), 2, "{said}");
    }
    if judge("mtype").is_some() {
        for (path, data) in files {
            let mut copy = judge("mcopy").unwrap();
            let target = volume.with_extension("copy");
            copy.args(["-n", "-o", "-i"])
                .arg(volume)
                .arg(format!("::/{path}"))
                .arg(&target);
            let (good, said) = run(&mut copy);
            assert!(good, "{path}: {said}");
            assert!(std::fs::read(&target).unwrap() == *data, "{path}");
        }
        let (good, said) = run(judge("mdir")
            .unwrap()
            .args(["-/", "-i"])
            .arg(volume)
            .arg("::"));
        assert!(good && said.contains("2025-11-22"), "{said}");
        assert!(said.contains("minimal_1.0.0+3.efi"), "{said}");
        assert!(said.contains("Volume in drive : is ESP"), "{said}");
    }
}

#[test]
fn volumes_of_both_widths_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    for (size, width) in [
        (12 * MIB, 16),
        (20 * MIB, 16),
        (33 * MIB, 32),
        (34 * MIB, 32),
        (70 * MIB, 32),
        (300 * MIB, 32),
    ] {
        let bytes = disk(size, MIB, &sample()).unwrap();
        let volume = &bytes[1 << 20..];
        let text = format!("FAT{width}   ");
        let at = if width == 32 { 82 } else { 54 };
        assert_eq!(volume[at..at + 8], *text.as_bytes(), "{size}");
        assert_eq!(volume[28..32], 2048_u32.to_le_bytes(), "hidden sectors");
        assert!(bytes[..1 << 20].iter().all(|&byte| byte == 0));
        let path = folder.path().join("esp");
        std::fs::write(&path, volume).unwrap();
        check_with_judges(&path, &sample());
    }
}

#[test]
fn two_runs_are_equal_and_pinned() {
    let bytes = disk(34 * MIB, 0, &sample()).unwrap();
    assert!(bytes == disk(34 * MIB, 0, &sample()).unwrap());
    assert_eq!(
        baker_model::Digest::of(&bytes).to_string(),
        "cd3de1894bad8fcf98d857ff7b65ba4675ab1c36ea5581dd7c2c4f694354337f"
    );
}

#[test]
fn a_folder_of_several_clusters_is_mended_too() {
    let names: Vec<_> = (0..120)
        .map(|index| format!("dir/a file with number {index}"))
        .collect();
    let files: Vec<_> = names
        .iter()
        .map(|name| (&**name, name.clone().into_bytes()))
        .collect();
    let bytes = disk(34 * MIB, 0, &files).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("esp");
    std::fs::write(&path, bytes).unwrap();
    if let Some(mut fsck) = judge("fsck.fat") {
        let (good, said) = run(fsck.arg("-n").arg(&path));
        assert!(good && said.contains("122 files"), "{said}");
    }
}

#[test]
fn the_promised_size_is_enough() {
    for sizes in [vec![], vec![40_000_000], vec![18_000_000; 3], vec![1; 100]] {
        let size = volume_size(sizes.iter().copied());
        let names: Vec<_> = (0..sizes.len())
            .map(|index| format!("EFI/Linux/x{index}"))
            .collect();
        let data = sizes
            .iter()
            .map(|&size| vec![1; usize::try_from(size).unwrap()]);
        let files: Vec<_> = names.iter().map(|name| &**name).zip(data).collect();
        disk(size, 0, &files).unwrap();
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let row = |path| disk(34 * MIB, 0, &[(path, vec![1])]).unwrap_err();
    for path in ["", "/a", "a//b", "a:b", "ä", "a.", "a/../b", "a/ "] {
        assert!(matches!(row(path), FatError::Path { .. }), "{path}");
    }
    let twice = disk(34 * MIB, 0, &[("a/B", vec![]), ("A/b", vec![])]).unwrap_err();
    assert!(matches!(twice, FatError::Path { .. }));
    assert!(matches!(disk(MIB, 0, &[]), Err(FatError::Size { .. })));
    assert!(matches!(
        disk(34 * MIB + 1, 0, &[]),
        Err(FatError::Size { .. })
    ));
    let full = disk(34 * MIB, 0, &[("a", vec![1; 34 << 20])]);
    assert!(matches!(full, Err(FatError::Full { .. })));
    let mut short: &[u8] = b"abc";
    let mut files = [File {
        path: "a",
        size: 4,
        data: &mut short,
    }];
    let volume = Volume {
        offset: 0,
        size: 34 * MIB,
        id: 1,
        label: "ESP",
        time: 0,
    };
    let mut out = Cursor::new(vec![0; 34 << 20]);
    assert!(matches!(
        write(&mut out, &volume, &mut files),
        Err(FatError::File { .. })
    ));
    let volume = Volume {
        label: "esp",
        ..volume
    };
    assert!(matches!(
        write(&mut out, &volume, &mut []),
        Err(FatError::Label { .. })
    ));
}

#[test]
fn a_volume_is_read_back() {
    let files = sample();
    let mut input = Cursor::new(disk(40 * MIB, MIB, &files).unwrap());
    let mut expected: Vec<_> = files
        .iter()
        .map(|(path, data)| Found {
            path: (*path).to_owned(),
            size: data.len() as u64,
        })
        .collect();
    expected.sort_by(|one, other| one.path.cmp(&other.path));
    assert_eq!(list(&mut input, MIB, 40 * MIB).unwrap(), expected);
    for (path, data) in &files {
        let read = read(&mut input, MIB, 40 * MIB, path, 10_000_000).unwrap();
        assert!(read == *data, "{path}");
    }
    let gone = read(&mut input, MIB, 40 * MIB, "EFI/gone", 1);
    assert!(matches!(gone, Err(FatError::ReadFile { .. })));
    let large = read(&mut input, MIB, 40 * MIB, "loader/loader.conf", 9);
    assert!(matches!(large, Err(FatError::ReadFile { .. })));
}

#[test]
fn a_volume_that_others_changed_is_read() {
    let Some(mut rename) = judge("mren") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("volume");
    std::fs::write(&path, disk(40 * MIB, 0, &sample()).unwrap()).unwrap();
    let from = "::/EFI/Linux/minimal_1.0.0+3.efi";
    let to = "::/EFI/Linux/minimal_1.0.0+2-1.efi";
    let (good, said) = run(rename.arg("-i").arg(&path).args([from, to]));
    assert!(good, "{said}");
    let mut input = Cursor::new(std::fs::read(&path).unwrap());
    let found = list(&mut input, 0, 40 * MIB).unwrap();
    assert!(
        found
            .iter()
            .any(|file| file.path == "EFI/Linux/minimal_1.0.0+2-1.efi" && file.size == 70_000),
        "{found:?}"
    );
}

#[test]
fn damage_is_no_panic_and_no_endless_walk() {
    let mut input = Cursor::new(disk(34 * MIB, 0, &sample()).unwrap());
    // Boot sector, first sectors of both tables, and the first clusters: where the structures are.
    let places = (0..512).chain((16_384..600_000).step_by(997));
    for place in places {
        input.get_mut()[place] ^= 0xff;
        drop(list(&mut input, 0, 34 * MIB));
        input.get_mut()[place] ^= 0xff;
    }
    let mut nothing = Cursor::new(vec![0; 1 << 20]);
    assert!(matches!(list(&mut nothing, 0, MIB), Err(FatError::Read(_))));
}
