//! Which archives are believed, and what each refusal says.

use baker_fetch::debian::signature::SignatureError;
use baker_fetch::{ArchiveError, DownloadError, Expiry, LockError, ReleaseError};
use baker_model::Lock;
use baker_model::lock::PackageRole;
use baker_tests::archive::{DATE, DAY, Defect, Key, Suite};
use baker_tests::deb::Compression;
use baker_tests::world::{World, recipe, suite};

fn lock_of(suite: &Suite) -> Result<Lock, LockError> {
    let world = World::new().unwrap();
    world.publish(suite).unwrap();
    world.lock(&recipe(&["hello"], "").unwrap(), None)
}

fn refusal(suite: &Suite) -> LockError {
    lock_of(suite).expect_err("this archive must be refused")
}

fn release_error(error: LockError) -> ReleaseError {
    match error {
        LockError::Archive(ArchiveError::Release(error)) => error,
        other => panic!("not about the release: {other}"),
    }
}

#[test]
fn a_sound_archive_gives_a_lock_that_reads_well() {
    let world = World::new().unwrap();
    world.publish(&suite()).unwrap();
    let lock = world.lock(&recipe(&["hello"], "").unwrap(), None).unwrap();
    let packages: Vec<_> = lock
        .packages
        .iter()
        .map(|p| (p.name.as_str(), p.role))
        .collect();
    assert_eq!(
        packages,
        [
            ("hello", PackageRole::Root),
            ("libhello", PackageRole::Root),
            ("linux-image-6.12-amd64", PackageRole::Kernel),
            ("systemd-boot-efi", PackageRole::Boot),
        ]
    );
    assert_eq!(lock.epoch, DATE);
    assert_eq!(lock.archives[0].signed_by, [world.key.fingerprint()]);
    assert_eq!(Lock::parse(&lock.to_text()).unwrap(), lock);
    let text = lock.to_text();
    assert!(
        text.contains("\n\n[[package]]\nname = \"hello\"\nversion = \"1.0\"\n"),
        "{text}"
    );
    assert!(text.lines().all(|line| line.len() < 140), "{text}");
}

#[test]
fn every_form_of_index_gives_the_same_packages() {
    let packages = lock_of(&suite()).unwrap().packages;
    for (forms, by_hash) in [
        (vec![Compression::None], true),
        (vec![Compression::Gzip], false),
        (vec![Compression::Xz], false),
        (
            vec![Compression::None, Compression::Gzip, Compression::Xz],
            true,
        ),
    ] {
        let mut suite = suite();
        (suite.forms, suite.by_hash) = (forms.clone(), by_hash);
        assert_eq!(lock_of(&suite).unwrap().packages, packages, "{forms:?}");
    }
}

#[test]
fn an_index_form_that_the_mirror_lacks_is_passed_over() {
    let world = World::new().unwrap();
    let mut suite = suite();
    (suite.forms, suite.by_hash) = (vec![Compression::Xz, Compression::Gzip], false);
    world.publish(&suite).unwrap();
    let folder = world.archive().join("dists/trixie/main/binary-amd64");
    std::fs::remove_file(folder.join("Packages.xz")).unwrap();
    let lock = world.lock(&recipe(&["hello"], "").unwrap(), None).unwrap();
    assert_eq!(
        lock.archives[0].indexes[0].path,
        "main/binary-amd64/Packages.gz"
    );
}

#[test]
fn each_defect_of_a_release_has_its_own_error() {
    let unsigned = release_error(refusal(&suite().defect(Defect::Unsigned)));
    assert!(matches!(
        unsigned,
        ReleaseError::Signature {
            source: SignatureError::Unsigned,
            ..
        }
    ));

    let altered = release_error(refusal(&suite().defect(Defect::AlteredRelease)));
    assert!(
        matches!(
            altered,
            ReleaseError::Signature {
                source: SignatureError::NoGoodSignature { .. },
                ..
            }
        ),
        "{altered}"
    );

    let mut expired = suite();
    expired.valid_until = Some(DATE + 60);
    let expired = release_error(refusal(&expired));
    assert!(matches!(expired, ReleaseError::Expired { .. }), "{expired}");
    assert!(
        expired.to_string().contains("2026-06-01 00:01:00 UTC"),
        "{expired}"
    );

    let mut future = suite();
    future.date = DATE + DAY;
    assert!(matches!(
        release_error(refusal(&future)),
        ReleaseError::Future { .. }
    ));

    let mut wrong = suite();
    wrong.claims = Some("bookworm".to_owned());
    let wrong = release_error(refusal(&wrong));
    assert!(matches!(wrong, ReleaseError::WrongSuite { .. }), "{wrong}");

    let weak = release_error(refusal(&suite().defect(Defect::NoSha256)));
    assert!(matches!(weak, ReleaseError::NoSha256 { .. }), "{weak}");
}

#[test]
fn text_outside_the_signature_is_never_used() {
    // Whether the whole file is refused or only the signed part is used, the text before it must
    // not decide anything.
    let lock = lock_of(&suite().defect(Defect::TextBeforeSignature));
    if let Ok(lock) = lock {
        assert_eq!(lock.packages, lock_of(&suite()).unwrap().packages);
    }
}

#[test]
fn altered_indexes_are_refused_with_both_digests() {
    for defect in [Defect::AlteredIndex, Defect::TruncatedIndex] {
        let error = refusal(&suite().defect(defect.clone()));
        let LockError::Archive(ArchiveError::Download(DownloadError::Altered(found))) = &error
        else {
            panic!("{defect:?}: {error}");
        };
        assert!(
            found.path.starts_with("dists/trixie/main/binary-amd64/"),
            "{error}"
        );
        assert!(error.to_string().contains("expected"), "{error}");
    }
}

#[test]
fn keys_that_do_not_count_are_refused() {
    let check = |signer: &Key, trusted: &Key, words: &str| {
        let world = World::new().unwrap();
        trusted.write(&world.keyring()).unwrap();
        suite().write(&world.archive(), signer).unwrap();
        let error = world
            .lock(&recipe(&["hello"], "").unwrap(), None)
            .unwrap_err();
        assert!(error.to_string().contains("no good signature"), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let (one, other) = (Key::new("one").unwrap(), Key::new("other").unwrap());
    check(&one, &other, "Missing key");
    let expired = Key::expiring("old", DATE - DAY).unwrap();
    check(&expired, &expired, "not live");
    // Alive when it signed, dead now.
    let since = Key::expiring("old", DATE + 60).unwrap();
    check(&since, &since, "expired");
    check(&one, &one.revoked().unwrap(), "revoked");
}

#[test]
fn older_archives_than_the_locked_one_are_refused() {
    let world = World::new().unwrap();
    let recipe = recipe(&["hello"], "").unwrap();
    world.publish(&suite()).unwrap();
    let lock = world.lock(&recipe, None).unwrap();
    let mut older = suite();
    older.date = DATE - DAY;
    world.publish(&older).unwrap();
    let error = release_error(world.lock(&recipe, Some(&lock)).unwrap_err());
    assert!(matches!(error, ReleaseError::Downgraded { .. }), "{error}");
    world.lock(&recipe, None).unwrap();
}

#[test]
fn ignoring_expiry_is_possible_and_loud() {
    let mut world = World::new().unwrap();
    let mut suite = suite();
    suite.valid_until = Some(DATE + 60);
    world.publish(&suite).unwrap();
    world.sources.expiry = Expiry::Ignore;
    world.lock(&recipe(&["hello"], "").unwrap(), None).unwrap();
    assert!(world.recorder.heard("Warning") && world.recorder.heard("expired"));
}

#[test]
fn missing_suites_components_and_keyrings_are_named() {
    let mut world = World::new().unwrap();
    let tiny = recipe(&["hello"], "").unwrap();
    let error = world.lock(&tiny, None).unwrap_err().to_string();
    assert!(
        error.contains("dists/trixie/InRelease") && error.contains("gone"),
        "{error}"
    );
    world.publish(&suite()).unwrap();
    let other = recipe(&["hello"], "components = [\"contrib\"]").unwrap();
    let error = world.lock(&other, None).unwrap_err().to_string();
    assert!(error.contains("no contrib packages for amd64"), "{error}");
    world.sources.keyrings.clear();
    let error = world.lock(&tiny, None).unwrap_err().to_string();
    assert!(error.contains("no keyring is known"), "{error}");
}

#[test]
fn why_explains_from_the_store_alone() {
    let mut world = World::new().unwrap();
    world.publish(&suite()).unwrap();
    let recipe = recipe(&["hello"], "").unwrap();
    let lock = world.lock(&recipe, None).unwrap();
    world.use_mirror("http://127.0.0.1:1").unwrap();
    let why = |package: &str| {
        world.with_request(&recipe, Some(&lock), |request| {
            baker_fetch::why(request, package)
        })
    };
    let text = why("libhello").unwrap().to_string();
    assert!(
        text.contains("hello Depends: libhello (>= 1) -> libhello"),
        "{text}"
    );
    assert!(why("hello").unwrap().asked);
    assert!(matches!(
        why("linux-image-amd64"),
        Err(LockError::NotChosen { .. })
    ));
}

#[test]
fn unused_assumptions_are_warned_of() {
    let world = World::new().unwrap();
    world.publish(&suite()).unwrap();
    let assume = |name: &str| format!("[[debian.assume]]\npackage = \"{name}\"\nreason = \"x\"");
    let lock = world
        .lock(&recipe(&["hello"], &assume("libhello")).unwrap(), None)
        .unwrap();
    assert!(
        !lock
            .packages
            .iter()
            .any(|package| package.name == "libhello")
    );
    assert!(
        !world.recorder.heard("Warning"),
        "{:?}",
        world.recorder.events()
    );
    world
        .lock(&recipe(&["hello"], &assume("perl")).unwrap(), None)
        .unwrap();
    assert!(world.recorder.heard("assumed package `perl`"));
}
