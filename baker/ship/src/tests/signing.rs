//! What may be signed, and who accepts the signature.

use baker_model::manifest::{FileRole, Waiver};
use baker_model::{Digest, Failure, Interrupt, Manifest, Silent, Verdict};
use base64ct::{Base64, Encoding};

use super::fixture::{self, judge, problems, verified};
use crate::envelope::{Envelope, RawSignature};
use crate::{Draft, Key, MANIFEST, Purpose, SIGNATURES, SignError, Trust, Warning, verify};

/// Signs the fixture after `change` and gives the problems.
fn refused(change: impl FnOnce(&mut Manifest)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = fixture::stage(folder.path());
    change(&mut manifest);
    let draft = Draft::new(folder.path().to_owned(), manifest);
    match draft.sign(&fixture::key(), &Silent, &Interrupt::new()) {
        Ok(_) => Vec::new(),
        Err(SignError::NotReady { problems, .. }) => {
            assert!(!folder.path().join(SIGNATURES).exists());
            assert!(!folder.path().join(MANIFEST).exists());
            problems.iter().map(ToString::to_string).collect()
        }
        Err(error) => panic!("{error}"),
    }
}

fn waiver(what: &str, reason: &str) -> Waiver {
    Waiver::new(what, reason)
}

fn failed() -> Verdict {
    Verdict::Failed {
        failure: Failure::KernelPanic,
        detail: "oh no".to_owned(),
    }
}

#[test]
fn a_good_release_is_signed_and_verifies() {
    let (_folder, path) = fixture::release();
    let report = verified(&path);
    assert_eq!(problems(&report), Vec::<String>::new());
    assert_eq!(report.warnings, []);
    let facts = report.facts.unwrap();
    assert_eq!((facts.files, facts.signed_by.len()), (5, 1));
    assert_eq!(facts.signed_by[0].name, "release");
    let manifest = std::fs::read(path.join(MANIFEST)).unwrap();
    assert_eq!(facts.manifest, Digest::of(&manifest));
    assert_eq!(manifest, fixture::manifest().to_bytes());
}

#[test]
fn signing_twice_gives_the_same_bytes() {
    let (_one, first) = fixture::release();
    let (_two, second) = fixture::release();
    for name in crate::names::RESERVED {
        let read = |folder: &std::path::Path| std::fs::read(folder.join(name)).unwrap();
        assert_eq!(read(&first), read(&second), "{name}");
    }
}

#[test]
fn what_would_not_verify_is_not_signed() {
    let one = |found: Vec<String>, expected: &str| {
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected), "{found:?}");
    };
    assert_eq!(refused(|_| {}), Vec::<String>::new());
    one(refused(|m| m.tests.clear()), "`uefi` has not run");
    one(
        refused(|m| m.tests[0].verdict = failed()),
        "did not pass: kernel-panic: oh no",
    );
    one(
        refused(|m| m.tests[0].disk = Digest::of(b"other")),
        "not the disk of this release",
    );
    one(
        refused(|m| m.tests[0].evidence = "uki.efi".to_owned()),
        "no evidence file",
    );
    one(refused(|m| m.command_line.clear()), "root hash of nothing");
    one(
        refused(|m| m.command_line.push_str(" baker.roothash=0")),
        "names the root hash 0",
    );
    one(refused(|m| m.name = "../up".to_owned()), "not allowed");
    one(refused(|m| m.version = "..".to_owned()), "it climbs");
    one(
        refused(|m| m.files[4].sha256 = Digest::of(b"")),
        "`uki.efi` was altered",
    );
    one(refused(|m| m.files[4].size += 1), "the manifest says 15");
    one(
        refused(|m| m.waivers.push(waiver("x", " "))),
        "without a reason",
    );
    one(
        refused(|m| drop(m.files.remove(4))),
        "`uki.efi` is not named",
    );
    let both = refused(|m| {
        m.tests.clear();
        m.plans.clear();
    });
    one(both, "never booted");
}

#[test]
fn a_waiver_excuses_missing_and_failed_tests_and_nothing_else() {
    let tests = || waiver("tests", "no QEMU on this builder");
    assert!(
        refused(|m| {
            m.tests.clear();
            m.waivers.push(tests());
        })
        .is_empty()
    );
    assert!(
        refused(|m| {
            m.tests[0].verdict = failed();
            m.waivers.push(tests());
        })
        .is_empty()
    );
    let other = refused(|m| {
        m.tests.clear();
        m.waivers.push(waiver("package-script a/postinst", "known"));
    });
    assert_eq!(other.len(), 1);
    let lie = refused(|m| {
        m.tests[0].disk = Digest::of(b"other");
        m.waivers.push(tests());
    });
    assert_eq!(lie.len(), 1);

    let folder = tempfile::tempdir().unwrap();
    let mut manifest = fixture::stage(folder.path());
    manifest.tests.clear();
    manifest.waivers.push(tests());
    let draft = Draft::new(folder.path().to_owned(), manifest);
    draft
        .sign(&fixture::key(), &Silent, &Interrupt::new())
        .unwrap();
    let report = verified(folder.path());
    assert!(report.is_good(), "{report:?}");
    let has = |wanted: fn(&Warning) -> bool| report.warnings.iter().any(wanted);
    assert!(has(|warning| matches!(warning, Warning::Waived { .. })));
    assert!(has(|warning| matches!(warning, Warning::Excused { .. })));
    assert!(has(|warning| matches!(warning, Warning::Renamed { .. })));
}

#[test]
fn several_signers_and_only_the_trusted_count() {
    let folder = tempfile::tempdir().unwrap();
    let other = Key::from_seed("other", Purpose::Development, &[9; 32]);
    let signed = fixture::signed(folder.path()).countersign(&other).unwrap();
    drop(signed.countersign(&other).unwrap());
    let verdict = |trust: &Trust| verify(folder.path(), trust, &Silent, &Interrupt::new()).unwrap();
    let first = verdict(&fixture::trust());
    assert!(first.is_good(), "{first:?}");
    let unknown = |warning: &Warning| matches!(warning, Warning::UnknownSigner { key_id } if *key_id == other.public().id());
    assert!(first.warnings.iter().any(unknown));
    let second = verdict(&Trust::of([other.public()]));
    assert!(second.is_good());
    let loud = second
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect::<String>();
    assert!(loud.contains("LOCAL DEVELOPMENT KEY"), "{loud}");
    let both = verdict(&Trust::of([other.public(), fixture::key().public()]));
    assert_eq!(both.facts.unwrap().signed_by.len(), 2);
    let stranger = Key::from_seed("stranger", Purpose::Release, &[3; 32]).public();
    let none = verdict(&Trust::of([stranger]));
    assert!(
        problems(&none)[0].contains("no trusted key signed"),
        "{none:?}"
    );
    let nobody = verdict(&Trust::default());
    assert_eq!(nobody.problems.len(), 1);
    assert!(nobody.problems[0].help().unwrap().contains("trust folder"));
}

#[test]
fn a_key_cannot_hide_that_it_is_for_development() {
    let (_folder, path) = fixture::release();
    let development = Key::from_seed("release", Purpose::Development, &[7; 32]);
    let trust = Trust::of([development.public()]);
    let report = verify(&path, &trust, &Silent, &Interrupt::new()).unwrap();
    assert!(
        problems(&report)[0].contains("says development: true"),
        "{report:?}"
    );
}

#[test]
fn openssl_and_sha256sum_accept_a_release() {
    let (_folder, path) = fixture::release();
    let envelope = Envelope::parse(&std::fs::read(path.join(SIGNATURES)).unwrap()).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let text = |name: &str| outside.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(text("signature"), &envelope.signatures[0].signature.0).unwrap();
    std::fs::write(text("key.pub"), fixture::key().public().to_text()).unwrap();
    let (key, signature) = (text("key.pub"), text("signature"));
    let verify = |file: &str| {
        let arguments = [
            "pkeyutl", "-verify", "-pubin", "-inkey", &key, "-rawin", "-in", file,
        ];
        let arguments = [&arguments[..], &["-sigfile", &signature]].concat();
        judge(&path, "openssl", &arguments).map(|output| output.status.success())
    };
    let Some(accepted) = verify(MANIFEST) else {
        return;
    };
    assert!(accepted);
    assert_eq!(
        verify("uki.efi"),
        Some(false),
        "the judge must be able to refuse"
    );
    let Some(sums) = judge(&path, "sha256sum", &["--check", "--strict", "SHA256SUMS"]) else {
        return;
    };
    assert!(sums.status.success(), "{sums:?}");
    assert_eq!(String::from_utf8_lossy(&sums.stdout).lines().count(), 6);
}

#[test]
fn a_signature_made_by_openssl_verifies() {
    let (_folder, path) = fixture::release();
    let outside = tempfile::tempdir().unwrap();
    let (key, output) = (outside.path().join("key"), outside.path().join("out"));
    fixture::key().save(&key, None).unwrap();
    let arguments = [
        "pkeyutl",
        "-sign",
        "-inkey",
        key.to_str().unwrap(),
        "-rawin",
        "-in",
        MANIFEST,
        "-out",
        output.to_str().unwrap(),
    ];
    let Some(made) = judge(&path, "openssl", &arguments) else {
        return;
    };
    assert!(made.status.success(), "{made:?}");
    let file = path.join(SIGNATURES);
    let mut envelope = Envelope::parse(&std::fs::read(&file).unwrap()).unwrap();
    let foreign = std::fs::read(output).unwrap();
    assert_eq!(Base64::encode_string(&foreign).len(), 88);
    envelope.signatures[0].signature = RawSignature(foreign);
    std::fs::write(&file, envelope.to_bytes()).unwrap();
    assert!(verified(&path).is_good());
}

#[test]
fn a_missing_disk_cannot_have_been_tested() {
    let found = refused(|manifest| {
        for file in &mut manifest.files {
            if file.role == FileRole::Disk {
                file.role = FileRole::Root;
            }
        }
    });
    assert_eq!(found.len(), 1, "{found:?}");
}
