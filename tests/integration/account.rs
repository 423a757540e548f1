//! The account of a disk: every byte of it has a holder, and a planted one is named.

use std::collections::BTreeMap;
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

/// Where a byte is planted: what that is, and how far from the beginning of such a region.
fn place(structure: &Structure) -> Option<(&'static str, u64)> {
    use Structure::{Blank, Esp, Gap, HashTree, Mbr, Program, Root, Table};
    use anatomy::{EspPart, MbrPart, ProgramPart, RootPart, TablePart, TreePart};
    Some(match structure {
        Mbr(MbrPart::BootCode) => ("boot code", 9),
        Table { part, .. } if *part == TablePart::HeaderRest => ("header of the table", 0),
        Gap => ("gap between partitions", 0),
        Esp(EspPart::Volume(fat::Part::Reserved)) => ("reserved sectors of the ESP", 0),
        Esp(EspPart::Volume(fat::Part::FreeTable(0))) => ("free entries of the FAT", 0),
        Esp(EspPart::Volume(fat::Part::FreeClusters)) => ("free clusters", 5000),
        Esp(EspPart::EntryNotes(_)) => ("times of a file on the ESP", 0),
        Esp(EspPart::FreeEntries(_)) => ("free entries of a folder on the ESP", 20),
        Esp(EspPart::Slack(_)) => ("slack behind a file on the ESP", 0),
        Program { part, .. } if *part == ProgramPart::CheckSum => ("checksum of a program", 0),
        Program { part, .. } if *part == ProgramPart::Certificates => ("end of a signature", END),
        Root { part, .. } => match part {
            RootPart::Erofs(erofs::Part::Padding, _) => ("padding inside of the root", 0),
            RootPart::Rest => ("tail of the root", 0),
            _ => return None,
        },
        HashTree { part, .. } if *part == TreePart::SuperBlockRest => ("hash tree", 0),
        Blank { .. } => ("the empty slot", 70_000),
        _ => return None,
    })
}

/// The last byte of a region.
const END: u64 = u64::MAX;

/// How many places there are.
const PLACES: usize = 15;

#[test]
fn a_planted_byte_is_named_wherever_it_lies() {
    let planted = locked().baker.home().join("planted bytes");
    copy_folder(&release().folder, &planted);
    let path = file(&planted, FileRole::Disk);
    let disk = File::options().read(true).write(true).open(&path).unwrap();
    let map = anatomy::anatomy(&disk, disk.metadata().unwrap().len()).unwrap();
    // The last of its kind: the first padding of a root is under a checksum, and unreadable.
    let mut places = BTreeMap::new();
    for region in map.regions() {
        if let Some((what, offset)) = place(&region.structure) {
            let last = region.range.end - region.range.start - 1;
            let at = region.range.start + offset.min(last);
            places.insert(what, (at, region.structure.to_string()));
        }
    }
    assert_eq!(places.len(), PLACES, "{places:#?}");
    for (at, _) in places.values() {
        let mut byte = [0];
        disk.read_exact_at(&mut byte, *at).unwrap();
        disk.write_all_at(&[byte[0] ^ 0xa5], *at).unwrap();
    }
    let found = faults(&planted);
    for (what, (at, structure)) in places {
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
