//! Images that are what they say, and images that name other files.

use std::fs::File;
use std::io::Cursor;
use std::path::Path;

use super::*;
use crate::judge::{judge, run};

fn told(bytes: &[u8]) -> String {
    match identify(&mut Cursor::new(bytes)) {
        Ok(kind) => kind.name().to_owned(),
        Err(error) => error.to_string(),
    }
}

/// An image of `length` bytes with these at their places.
fn image(length: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (offset, part) in parts {
        bytes[*offset..*offset + part.len()].copy_from_slice(part);
    }
    bytes
}

fn footer(kind: u8) -> Vec<u8> {
    let mut footer = image(512, &[(0, b"conectix"), (63, &[kind])]);
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

#[test]
fn kinds_are_told_by_their_bytes() {
    let sector = |byte| [byte; 512].to_vec();
    let wrong_sum = image(512, &[(0, b"conectix"), (63, &[2])]);
    let rows: [(&[u8], &str); 18] = [
        (b"", "the image is empty"),
        (b"x", "raw"),
        (&image(70_000, &[(510, b"\x55\xaa")]), "raw"),
        (
            &image(70_000, &[(0x8001, b"CD001"), (510, b"\x55\xaa")]),
            "iso",
        ),
        (&[sector(1), footer(2)].concat(), "vhd"),
        (&[footer(3), sector(1), footer(3)].concat(), "vhd"),
        (&[sector(1), footer(4)].concat(), "differences"),
        (&[sector(1), wrong_sum].concat(), "raw"),
        (&image(512, &[(0, b"QFI\xfb\0\0\0\x02")]), "qcow2"),
        (&image(512, &[(0, b"QFI\xfb\0\0\0\x01")]), "version"),
        (b"QFI\xfb\0\0\0\x03", "header"),
        (
            &image(512, &[(0, b"QFI\xfb\0\0\0\x03"), (35, &[1])]),
            "encrypted",
        ),
        (
            b"# Disk DescriptorFile\nversion=1\nRW 9 FLAT \"/etc/shadow\" 0\n",
            "`/etc/shadow`",
        ),
        (b"\n # c\nversion=1\nRW 9 FLAT \"a\" 0\n", "`a`"),
        (&image(512, &[(0, b"KDMV")]), "its data is another file"),
        (b"KDMV", "damaged"),
        (&image(512, &[(257, b"ustar")]), "tar"),
        (b"\xfd7zXZ\0", "xz"),
    ];
    for (bytes, expected) in rows {
        let told = told(bytes);
        assert!(told.contains(expected), "{expected}: {told}");
    }
}

#[test]
fn every_refusal_has_its_mend() {
    for (offset, magic, what, _) in STRANGERS {
        let bytes = image(1024, &[(offset, magic)]);
        let error = identify(&mut Cursor::new(bytes)).unwrap_err();
        assert!(error.to_string().contains(what));
        assert!(error.mend().is_some());
    }
}

/// What QEMU's own tool makes; none without the tool.
fn made(folder: &Path, name: &str, arguments: &[&str]) -> Option<Result<Kind, MediumError>> {
    let mut tool = judge("qemu-img")?;
    let path = folder.join(name);
    let (ok, said) = run(tool.current_dir(folder).arg("create").args(arguments));
    assert!(ok, "{said}");
    Some(identify(&mut File::open(path).unwrap()))
}

#[test]
fn images_of_the_foreign_tool_are_told_and_their_references_seen() {
    let folder = tempfile::tempdir().unwrap();
    let whole: [(&str, &[&str], Kind); 7] = [
        ("a.qcow2", &["-fqcow2", "a.qcow2", "1M"], Kind::Qcow2),
        (
            "2.qcow2",
            &["-fqcow2", "-ocompat=0.10", "2.qcow2", "1M"],
            Kind::Qcow2,
        ),
        ("a.vmdk", &["-fvmdk", "a.vmdk", "1M"], Kind::Vmdk),
        (
            "s.vmdk",
            &["-fvmdk", "-osubformat=streamOptimized", "s.vmdk", "1M"],
            Kind::Vmdk,
        ),
        ("a.vhd", &["-fvpc", "a.vhd", "1M"], Kind::Vhd),
        (
            "f.vhd",
            &["-fvpc", "-osubformat=fixed", "f.vhd", "1M"],
            Kind::Vhd,
        ),
        ("a.raw", &["-fraw", "a.raw", "1M"], Kind::Raw),
    ];
    for (name, arguments, expected) in whole {
        let Some(kind) = made(folder.path(), name, arguments) else {
            return;
        };
        assert_eq!(kind.unwrap(), expected, "{name}");
    }
    let parts: [(&str, &[&str], &str); 6] = [
        (
            "b.qcow2",
            &["-fqcow2", "-ba.qcow2", "-Fqcow2", "b.qcow2"],
            "backing file is another file, `a.qcow2`",
        ),
        (
            "d.qcow2",
            &["-fqcow2", "-odata_file=d.data", "d.qcow2", "1M"],
            "data is another file, `d.data`",
        ),
        (
            "b.vmdk",
            &["-fvmdk", "-ba.vmdk", "-Fvmdk", "b.vmdk"],
            "parent is another file, `a.vmdk`",
        ),
        (
            "m.vmdk",
            &["-fvmdk", "-osubformat=monolithicFlat", "m.vmdk", "1M"],
            "data is another file, `m-flat.vmdk`",
        ),
        ("x.vhdx", &["-fvhdx", "x.vhdx", "1M"], "VHDX"),
        ("x.vdi", &["-fvdi", "x.vdi", "1M"], "VDI"),
    ];
    for (name, arguments, expected) in parts {
        let refused = made(folder.path(), name, arguments).unwrap().unwrap_err();
        assert!(refused.to_string().contains(expected), "{name}: {refused}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        magic in proptest::sample::select(vec![&b"QFI\xfb\0\0\0\x03"[..], b"KDMV", b"# Disk DescriptorFile\n", b"conectix"]),
        rest in proptest::collection::vec(proptest::num::u8::ANY, 0..2048),
    ) {
        drop(identify(&mut Cursor::new([magic, &rest].concat())));
    }
}
