//! Beside QEMU's own tool: what it writes is read as what went in.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::judge::{judge, run};

/// A disk with patterns, holes, and bytes that do not compress; no whole number of clusters.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; (5 << 20) + 512 * 7];
    let mut state = 1_u32;
    for (index, byte) in disk.iter_mut().enumerate() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = match index >> 16 {
            3..9 => state.to_be_bytes()[0],
            20..40 => u8::try_from(index >> 12 & 0xff).unwrap(),
            70.. => 7,
            _ => 0,
        };
    }
    disk
}

fn opened(path: &Path) -> Result<Medium, MediumError> {
    let file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    open(Part::new(Arc::new(file), size))
}

#[test]
fn what_the_foreign_tool_writes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk();
    std::fs::write(folder.path().join("raw"), &disk).unwrap();
    let rows: [(&[&str], Kind); 10] = [
        (&["-Oraw"], Kind::Raw),
        (&["-Oqcow2"], Kind::Qcow2),
        (&["-c", "-Oqcow2"], Kind::Qcow2),
        (&["-c", "-Oqcow2", "-ocompression_type=zstd"], Kind::Qcow2),
        (&["-c", "-Oqcow2", "-ocluster_size=4096"], Kind::Qcow2),
        (&["-Oqcow2", "-ocompat=0.10"], Kind::Qcow2),
        (&["-Ovmdk"], Kind::Vmdk),
        (&["-Ovmdk", "-osubformat=streamOptimized"], Kind::Vmdk),
        (&["-Ovpc", "-osubformat=dynamic,force_size=on"], Kind::Vhd),
        (&["-Ovpc", "-osubformat=fixed,force_size=on"], Kind::Vhd),
    ];
    for (arguments, kind) in rows {
        let Some(mut tool) = judge("qemu-img") else {
            return;
        };
        let tool = tool.current_dir(folder.path()).arg("convert");
        let (ok, said) = run(tool.args(["-fraw"]).args(arguments).args(["raw", "image"]));
        assert!(ok, "{said}");
        let medium = opened(&folder.path().join("image")).unwrap();
        assert_eq!(medium.kind, kind, "{arguments:?}");
        assert_eq!(medium.disk.size(), disk.len() as u64, "{arguments:?}");
        let mut found = vec![1; disk.len()];
        medium.disk.read_exact_at(0, &mut found).unwrap();
        assert!(found == disk, "{arguments:?}");
        // Across the borders of clusters, from the middle of one.
        let mut piece = vec![1; 300_001];
        medium.disk.read_exact_at(200_003, &mut piece).unwrap();
        assert!(piece == disk[200_003..500_004], "{arguments:?}");
    }
}

#[test]
fn tables_that_make_no_sense_are_refused() {
    let header = |parts: &[(usize, &[u8])]| {
        let mut bytes = vec![0; 4096];
        for (at, part) in parts {
            bytes[*at..*at + part.len()].copy_from_slice(part);
        }
        Part::new(Arc::new(bytes), 4096)
    };
    let magic: (usize, &[u8]) = (0, b"QFI\xfb\0\0\0\x03");
    let rows = [
        (header(&[magic, (23, &[60])]), "impossible size"),
        (
            header(&[magic, (23, &[16]), (24, &[0xff; 8])]),
            "first table",
        ),
        (header(&[magic, (23, &[16]), (79, &[0x10])]), "features"),
        (header(&[(0, b"KDMV"), (12, &[1])]), "grains"),
    ];
    for (image, words) in rows {
        let error = open(image).map(drop).expect_err(words);
        let text = format!("{error}: {:?}", std::error::Error::source(&error));
        assert!(text.contains(words), "{words}: {text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        magic in proptest::sample::select(vec![&b"QFI\xfb\0\0\0\x03"[..], b"KDMV", b"conectix"]),
        rest in proptest::collection::vec(proptest::num::u8::ANY, 512..2048),
    ) {
        let bytes = [magic, &rest].concat();
        let size = bytes.len() as u64;
        if let Ok(medium) = open(Part::new(Arc::new(bytes), size)) {
            let mut piece = [0; 100];
            drop(medium.disk.read_exact_at(0, &mut piece));
        }
    }
}
