//! Whatever is changed in a release, verification says so, and says all of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use baker_model::{Digest, Interrupt, Silent};
use proptest::prelude::*;

use super::fixture::{self, problems, verified};
use crate::envelope::Envelope;
use crate::{MANIFEST, SIGNATURES, SUMS, TEST_RESULT, VerifyError, verify};

/// Every file of a release, by name.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    let named = fixture::manifest().files.into_iter().map(|file| file.name);
    let mut all: Vec<_> = named.map(|name| folder.join(name)).collect();
    all.extend(crate::names::RESERVED.map(|name| folder.join(name)));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_byte_of_any_file_is_reported(
        file in 0_usize..10, place in any::<prop::sample::Index>(), mask in 1_u8..,
    ) {
        let (_folder, path) = fixture::release();
        let file = &all_files(&path)[file];
        let mut bytes = fs::read(file).unwrap();
        let at = place.index(bytes.len());
        bytes[at] ^= mask;
        fs::write(file, &bytes).unwrap();
        prop_assert!(!verified(&path).is_good(), "{} byte {at} ^ {mask:#x}", file.display());
    }

    #[test]
    fn any_cut_or_grown_file_is_reported(
        file in 0_usize..10, keep in any::<prop::sample::Index>(), grow in any::<bool>(),
    ) {
        let (_folder, path) = fixture::release();
        let file = &all_files(&path)[file];
        let mut bytes = fs::read(file).unwrap();
        if grow { bytes.push(b'\n') } else { bytes.truncate(keep.index(bytes.len())) }
        fs::write(file, &bytes).unwrap();
        prop_assert!(!verified(&path).is_good(), "{}", file.display());
    }
}

#[test]
fn every_flip_of_the_signed_lists_is_reported() {
    // Exhaustive where it is cheap: JSON and text have bytes that a lax reader would skip.
    let (_folder, path) = fixture::release();
    for name in [SIGNATURES, SUMS, TEST_RESULT] {
        let good = fs::read(path.join(name)).unwrap();
        for at in 0..good.len() {
            for mask in [0x01, 0x20, 0x2a] {
                let mut bytes = good.clone();
                bytes[at] ^= mask;
                fs::write(path.join(name), &bytes).unwrap();
                assert!(!verified(&path).is_good(), "{name} byte {at} ^ {mask:#x}");
            }
        }
        fs::write(path.join(name), &good).unwrap();
    }
    assert!(verified(&path).is_good());
}

#[test]
fn every_missing_file_is_reported() {
    let (_folder, path) = fixture::release();
    for file in all_files(&path) {
        let bytes = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let found = problems(&verified(&path));
        let name = file
            .strip_prefix(&path)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert!(found.contains(&format!("`{name}` is missing")), "{found:?}");
        fs::write(&file, bytes).unwrap();
    }
}

#[test]
fn all_problems_are_listed_at_once() {
    let (_folder, path) = fixture::release();
    let mut disk = fs::read(path.join("disk.raw")).unwrap();
    disk[4999] ^= 1;
    fs::write(path.join("disk.raw"), disk).unwrap();
    fs::write(path.join("uki.efi"), b"short").unwrap();
    fs::remove_file(path.join("recipe.lock")).unwrap();
    fs::remove_file(path.join("recipe.toml")).unwrap();
    symlink("/etc/hostname", path.join("recipe.toml")).unwrap();
    fs::write(path.join("evidence/more.json"), b"{}").unwrap();
    fs::create_dir(path.join("empty")).unwrap();
    fs::write(path.join(".hidden"), b"").unwrap();
    fs::write(path.join(SUMS), b"").unwrap();
    fs::write(path.join(SIGNATURES), b"{}").unwrap();
    let report = verified(&path);
    let found = problems(&report);
    for expected in [
        "`disk.raw` was altered",
        "`uki.efi` has 5 bytes, the manifest says 14",
        "`recipe.lock` is missing",
        "`recipe.toml` is a symbolic link",
        "`evidence/more.json` is not named",
        "`empty/` is not named",
        "`.hidden` is not named",
        "SHA256SUMS does not agree with the manifest, first at line 1",
        "the signatures cannot be used",
        "`provenance.intoto.json` cannot be used: there is no usable lock beside it",
    ] {
        let count = found.iter().filter(|text| text.contains(expected)).count();
        assert_eq!(count, 1, "{expected}: {found:#?}");
    }
    assert_eq!(found.len(), 10, "{found:#?}");
    assert!(report.facts.unwrap().signed_by.is_empty());
}

#[test]
fn a_manifest_that_leads_out_of_the_release_reads_nothing_there() {
    // Signed by a trusted key all the same: even then no path is followed out of the folder.
    let (folder, path) = fixture::release();
    fs::write(folder.path().join("secret"), b"s").unwrap();
    let mut manifest = fixture::manifest();
    for name in [
        "../secret",
        "/etc/hostname",
        "a/../../secret",
        "manifest.json",
        "recipe.toml",
    ] {
        let mut file = manifest.files[3].clone();
        name.clone_into(&mut file.name);
        manifest.files.push(file);
    }
    let bytes = manifest.to_bytes();
    fs::write(path.join(MANIFEST), &bytes).unwrap();
    let mut envelope = Envelope::new();
    envelope.sign(&bytes, &fixture::key()).unwrap();
    fs::write(path.join(SIGNATURES), envelope.to_bytes()).unwrap();
    let mut statement = crate::test_result::envelope(&manifest);
    statement.sign(&fixture::key()).unwrap();
    fs::write(path.join(TEST_RESULT), statement.to_bytes()).unwrap();
    let text = crate::sums::text(&manifest, &Digest::of(&bytes));
    fs::write(path.join(SUMS), text).unwrap();
    let found = problems(&verified(&path));
    assert_eq!(
        found
            .iter()
            .filter(|text| text.contains("not allowed"))
            .count(),
        4,
        "{found:#?}"
    );
    assert_eq!(
        found
            .iter()
            .filter(|text| text.contains("more than once"))
            .count(),
        1
    );
    assert!(found[0].contains("another set of inputs"), "{found:#?}");
    assert_eq!(found.len(), 6, "{found:#?}");
}

#[test]
fn folders_and_links_in_the_place_of_files_are_reported() {
    let (_folder, path) = fixture::release();
    fs::remove_file(path.join("uki.efi")).unwrap();
    fs::create_dir(path.join("uki.efi")).unwrap();
    fs::rename(path.join("evidence"), path.join("moved")).unwrap();
    symlink("moved", path.join("evidence")).unwrap();
    nix::unistd::mkfifo(&path.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let found = problems(&verified(&path));
    for expected in [
        "`uki.efi` is missing",
        "`uki.efi/` is not named",
        "`evidence` is a symbolic link",
        "`evidence/uefi.json` is missing",
        "`moved/uefi.json` is not named",
        "`pipe` is a named pipe",
    ] {
        assert!(
            found.iter().any(|text| text.contains(expected)),
            "{expected}: {found:#?}"
        );
    }
    assert_eq!(found.len(), 6, "{found:#?}");
}

#[test]
fn a_manifest_that_is_none_leaves_only_problems() {
    let (_folder, path) = fixture::release();
    for bytes in [&b"{}"[..], b"", b"{\"manifest-version\":2}", b"\xff"] {
        fs::write(path.join(MANIFEST), bytes).unwrap();
        let report = verified(&path);
        assert!(report.facts.is_none());
        let found = problems(&report);
        assert!(
            found[0].contains("the manifest cannot be used"),
            "{found:?}"
        );
        assert!(
            found
                .iter()
                .any(|text| text.contains("is not over this manifest")),
            "{found:?}"
        );
    }
}

#[test]
fn no_folder_and_an_interrupt_are_errors() {
    let (folder, path) = fixture::release();
    let trust = fixture::trust();
    let none = verify(
        &folder.path().join("none"),
        &trust,
        &Silent,
        &Interrupt::new(),
    );
    assert!(matches!(none, Err(VerifyError::Open { .. })));
    let interrupt = Interrupt::new();
    interrupt.raise();
    let stopped = verify(&path, &trust, &Silent, &interrupt);
    assert!(matches!(stopped, Err(VerifyError::Interrupted { .. })));
}
