//! A medium as foreign tools see it.

use std::io::Cursor;

use super::*;
use crate::judge::{judge, run};
use crate::medium::{self, Kind};

const TIME: i64 = 1_700_000_000;

fn volume<'a>(files: &'a [File<'a>]) -> Volume<'a> {
    Volume {
        label: "MINIMAL_1_0_0",
        time: TIME,
        size: 4 << 20,
        boot: 1 << 20,
        files,
    }
}

const FILES: [File<'_>; 2] = [
    File {
        name: "ESP.IMG",
        offset: 1 << 20,
        size: 1 << 20,
    },
    File {
        name: "ROOT.IMG",
        offset: 2 << 20,
        size: 4096,
    },
];

fn medium() -> Vec<u8> {
    let mut medium = vec![0; 4 << 20];
    medium[510..512].copy_from_slice(b"\x55\xaa");
    medium[1 << 20..2 << 20].fill(7);
    medium[2 << 20..3 << 20].fill(9);
    let bytes = structures(&volume(&FILES)).unwrap();
    assert_eq!(bytes.len() as u64, LENGTH);
    let start = usize::try_from(START).unwrap();
    medium[start..start + bytes.len()].copy_from_slice(&bytes);
    medium
}

#[test]
fn foreign_tools_see_volume_catalog_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.iso");
    std::fs::write(&path, medium()).unwrap();
    assert_eq!(
        medium::identify(&mut Cursor::new(medium())).unwrap(),
        Kind::Iso
    );
    if let Some(mut xorriso) = judge("xorriso") {
        let (good, said) = run(xorriso
            .args(["-indev".as_ref(), path.as_os_str()])
            .args([
                "-report_el_torito",
                "plain",
                "-report_el_torito",
                "as_mkisofs",
            ])
            .args(["-lsl", "/", "--"]));
        assert!(good, "{said}");
        for words in [
            "Volume id    : 'MINIMAL_1_0_0'",
            "El Torito catalog  : 19  1",
            "El Torito boot img :   1  UEFI  y   none  0x0000  0x00      0         512",
            "El Torito img path :   1  /ESP.IMG",
            "ESP.IMG",
            "ROOT.IMG",
        ] {
            assert!(said.contains(words), "{words}:\n{said}");
        }
        assert!(
            !said.contains("FAILURE") && !said.contains("SORRY"),
            "{said}"
        );
    }
    if let Some(mut file) = judge("file") {
        let (_, said) = run(file.arg(&path));
        assert!(said.contains("ISO 9660 CD-ROM filesystem data"), "{said}");
        assert!(said.contains("'MINIMAL_1_0_0' (bootable)"), "{said}");
    }
}

#[test]
fn files_are_the_ranges_that_they_name() {
    let Some(mut xorriso) = judge("xorriso") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.iso");
    std::fs::write(&path, medium()).unwrap();
    let out = folder.path().join("root");
    let (good, said) = run(xorriso
        .args(["-osirrox", "on", "-indev"])
        .arg(&path)
        .args(["-extract", "/ROOT.IMG"])
        .arg(&out));
    assert!(good, "{said}");
    assert!(std::fs::read(out).unwrap() == [9; 4096]);
}

#[test]
fn what_no_volume_can_hold_is_refused() {
    let bad = |change: &dyn Fn(&mut Volume<'_>)| {
        let mut volume = volume(&FILES);
        change(&mut volume);
        structures(&volume).unwrap_err().to_string()
    };
    assert!(bad(&|v| v.label = "minimal").contains("`minimal`"));
    assert!(bad(&|v| v.label = "").contains("``"));
    assert!(bad(&|v| v.boot = 513).contains("byte 513"));
    assert!(bad(&|v| v.size = 1 << 50).contains("the end"));
    let named = |name| {
        let file = File {
            name,
            offset: 0,
            size: 1,
        };
        structures(&volume(&[file])).map(drop)
    };
    for name in ["esp.img", "ESP", "LONGERNAME.IMG", ".IMG", "A.LONG"] {
        assert!(named(name).is_err(), "{name}");
    }
    named("A.B").unwrap();
    let many = [FILES[0]; 60];
    assert!(matches!(
        structures(&volume(&many)),
        Err(IsoError::Files { count: 60 })
    ));
    let huge = File {
        size: 1 << 32,
        ..FILES[0]
    };
    assert!(structures(&volume(&[huge])).is_ok());
}
