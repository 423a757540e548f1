//! Packages made here byte by byte, and by `dpkg-deb` where it is installed.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::tar::Kind;

/// One tar entry: header with the right checksum, data, padding.
fn tar_entry(path: &str, flag: u8, link: &str, data: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 512];
    let mut put = |offset: usize, text: &str| {
        block[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, path);
    put(100, "0004755");
    put(108, "0000012");
    put(116, "0000013");
    put(124, &format!("{:011o}", data.len()));
    put(136, "00000001750");
    put(157, link);
    put(257, "ustar\x0000");
    put(329, "0000005");
    put(337, "0000001");
    block[156] = flag;
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut bytes = block.to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn tar_of(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn compress(suffix: &str, bytes: &[u8]) -> Vec<u8> {
    match suffix {
        ".gz" => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        ".xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        ".zst" => zstd::encode_all(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}

fn ar_of(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, data) in members {
        let size = data.len();
        bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644).bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

/// Every kind of entry; `long` gets its name from a pax record and an attribute with it.
fn data_tar() -> Vec<u8> {
    let pax = b"27 path=./usr/bin/from-pax\n33 SCHILY.xattr.security.c=a\0b\nc\n";
    tar_of(&[
        tar_entry("./", b'5', "", b""),
        tar_entry("./file", b'0', "", &[7; 700]),
        tar_entry("./hard", b'1', "./file", b""),
        tar_entry("./soft", b'2', "../up", b""),
        tar_entry("./null", b'3', "", b""),
        tar_entry("./disk", b'4', "", b""),
        tar_entry("./pipe", b'6', "", b""),
        tar_entry(
            "././@LongLink",
            b'L',
            "",
            format!("./{}\0", "n".repeat(200)).as_bytes(),
        ),
        tar_entry("cut", b'0', "", b"x"),
        tar_entry("pax", b'x', "", pax),
        tar_entry("cut", b'0', "", b"y"),
    ])
}

fn package(suffix: &str) -> Vec<u8> {
    let control = tar_of(&[
        tar_entry("./", b'5', "", b""),
        tar_entry("./control", b'0', "", b"Package: a\n"),
        tar_entry("./postinst", b'0', "", b"#!/bin/sh\n"),
    ]);
    ar_of(&[
        ("debian-binary/", b"2.0\n".to_vec()),
        ("_ignored", b"abc".to_vec()),
        (&format!("control.tar{suffix}"), compress(suffix, &control)),
        (&format!("data.tar{suffix}"), compress(suffix, &data_tar())),
        ("_later", b"x".to_vec()),
    ])
}

/// Reads all of it; entries as path, kind and bytes.
fn read_all(bytes: &[u8], threads: u32) -> anyhow::Result<Vec<(tar::Header, Vec<u8>)>> {
    let limits = Limits {
        threads,
        ..Limits::default()
    };
    let mut deb = Deb::open(bytes, &limits)?;
    let mut entries = Vec::new();
    while let Some(mut entry) = deb.next_entry()? {
        let mut data = Vec::new();
        entry.read_to_end(&mut data)?;
        entries.push((entry.header, data));
    }
    Ok(entries)
}

#[test]
fn every_kind_of_entry_in_every_compression() {
    for (suffix, threads) in [("", 1), (".gz", 1), (".xz", 1), (".xz", 2), (".zst", 1)] {
        let bytes = package(suffix);
        let mut deb = Deb::open(bytes.as_slice(), &Limits::default()).unwrap();
        assert_eq!(deb.control()["postinst"], b"#!/bin/sh\n");
        assert_eq!(deb.take_control().len(), 2);
        let entries = read_all(&bytes, threads).unwrap();
        let kinds: Vec<_> = entries
            .iter()
            .map(|(header, _)| header.kind.clone())
            .collect();
        let expected = [
            Kind::Directory,
            Kind::File,
            Kind::HardLink {
                target: b"./file".to_vec(),
            },
            Kind::Symlink {
                target: b"../up".to_vec(),
            },
            Kind::CharDevice { major: 5, minor: 1 },
            Kind::BlockDevice { major: 5, minor: 1 },
            Kind::Fifo,
            Kind::File,
            Kind::File,
        ];
        assert_eq!(kinds, expected);
        let (file, data) = &entries[1];
        assert_eq!(
            (file.mode, file.uid, file.gid, file.mtime),
            (0o4755, 10, 11, 1000)
        );
        assert_eq!((file.size, data.len()), (700, 700));
        assert_eq!(
            entries[7].0.path,
            format!("./{}", "n".repeat(200)).as_bytes()
        );
        let (pax, data) = &entries[8];
        assert_eq!(
            (pax.path.as_slice(), data.as_slice()),
            (&b"./usr/bin/from-pax"[..], &b"y"[..])
        );
        assert_eq!(pax.xattrs[&b"security.c"[..]], b"a\0b\nc");
    }
}

#[test]
fn damage_is_named() {
    let good = package("");
    let replaced = |from: &[u8], to: &[u8]| {
        let at = good
            .windows(from.len())
            .position(|window| window == from)
            .unwrap();
        [&good[..at], to, &good[at + from.len()..]].concat()
    };
    let sparse = tar_of(&[tar_entry("./s", b'S', "", b"")]);
    let junk = [tar_of(&[]), vec![1; 512]].concat();
    let lone = tar_entry("./s", b'x', "", b"8 path=\n");
    let control = || tar_of(&[tar_entry("control", b'0', "", b"x")]);
    let with_data = |data: Vec<u8>| {
        ar_of(&[
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar", control()),
            ("data.tar", data),
        ])
    };
    let xz_junk = [compress(".xz", &tar_of(&[])), b"junk".to_vec()].concat();
    let rows = [
        (replaced(b"2.0\n", b"3.0\n"), "format version `3.0`"),
        (replaced(b"2.0\n", b"2.0 "), "format version `2.0 `"),
        (
            replaced(b"data.tar  ", b"data.tar.Z"),
            "compressed in a way",
        ),
        (
            replaced(b"control.tar", b"kontrol.tar"),
            "`control.tar` must be",
        ),
        (replaced(b"./soft", b"./sofd"), "checksum is"),
        (with_data(sparse), "sparse"),
        (
            with_data(junk),
            "junk follows the end of the archive at byte 1024",
        ),
        (with_data(tar_of(&[lone])), "has no entry behind it"),
        (with_data(vec![0; 512]), "two blocks of zeros"),
        (
            ar_of(&[("debian-binary", b"2.0\n".to_vec())]),
            "no member `control.tar`",
        ),
        (
            ar_of(&[
                ("debian-binary", b"2.0\n".to_vec()),
                ("control.tar", control()),
                ("data.tar.xz", xz_junk),
            ]),
            "junk follows the data of member `data.tar.xz`",
        ),
        ([good.as_slice(), b"junk"].concat(), "cut off"),
    ];
    for (bytes, expected) in rows {
        let error = format!("{:#}", read_all(&bytes, 1).expect_err(expected));
        assert!(error.contains(expected), "{error} / {expected}");
    }
}

/// The package with nothing compressed, written behind junk.
fn plain(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>, PlainError> {
    let mut out = std::io::Cursor::new(vec![0xa5; 3]);
    out.set_position(3);
    let size = write_plain(bytes, &mut out, limits)?;
    assert_eq!(out.position(), size + 3);
    Ok(out.into_inner().split_off(3))
}

#[test]
fn a_package_is_the_same_when_nothing_is_compressed() {
    let expected = read_all(&package(""), 1).unwrap();
    for suffix in ["", ".gz", ".xz", ".zst"] {
        let bytes = plain(&package(suffix), &Limits::default()).unwrap();
        assert_eq!(read_all(&bytes, 1).unwrap(), expected, "{suffix}");
        let deb = Deb::open(bytes.as_slice(), &Limits::default()).unwrap();
        assert_eq!(deb.control()["postinst"], b"#!/bin/sh\n");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.contains("data.tar  ") && text.contains("control.tar  "));
        let limits = Limits {
            control_bytes: 600,
            ..Limits::default()
        };
        let error = plain(&package(suffix), &limits).unwrap_err();
        let expected = format!("cannot decompress member `control.tar{suffix}`");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn limits_hold() {
    let bytes = package(".zst");
    let data = tar::Limits {
        entries: 5,
        ..tar::Limits::default()
    };
    let small = tar::Limits {
        bytes: 2000,
        ..tar::Limits::default()
    };
    for (limits, expected) in [
        (
            Limits {
                data,
                ..Limits::default()
            },
            "more than 5 entries",
        ),
        (
            Limits {
                data: small,
                ..Limits::default()
            },
            "more than 2000 bytes",
        ),
        (
            Limits {
                control_bytes: 600,
                ..Limits::default()
            },
            "more than 600 bytes",
        ),
    ] {
        let run = || -> Result<(), DebError> {
            let mut deb = Deb::open(bytes.as_slice(), &limits)?;
            while deb.next_entry()?.is_some() {}
            Ok(())
        };
        let error = format!("{:#}", anyhow::Error::from(run().expect_err(expected)));
        assert!(error.contains(expected), "{error} / {expected}");
    }
}

#[test]
fn no_prefix_of_a_package_is_a_package() {
    for suffix in ["", ".gz", ".xz", ".zst"] {
        let bytes = package(suffix);
        // Without `_later` and all of it the rest is whole again, by the rules of deb(5).
        let whole = bytes.len() - 62;
        assert!(read_all(&bytes[..whole], 1).is_ok());
        for end in (0..bytes.len()).filter(|&end| end != whole) {
            assert!(
                read_all(&bytes[..end], 1).is_err(),
                "{suffix}: {end} of {}",
                bytes.len()
            );
        }
    }
}

#[test]
fn packages_of_dpkg_deb_read_as_it_lists_them() {
    let Some(program) = crate::judge::judge("dpkg-deb") else {
        return;
    };
    let program = program.get_program().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("DEBIAN")).unwrap();
    let control = "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: a\n";
    std::fs::write(root.join("DEBIAN/control"), control).unwrap();
    let deep = root.join("d".repeat(90)).join("e".repeat(90));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("f".repeat(120)), vec![5; 100_000]).unwrap();
    std::fs::write(root.join("zero"), b"").unwrap();
    std::fs::hard_link(root.join("zero"), root.join("hard")).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), root.join("soft")).unwrap();
    let out = folder.path().join("a.deb");
    for compression in ["none", "gzip", "xz", "zstd"] {
        let mut build = std::process::Command::new(&program);
        build
            .args(["--root-owner-group", "-Z", compression, "-b"])
            .arg(&root)
            .arg(&out);
        let (good, said) = crate::judge::run(&mut build);
        assert!(good, "{said}");
        let (good, list) =
            crate::judge::run(std::process::Command::new(&program).arg("-c").arg(&out));
        assert!(good, "{list}");
        let bytes = std::fs::read(&out).unwrap();
        let entries = read_all(&bytes, 2).unwrap();
        let same = folder.path().join("plain.deb");
        std::fs::write(&same, plain(&bytes, &Limits::default()).unwrap()).unwrap();
        let mut look = std::process::Command::new(&program);
        assert_eq!(
            crate::judge::run(look.arg("-c").arg(&same)),
            (true, list.clone())
        );
        assert_eq!(entries.len(), list.lines().count());
        for ((header, data), line) in entries.iter().zip(list.lines()) {
            let path = String::from_utf8_lossy(&header.path);
            let size = format!(" {} ", header.size);
            assert!(
                line.contains(&*path) && line.contains(&size),
                "{line} / {header:?}"
            );
            assert!(line.contains("root/root") && header.uid == 0);
            assert_eq!(data.len() as u64, header.size);
            match &header.kind {
                Kind::Symlink { target } | Kind::HardLink { target } => {
                    assert!(line.ends_with(&*String::from_utf8_lossy(target)), "{line}");
                }
                Kind::Directory => assert!(line.starts_with('d'), "{line}"),
                _ => assert!(line.starts_with('-'), "{line}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed, the answer is a value, not a panic.
    #[test]
    fn mutations_never_panic(
        suffix in prop::sample::select(vec!["", ".gz", ".xz", ".zst"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = package(suffix);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        drop(read_all(&bytes, 1));
        bytes.truncate(end.index(bytes.len()));
        drop(read_all(&bytes, 2));
    }
}
