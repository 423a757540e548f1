//! A difference planted in every structure of a disk, and what is said of it.

use std::fs;
use std::sync::Arc;

use baker_formats::cpio::{Kind, Metadata, Writer};
use baker_formats::pe::{self, NewSection};

use super::*;
use crate::anatomy::tests::bench::{Bench, Format, stub};

fn part(bytes: Vec<u8>) -> Part {
    let size = bytes.len() as u64;
    Part::new(Arc::new(bytes), size)
}

/// The bench's disk, and the same with one byte of another value.
struct Planted {
    good: Vec<u8>,
    bench: Bench,
}

impl Planted {
    fn new(format: Format) -> Self {
        let bench = Bench::new(format, 1);
        let good = fs::read(bench.path("disk")).unwrap();
        Self { good, bench }
    }

    /// What is said when byte `at` of the first region called this is changed in the release.
    fn said(&self, region: &str, at: u64) -> Vec<Difference> {
        let regions = self.bench.regions(region);
        let region = regions.first().unwrap_or_else(|| panic!("no {region}"));
        let mut bad = self.good.clone();
        bad[usize::try_from(region.range.start + at).unwrap()] ^= 0x10;
        compare(&part(bad), &part(self.good.clone()), &Interrupt::new()).unwrap()
    }
}

#[test]
fn equal_disks_do_not_differ() {
    let planted = Planted::new(Format::Erofs);
    let disk = || part(planted.good.clone());
    assert_eq!(compare(&disk(), &disk(), &Interrupt::new()).unwrap(), []);
}

/// Region of the map, byte of it; structure, path and words that must be said first.
type Row = (&'static str, u64, &'static str, &'static str, &'static str);

const ROWS: [Row; 11] = [
    (
        "root minimal_1.0.0 EROFS file data of /usr/noise",
        9,
        "EROFS file data",
        "/usr/noise",
        "from byte 9 on",
    ),
    (
        "root minimal_1.0.0 EROFS inode of /etc/motd",
        4,
        "EROFS inode",
        "/etc/motd",
        "mode",
    ),
    (
        "root minimal_1.0.0 EROFS superblock",
        60,
        "EROFS superblock",
        "",
        "at byte",
    ),
    (
        "hash tree minimal_1.0.0_verity level 0",
        0,
        "hash tree level 0",
        "",
        "at byte",
    ),
    (
        "/EFI/BOOT/BOOTX64.EFI section .cmdline",
        0,
        "section .cmdline",
        "/EFI/BOOT/BOOTX64.EFI",
        "quiet",
    ),
    (
        "/EFI/BOOT/BOOTX64.EFI section .linux",
        77,
        "section .linux",
        "/EFI/BOOT/BOOTX64.EFI",
        "from its byte 77 on",
    ),
    (
        "/EFI/BOOT/BOOTX64.EFI certificate table",
        8,
        "certificate table",
        "/EFI/BOOT/BOOTX64.EFI",
        "at byte",
    ),
    (
        "ESP entry notes of /EFI",
        0,
        "FAT entry, its times",
        "/EFI",
        "at byte",
    ),
    (
        "primary GPT entry of esp",
        20,
        "GPT entry",
        "esp",
        "its unique id is",
    ),
    (
        "primary GPT header",
        60,
        "primary GPT header",
        "",
        "at byte",
    ),
    ("MBR boot code", 3, "MBR boot code", "", "at byte"),
];

#[test]
fn every_planted_difference_is_named_with_its_path() {
    let planted = Planted::new(Format::Erofs);
    let mut wrong = Vec::new();
    for (region, at, structure, path, words) in ROWS {
        let found = planted.said(region, at);
        let first = found.first().unwrap_or_else(|| panic!("{region}: nothing"));
        let told = (
            first.structure.as_str(),
            first.path.as_deref().unwrap_or(""),
        );
        if told != (structure, path) || !first.detail.contains(words) {
            wrong.push(format!("{region}: {first:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn squashfs_is_told_by_the_file_too() {
    let planted = Planted::new(Format::Squashfs);
    let found = planted.said("root minimal_1.0.0 SquashFS data", 40);
    let first = found.first().unwrap();
    assert!(first.structure.starts_with("SquashFS"), "{first:?}");
}

/// An archive whose file shows this time.
fn archive(mtime: u32) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, data) in [(&b"init"[..], &b"program"[..]), (b"modules.list", b"x\n")] {
        let metadata = Metadata {
            mode: 0o755,
            mtime: if path == b"init" { 7 } else { mtime },
            ..Metadata::default()
        };
        let file = Kind::File {
            size: data.len() as u64,
            data: &mut &data[..],
        };
        writer.append(path, metadata, file).unwrap();
    }
    writer.finish().unwrap()
}

fn with_initrd(initrd: &[u8]) -> Vec<u8> {
    let sections = [
        NewSection::new(".cmdline", b"quiet"),
        NewSection::new(".initrd", initrd),
    ];
    let uki = pe::append(&stub(), &sections).unwrap();
    let bench = Bench::with_uki(Format::Erofs, 1, uki);
    fs::read(bench.path("disk")).unwrap()
}

#[test]
fn members_of_a_packed_initramfs_are_named() {
    let pack = |mtime| zstd::encode_all(&*archive(mtime), 3).unwrap();
    let release = with_initrd(&pack(123_456));
    let rebuilt = with_initrd(&pack(7));
    let found = compare(&part(release), &part(rebuilt), &Interrupt::new()).unwrap();
    let first = found.first().unwrap();
    assert_eq!(first.structure, "section .initrd, cpio member modules.list");
    assert_eq!(first.detail, "its mtime is 123456, not 7");
}

#[test]
fn a_truncated_disk_is_a_difference() {
    let planted = Planted::new(Format::Erofs);
    let half = planted.good[..planted.good.len() / 2].to_vec();
    let found = compare(&part(half), &part(planted.good), &Interrupt::new()).unwrap();
    assert_eq!(found[0].structure, "disk");
}
