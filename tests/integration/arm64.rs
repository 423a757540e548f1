//! An image for 64-bit Arm machines, baked and booted on any: nothing in between is x86 by accident.
//!
//! Wanted by `BAKER_ARM64`, because the compiler for the guest program is a large download.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use baker_model::manifest::{FileRole, Manifest};
use baker_tests::bakery::{Locked, copy_folder, seated};
use serde_json::Value;

use crate::boot::{partition, rewrite, test};

/// What the tests need beside QEMU for this machine, and how to get it.
const FIRMWARE: &str = "/usr/share/AAVMF/AAVMF_CODE.fd";

/// The recipe, locked; none when nobody wants these tests or something is missing for them.
#[expect(clippy::print_stderr, reason = "a test that is left out must be seen")]
fn locked(name: &str) -> Option<Locked> {
    if std::env::var_os("BAKER_ARM64").is_none() {
        eprintln!("SKIPPED {name}: wanted with BAKER_ARM64=1 only");
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    let lacks_guest = std::env::var_os("BAKER_GUEST_ARM64").is_none();
    let missing = if lacks_guest {
        "the guest program: export BAKER_GUEST_ARM64=$(scripts/guest-arm64)"
    } else if !folders.any(|folder| folder.join("qemu-system-aarch64").is_file()) {
        "qemu-system-aarch64: scripts/setup --arm64"
    } else if !Path::new(FIRMWARE).is_file() {
        "the firmware AAVMF: scripts/setup --arm64"
    } else {
        return Some(Locked::new("minimal-arm64", |text| text));
    };
    baker_tests::skip(name, missing);
    None
}

#[test]
fn an_arm64_image_boots_verified_and_a_flipped_byte_is_seen() {
    let Some(locked) = locked("an_arm64_image_boots_verified_and_a_flipped_byte_is_seen") else {
        return;
    };
    let baker = &locked.baker;
    let draft = locked.bake(&baker.home().join("drafts"));
    let manifest = Manifest::parse(&fs::read(draft.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest.architecture, "arm64");

    let words = ["test", draft.to_str().unwrap(), "--json"];
    let said = seated(|| baker.run(words));
    assert_eq!(said.code, Some(0), "{said:#?}");
    // The answer comes after the events.
    let answer = said.stdout.lines().next_back().unwrap();
    let reports: Vec<Value> = serde_json::from_str(answer).unwrap();
    assert_eq!(reports.len(), 2, "{said:#?}");
    for report in &reports {
        let root_hash = manifest.root_hash.to_string();
        assert_eq!(report["guest"]["root-hash"], root_hash, "{report:#}");
        let kernel = report["guest"]["kernel"].as_str().unwrap();
        assert!(kernel.ends_with("-arm64"), "{kernel}");
        let command = report["command"].as_str().unwrap();
        assert!(command.contains("qemu-system-aarch64"), "{command}");
    }
    let by_firmware = |report: &&Value| report["command"].to_string().contains("AAVMF_CODE.fd");
    assert_eq!(reports.iter().filter(by_firmware).count(), 1);

    let broken = baker.home().join("flipped");
    copy_folder(&draft, &broken);
    rewrite(&broken, |disk, manifest| {
        let name = &manifest.file(FileRole::Disk).unwrap().name;
        // The superblock of the file system: whoever mounts the root reads it.
        let at = partition(disk, name.trim_end_matches(".raw")).0 + 1024;
        let mut byte = [0];
        disk.read_exact_at(&mut byte, at).unwrap();
        disk.write_all_at(&[byte[0] ^ 1], at).unwrap();
    });
    test(baker, &broken, "direct").assert(6, &["verity-corruption"]);
}
