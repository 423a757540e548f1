//! Real images, booted in a real QEMU.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use baker_model::Digest;
use baker_model::manifest::{FileRole, Manifest};
use baker_tests::bakery::{Locked, copy_folder, minimal, minimal_draft, seated};
use baker_tests::program::{Baker, Said};

/// Tests by the one plan of this name.
pub(crate) fn test(baker: &Baker, folder: &Path, plan: &str) -> Said {
    let evidence = baker.home().join("evidence");
    seated(|| {
        baker.run([
            "test".as_ref(),
            folder.as_os_str(),
            "--only".as_ref(),
            plan.as_ref(),
            "--evidence".as_ref(),
            evidence.as_os_str(),
        ])
    })
}

/// A copy of the draft of `minimal` whose disk was changed by `change`, with a manifest that says
/// so: what a builder with a fault would make.
fn broken(name: &str, change: impl Fn(&fs::File, &Manifest)) -> PathBuf {
    let copy = minimal().baker.home().join(name);
    copy_folder(minimal_draft(), &copy);
    rewrite(&copy, change);
    copy
}

/// Changes the disk of a draft, and lets the manifest say so.
pub(crate) fn rewrite(draft: &Path, change: impl Fn(&fs::File, &Manifest)) {
    let path = draft.join("manifest.json");
    let mut manifest = Manifest::parse(&fs::read(&path).unwrap()).unwrap();
    let disk = draft.join(&manifest.file(FileRole::Disk).unwrap().name);
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&disk)
        .unwrap();
    change(&file, &manifest);
    let digest = Digest::of(&fs::read(&disk).unwrap());
    for file in manifest
        .files
        .iter_mut()
        .filter(|file| file.role == FileRole::Disk)
    {
        file.sha256 = digest;
    }
    fs::write(path, manifest.to_bytes()).unwrap();
}

/// Byte offset of the partition whose name ends in `suffix`, and its size.
pub(crate) fn partition(disk: &fs::File, suffix: &str) -> (u64, u64) {
    let mut table = [0; 128 * 128];
    disk.read_exact_at(&mut table, 1024).unwrap();
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    for entry in table.chunks_exact(128) {
        let units = entry[56..128]
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let name: String = char::decode_utf16(units.take_while(|unit| *unit != 0))
            .map(Result::unwrap)
            .collect();
        if name.ends_with(suffix) && !name.is_empty() {
            let (first, last) = (number(&entry[32..40]), number(&entry[40..48]));
            return (first * 512, (last + 1 - first) * 512);
        }
    }
    panic!("no partition {suffix}");
}

#[test]
fn minimal_boots_by_uefi() {
    let said = test(&minimal().baker, minimal_draft(), "uefi");
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.starts_with("uefi: passed"), "{said:#?}");
}

#[test]
fn minimal_boots_directly() {
    let said = test(&minimal().baker, minimal_draft(), "direct");
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stdout.starts_with("direct: passed"), "{said:#?}");
}

/// SquashFS is booted by `baker run` (`start/running.rs`).
#[test]
fn another_compression_of_the_root_boots() {
    let locked = Locked::new("minimal", |text| {
        text.replace("compression = \"zstd\"", "compression = \"lz4hc\"")
    });
    let draft = locked.bake(&locked.baker.home().join("drafts"));
    let said = test(&locked.baker, &draft, "direct");
    assert_eq!(said.code, Some(0), "{said:#?}");
}

#[test]
fn web_serves_its_page() {
    let locked = Locked::new("web", |text| text);
    let draft = locked.bake(&locked.baker.home().join("drafts"));
    for plan in ["uefi", "direct"] {
        let said = test(&locked.baker, &draft, plan);
        assert_eq!(said.code, Some(0), "{said:#?}");
    }
}

/// A plan with a question of nearly every kind, asked before and after a restart.
const FULL_PLAN: &str = r#"
[[test]]
name = "full"
firmware = "direct"
units-active = ["dbus.socket", "systemd-journald.service"]
units-not-failed = ["systemd-udevd.service"]
units-absent = ["nginx.service"]
command-line = ["quiet"]
modules-loaded = ["erofs"]
no-package-manager = true
networks = 2
[[test.command]]
run = ["/usr/bin/systemctl", "is-system-running"]
output = "running"
[[test.file]]
path = "/etc/os-release"
contains = "debian"
mode = "0644"
owner = "root"
[test.sysctl]
"kernel.panic" = "-1"
[test.reboot]
vanishes = ["/run/marker", "/var/lib/marker"]
[test.journal]
[[test.journal.allow]]
contains = "Failed to find module 'autofs4'"
reason = "the image has no automounts"
until = "9999-12-31"
[test.budget]
guest-seconds = 300
memory-mib = 128
disk-mib = 80
initrd-kib = 4096
uki-kib = 18432
packages = 60

[[test]]
name = "shared"
firmware = "direct"
networks = 2
reboot = {}
units-active = ["nginx.service"]
"#;

#[test]
fn every_kind_of_question_is_answered_before_and_after_a_restart() {
    let locked = Locked::new("minimal", |text| {
        let rest = text.split("[[test]]").next().unwrap_or_default();
        format!("{rest}{FULL_PLAN}")
    });
    let draft = locked.bake(&locked.baker.home().join("drafts"));
    let evidence = locked.baker.home().join("evidence");
    let said = seated(|| {
        locked.baker.run([
            "test".as_ref(),
            draft.as_os_str(),
            "--evidence".as_ref(),
            evidence.as_os_str(),
        ])
    });
    // One boot answers both plans; what fails in one fails in that one only.
    assert_eq!(said.code, Some(6), "{said:#?}");
    assert!(said.stdout.contains("full: passed"), "{said:#?}");
    assert!(
        said.stdout
            .contains("shared: unit-failed: unit nginx.service"),
        "{said:#?}"
    );
    let picture = evidence.join("minimal-1.0.0/full/screen.png");
    assert!(fs::read(picture).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn a_failing_unit_is_named() {
    let locked = Locked::new("minimal", |text| {
        format!(
            "{text}\n[[file]]\npath = \"/usr/lib/systemd/system/broken.service\"\ncontent = \
             \"\"\"\n[Unit]\nDescription=Fails\n[Service]\nType=oneshot\n\
             ExecStart=/usr/bin/nothing\n[Install]\nWantedBy=multi-user.target\n\"\"\"\n\n\
             [services]\nenable = [\"broken.service\"]\n"
        )
    });
    let draft = locked.bake(&locked.baker.home().join("drafts"));
    let said = test(&locked.baker, &draft, "direct");
    said.assert(
        6,
        &[
            "failed its test",
            "unit-failed",
            "broken.service",
            "repeat it by hand",
        ],
    );
}

#[test]
fn a_flipped_byte_in_the_root_is_verity_corruption() {
    let draft = broken("flipped-root", |disk, _| {
        let (start, _) = partition(disk, "minimal_1.0.0");
        // The superblock of the file system: whoever mounts the root reads it.
        let mut byte = [0];
        disk.read_exact_at(&mut byte, start + 1024).unwrap();
        disk.write_all_at(&[byte[0] ^ 1], start + 1024).unwrap();
    });
    test(&minimal().baker, &draft, "direct").assert(6, &["verity-corruption"]);
}

#[test]
fn a_flipped_byte_in_the_hash_tree_is_verity_corruption() {
    let draft = broken("flipped-tree", |disk, _| {
        let (start, size) = partition(disk, "_verity");
        let at = start + 4096;
        assert!(size > 8192);
        let mut byte = [0];
        disk.read_exact_at(&mut byte, at).unwrap();
        disk.write_all_at(&[byte[0] ^ 1], at).unwrap();
    });
    test(&minimal().baker, &draft, "direct").assert(6, &["verity-corruption"]);
}

#[test]
fn a_disk_without_its_table_has_no_root() {
    let draft = broken("no-table", |disk, _| {
        let size = disk.metadata().unwrap().len();
        for at in [512, size - 512] {
            disk.write_all_at(&[0; 512], at).unwrap();
        }
    });
    test(&minimal().baker, &draft, "direct").assert(6, &["init-failed"]);
}

#[test]
fn an_altered_disk_is_refused_before_it_counts() {
    let copy = minimal().baker.home().join("altered");
    copy_folder(minimal_draft(), &copy);
    let disk = copy.join("minimal_1.0.0.raw");
    fs::OpenOptions::new()
        .write(true)
        .open(disk)
        .unwrap()
        .write_all_at(b"x", 4096 * 300)
        .unwrap();
    let said = test(&minimal().baker, &copy, "direct");
    said.assert(7, &["is not the one of this release", "baker verify"]);
}
