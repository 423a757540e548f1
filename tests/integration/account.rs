//! The account of a disk: every byte of it has a holder, and a planted one is named.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use baker_build::anatomy::{self, Structure};
use baker_formats::{erofs, fat};
use baker_model::manifest::FileRole;
use baker_tests::bakery::{Locked, copy_folder, minimal_draft};
use baker_tests::program::{Said, said};
use serde_json::Value;

use crate::evidence::{file, locked, release, verify, web_draft};

#[test]
fn every_byte_of_the_disk_has_its_holder() {
    let good = verify(&release().folder, &["--pins"]);
    good.assert(0, &[]);
    assert!(
        good.stdout.contains("bytes of the disk are accounted for"),
        "{good:#?}"
    );
    assert!(good.stdout.contains(" package  package libc6"), "{good:#?}");
    assert!(!good.stdout.contains(" SBOM     package"), "{good:#?}");

    // Without the packages the signed bill of materials is what speaks for them.
    let empty = locked().baker.home().join("empty store");
    let mut command = locked().baker.command(["verify", "--pins"]);
    command
        .arg(&release().folder)
        .arg("--trust")
        .arg(&release().public);
    let by_sbom = said(&command.env("BAKER_STORE", &empty).output().unwrap());
    by_sbom.assert(0, &[]);
    assert!(
        by_sbom.stdout.contains(" SBOM     package libc6"),
        "{by_sbom:#?}"
    );
}

/// Every fault that `verify --pins` finds in a release or draft that does not verify.
fn faults(folder: &Path) -> Vec<Value> {
    let said = verify(folder, &["--pins", "--json"]);
    said.assert(7, &["does not verify"]);
    pins(&said)["faults"].as_array().unwrap().clone()
}

/// The account among the events and answers.
fn pins(said: &Said) -> Value {
    let mut values = serde_json::Deserializer::from_str(&said.stdout).into_iter::<Value>();
    let account = values.find_map(|value| value.unwrap().get("pins").cloned());
    account.unwrap()
}

#[test]
fn a_planted_byte_is_named_wherever_it_lies() {
    use anatomy::{EspPart, MbrPart, ProgramPart, RootPart, TablePart, TreePart};
    let planted = locked().baker.home().join("planted bytes");
    copy_folder(&release().folder, &planted);
    let path = file(&planted, FileRole::Disk);
    let disk = File::options().read(true).write(true).open(&path).unwrap();
    let map = anatomy::anatomy(&disk, disk.metadata().unwrap().len()).unwrap();
    let part = |part| Structure::Esp(EspPart::Volume(part));
    let free = |structure: &Structure| matches!(structure, Structure::Esp(EspPart::FreeEntries(_)));
    let notes = |structure: &Structure| matches!(structure, Structure::Esp(EspPart::EntryNotes(_)));
    let slack = |structure: &Structure| matches!(structure, Structure::Esp(EspPart::Slack(_)));
    let of_program = |structure: &Structure, wanted: &ProgramPart| matches!(structure, Structure::Program { part, .. } if part == wanted);
    let erofs = |structure: &Structure, wanted| {
        matches!(structure, Structure::Root { part: RootPart::Erofs(part, _), .. }
            if *part == wanted)
    };
    let rest = |structure: &Structure| {
        matches!(
            structure,
            Structure::Root {
                part: RootPart::Rest,
                ..
            }
        )
    };
    let header = |structure: &Structure| {
        matches!(
            structure,
            Structure::Table {
                part: TablePart::HeaderRest,
                ..
            }
        )
    };
    let tree = |structure: &Structure| {
        matches!(
            structure,
            Structure::HashTree {
                part: TreePart::SuperBlockRest,
                ..
            }
        )
    };
    let blank = |structure: &Structure| matches!(structure, Structure::Blank { .. });
    type Place<'a> = (&'a str, u64, &'a dyn Fn(&Structure) -> bool);
    let places: [Place<'_>; 15] = [
        ("boot code", 9, &|s| *s == Structure::Mbr(MbrPart::BootCode)),
        ("header of the partition table", 0, &header),
        ("gap between partitions", 0, &|s| *s == Structure::Gap),
        ("reserved sectors of the ESP", 0, &|s| {
            *s == part(fat::Part::Reserved)
        }),
        ("free entries of the FAT", 0, &|s| {
            *s == part(fat::Part::FreeTable(0))
        }),
        ("free clusters", 5000, &|s| {
            *s == part(fat::Part::FreeClusters)
        }),
        ("times of a file on the ESP", 0, &notes),
        ("free entries of a folder on the ESP", 20, &free),
        ("slack behind a file on the ESP", 0, &slack),
        ("checksum of a program", 0, &|s| {
            of_program(s, &ProgramPart::CheckSum)
        }),
        ("end of a signature", u64::MAX, &|s| {
            of_program(s, &ProgramPart::Certificates)
        }),
        ("padding inside of the root", 0, &|s| {
            erofs(s, erofs::Part::Padding)
        }),
        ("tail of the root", 0, &rest),
        ("superblock of the hash tree", 0, &tree),
        ("the empty slot", 70_000, &blank),
    ];
    let mut expected = Vec::new();
    for (what, offset, is_it) in places {
        // The last of its kind: the first padding of a root is under a checksum, and unreadable.
        let mut regions = map.regions().iter();
        let Some(region) = regions.rfind(|region| is_it(&region.structure)) else {
            panic!("the disk has no {what}");
        };
        let at = region.range.start + offset.min(region.range.end - region.range.start - 1);
        let mut byte = [0];
        disk.read_exact_at(&mut byte, at).unwrap();
        disk.write_all_at(&[byte[0] ^ 0xa5], at).unwrap();
        expected.push((what, at, region.structure.to_string()));
    }
    let found = faults(&planted);
    for (what, at, structure) in expected {
        let is_it = |fault: &Value| {
            let byte = |name: &str| fault[name].as_u64().unwrap();
            fault["structure"] == *structure && (byte("start")..byte("end")).contains(&at)
        };
        assert!(
            found.iter().any(is_it),
            "{what} ({structure}, {at}): {found:#?}"
        );
        println!("{what}: byte {at}, {structure}");
    }
}

#[test]
fn planted_files_and_programs_are_named() {
    // The disk of an image with one file more, under the name of the signed one.
    let more = "\n[[file]]\npath = \"/etc/planted\"\ncontent = \"x\"\n";
    let other = Locked::new("minimal", |text| text + more);
    let draft = other.bake(&other.baker.home().join("drafts"));
    let planted = other.baker.home().join("planted");
    copy_folder(minimal_draft(), &planted);
    let path = file(&planted, FileRole::Disk);
    fs::copy(file(&draft, FileRole::Disk), &path).unwrap();
    let disk = File::options().read(true).write(true).open(&path).unwrap();
    let map = anatomy::anatomy(&disk, disk.metadata().unwrap().len()).unwrap();
    let is_kernel = |structure: &Structure| {
        matches!(structure, Structure::Program { part: anatomy::ProgramPart::Section(name), .. }
            if name == ".linux")
    };
    let mut regions = map.regions().iter();
    let kernel = regions.find(|region| is_kernel(&region.structure)).unwrap();
    disk.write_all_at(b"planted", kernel.range.start + 4096)
        .unwrap();
    let found = faults(&planted);
    let has = |fault: &str, path: &str| {
        let is_it = |found: &&Value| found["fault"] == fault && found["path"] == path;
        assert!(
            found.iter().any(|f| is_it(&f)),
            "{fault} {path}: {found:#?}"
        );
    };
    has("foreign", "/etc/planted");
    has("altered", "/EFI/BOOT/BOOTX64.EFI");
    has("altered", "uki:linux");
}

#[test]
fn the_disk_of_web_is_accounted_for_too() {
    // A draft has no signature; of its disk all is well.
    let said = verify(web_draft(), &["--pins", "--json"]);
    let pins = pins(&said);
    assert_eq!(pins["faults"].as_array().unwrap().len(), 0, "{pins:#?}");
    assert_eq!(pins["accounted"], pins["size"]);
    let by_lock = |row: &&Value| row["holder"]["kind"] == "recipe" && row["proof"] == "lock";
    assert!(
        pins["rows"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| by_lock(&row)),
        "{pins:#?}"
    );
    println!("web: {} bytes, all accounted for", pins["size"]);
}
