//! Keys that are not here: behind a program, in a token, in another building.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baker_model::{Interrupt, Silent};

use super::fixture::{self, judge, skip};
use crate::hook::Hook;
use crate::key_source::replies;
use crate::names::RESERVED;
use crate::request::{Item, KeyUse, Request};
use crate::statements;
use crate::{
    Algorithm, Draft, Key, KeySource, Passphrase, Purpose, Secrets, Signed, SigningError, Trust,
    verify,
};

/// A program of these lines, in `folder`.
fn program(folder: &Path, lines: &str) -> PathBuf {
    let path = folder.join("signer");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_program_signs_as_the_protocol_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let key = Key::generate("p256", Purpose::Release, Algorithm::EcdsaP256Sha256).unwrap();
    key.save(&at.join("key"), None).unwrap();
    if judge(at, "openssl", &["version"]).is_none() {
        return;
    }
    let lines = format!(
        "cd {}\ncase $1 in\npublic-key) cat key.pub ;;\n\
         sign) [ \"$2\" = ecdsa-p256-sha256 ] && [ \"$3\" = {} ] && [ $# = 3 ] && \
         [ -z \"$BAKER_PKCS11_PIN\" ] && openssl dgst -sha256 -sign key ;;\nesac",
        at.display(),
        key.public().id()
    );
    let program = program(at, &lines);
    let text = format!("command:{}", program.display());
    let signer = KeySource::parse(&text)
        .unwrap()
        .open(&Secrets::default())
        .unwrap();
    assert_eq!(signer.public().id(), key.public().id());
    let release = at.join("minimal-1.0.0");
    fs::create_dir(&release).unwrap();
    let draft = Draft::new(release.clone(), fixture::stage(&release));
    draft
        .sign(signer.as_ref(), &Silent, &Interrupt::new())
        .unwrap();
    let trust = Trust::of([key.public()]);
    let report = verify(&release, &trust, &Silent, &Interrupt::new()).unwrap();
    assert!(report.is_good(), "{report:?}");
}

#[test]
fn a_program_that_fails_hangs_or_lies_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let key = fixture::key();
    key.save(&at.join("key"), None).unwrap();
    let public = format!("[ $1 = public-key ] && exec cat {}/key.pub\n", at.display());
    let minute = Duration::from_secs(60);
    let sign_within = |timeout: Duration, lines: &str| {
        let program = program(at, &format!("{public}{lines}"));
        let hook = Hook::open(&program, timeout).unwrap();
        let signed = crate::signer::for_release(&hook, b"message");
        signed.map(drop).unwrap_err()
    };
    let sign = |lines: &str| sign_within(minute, lines);
    let error = sign("echo 'no such slot' >&2; exit 3");
    let told = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        told.contains("no such slot") && told.contains("sign"),
        "{told}"
    );
    let before = Instant::now();
    // Long enough for a busy machine to give the public key.
    let error = sign_within(Duration::from_secs(10), "exec sleep 600");
    let told = std::error::Error::source(&error).unwrap().to_string();
    assert!(told.contains("was killed after 10 s"), "{told}");
    assert!(before.elapsed() < Duration::from_secs(500));
    assert!(error.help().unwrap().contains("?timeout="));
    assert!(matches!(sign("echo junk"), SigningError::Wrong { .. }));
    let error = sign("head -c 100000 /dev/zero");
    let told = std::error::Error::source(&error).unwrap().to_string();
    assert!(told.contains("more than"), "{told}");
    assert!(Hook::open(&at.join("nowhere"), minute).is_err());
    assert!(Hook::open(&program(at, "echo junk"), minute).is_err());
    for text in [
        "command:",
        "command:gpg",
        "command:/x?timeout=0",
        "command:/x?timeout=a",
    ] {
        let error = KeySource::parse(text).unwrap_err();
        assert!(error.help().unwrap().contains("command:/path"), "{error}");
    }
}

/// The module of SoftHSM; none, loudly, when it is not installed.
fn module() -> Option<&'static str> {
    let places = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
    ];
    let found = places.into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        skip("SoftHSM is not installed (softhsm2)");
    }
    found
}

/// Runs the test of this name in a process of its own, with a configuration for SoftHSM: it is read
/// from the environment alone, which is one for all tests of a process.
fn in_a_process_of_its_own(test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("tokens")).unwrap();
    let conf = format!(
        "directories.tokendir = {}/tokens\nlog.level = ERROR\n",
        at.display()
    );
    fs::write(at.join("conf"), conf).unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env("SOFTHSM2_CONF", at.join("conf"))
        .env("BAKER_TEST_TOKEN", at)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
}

#[test]
fn a_token_signs_with_every_algorithm() {
    let Some(module) = module() else {
        return;
    };
    let Some(home) = std::env::var_os("BAKER_TEST_TOKEN").map(PathBuf::from) else {
        return in_a_process_of_its_own("tests::elsewhere::a_token_signs_with_every_algorithm");
    };
    let util = |words: &[&str]| {
        let made = judge(&home, "softhsm2-util", words).expect("it came with the module");
        assert!(made.status.success(), "{words:?}: {made:?}");
    };
    let slot = [
        "--init-token",
        "--free",
        "--label",
        "release",
        "--so-pin",
        "1234",
        "--pin",
        "1234",
    ];
    util(&slot);
    fs::write(home.join("pin"), "1234\n").unwrap();
    fs::set_permissions(home.join("pin"), Permissions::from_mode(0o600)).unwrap();
    for (id, algorithm) in [
        ("01", Algorithm::Ed25519),
        ("02", Algorithm::EcdsaP256Sha256),
        ("03", Algorithm::RsaPkcs1Sha256),
    ] {
        let key = Key::generate("key", Purpose::Release, algorithm).unwrap();
        let file = home.join(format!("{id}.pem"));
        key.save_private(&file, None).unwrap();
        let (file, label) = (file.to_str().unwrap(), algorithm.name());
        util(&[
            "--import", file, "--token", "release", "--label", label, "--id", id, "--pin", "1234",
        ]);
        let uri = format!(
            "pkcs11:token=release;object={label};id=%{id}?module-path={module}&pin-source=file:{}",
            home.join("pin").display()
        );
        let open = |text: &str| KeySource::parse(text).unwrap().open(&Secrets::default());
        let signer = open(&uri).unwrap();
        assert_eq!(signer.public().id(), key.public().id(), "{algorithm}");
        let signature = signer.sign(b"message").unwrap();
        assert!(
            key.public().accepts(b"message", &signature.bytes),
            "{algorithm}"
        );
        let other = open(&uri.replace("token=release", "token=other"))
            .map(drop)
            .unwrap_err();
        assert!(other.help().unwrap().contains("label"), "{other}");
        let none = open(&uri.replace("%0", "%1")).map(drop).unwrap_err();
        assert!(none.to_string().contains("0 private keys"), "{none}");
    }
    let secrets = Secrets {
        pin: Some(Passphrase::new("4321".to_owned()).unwrap()),
        module: Some(module.into()),
        ..Secrets::default()
    };
    // Login holds for all sessions of a process; those of the loop are over.
    let text = "pkcs11:token=release;object=ed25519";
    let wrong = KeySource::parse(text).unwrap().open(&secrets).map(drop);
    let wrong = wrong.unwrap_err();
    assert!(wrong.to_string().contains("does not let us in"), "{wrong}");
    let error = KeySource::parse(&format!("{text}?pin-value=1234")).unwrap_err();
    assert!(error.help().unwrap().contains("pin-source"), "{error}");
}

#[test]
fn a_release_signed_elsewhere_has_the_bytes_of_one_signed_here() {
    for (key, other) in [
        (
            fixture::key(),
            Key::from_seed("other", Purpose::Development, &[9; 32]),
        ),
        (
            Key::generate("p256", Purpose::Release, Algorithm::EcdsaP256Sha256).unwrap(),
            fixture::key(),
        ),
    ] {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let draft = |folder: &Path| Draft::new(folder.to_owned(), fixture::stage(folder));
        let no = Interrupt::new();
        let signed = draft(here.path()).sign(&key, &Silent, &no).unwrap();
        drop(signed.countersign(&other).unwrap());

        let file = tempfile::tempdir().unwrap();
        let path = file.path().join("request.json");
        let request = draft(there.path()).request(&Silent, &no).unwrap();
        let text = String::from_utf8(request.to_bytes()).unwrap();
        for told in [
            "minimal 1.0.0",
            "test `uefi`: passed",
            "vouches",
            "what the tests",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
        let mut request = Request::parse(text.as_bytes()).unwrap();
        fs::write(&path, request.to_bytes()).unwrap();
        assert!(
            replies(&path)
                .unwrap_err()
                .help()
                .unwrap()
                .contains("baker sign")
        );
        request.sign(&key).unwrap();
        request.sign(&other).unwrap();
        fs::write(&path, request.to_bytes()).unwrap();
        let replies = replies(&path).unwrap();
        assert_eq!(replies.len(), 2);
        let first = draft(there.path()).sign(&replies[0], &Silent, &no).unwrap();
        drop(first);
        let again = Signed::open(there.path(), &Silent, &no).unwrap();
        drop(again.countersign(&replies[1]).unwrap());
        for name in RESERVED {
            let read = |folder: &Path| fs::read(folder.join(name)).unwrap();
            assert_eq!(read(here.path()), read(there.path()), "{name}");
        }
    }
}

#[test]
fn what_comes_back_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = fixture::stage(folder.path());
    let statements = statements::of(folder.path(), &manifest).unwrap();
    let mut request = Request::of_release(&manifest, &statements);
    request.sign(&fixture::key()).unwrap();
    let good = String::from_utf8(request.to_bytes()).unwrap();
    let refused = |text: &str, words: &str| {
        let error = Request::parse(text.as_bytes()).and_then(|request| request.replies());
        let error = error.map(drop).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(
        &good.replacen("minimal", "maximal", 3),
        "not that of its bytes",
    );
    let other = request.items[1].signatures[0].signature.clone();
    request.items[0].signatures[0].signature = other;
    refused(
        &String::from_utf8(request.to_bytes()).unwrap(),
        "is not by that key",
    );
    refused(
        &good.replacen("\"request-version\": 1", "\"request-version\": 2", 1),
        "version 2",
    );

    // Signatures for another release are no signatures for this one.
    let mut older = manifest.clone();
    older.version = "0.9.0".to_owned();
    let statements = statements::of(folder.path(), &older).unwrap();
    let mut request = Request::of_release(&older, &statements);
    request.sign(&fixture::key()).unwrap();
    let replies = request.replies().unwrap();
    let draft = Draft::new(folder.path().to_owned(), manifest);
    let error = draft
        .sign(&replies[0], &Silent, &Interrupt::new())
        .unwrap_err();
    assert!(error.help().unwrap().contains("new request"), "{error}");
}

#[test]
fn keys_sign_only_what_they_are_for() {
    let items = vec![
        Item::new("a", "why", KeyUse::Release, b"a"),
        Item::new("b", "why", KeyUse::Boot, &[0xff, 0]),
    ];
    let mut request = Request::new(Vec::new(), items);
    assert_eq!(request.sign(&fixture::key()).unwrap(), 1);
    let both = Key::generate("p256", Purpose::Release, Algorithm::EcdsaP256Sha256).unwrap();
    assert_eq!(request.sign(&both).unwrap(), 2);
    assert_eq!(request.items[1].signatures.len(), 1);
}
