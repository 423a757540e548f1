//! Key files: made, kept, refused, and understood by OpenSSL in both directions.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::fixture::judge;
use crate::{Algorithm, Key, KeyError, Passphrase, Purpose, Signer, Trust};

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.to_owned()).unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_saved_key_loads_again_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("release");
    let key = Key::generate("release", Purpose::Release, Algorithm::Ed25519).unwrap();
    let files = key.save(&path, None).unwrap();
    assert_eq!((mode(&files.private), mode(&files.public)), (0o600, 0o644));
    let loaded = Key::load(&path, None).unwrap();
    assert_eq!(loaded.public(), key.public());
    assert_eq!(loaded.sign(b"x").unwrap(), key.sign(b"x").unwrap());
    let trust = Trust::load(folder.path()).unwrap();
    assert_eq!(trust.keys(), [key.public()]);

    let other = Key::generate("release", Purpose::Release, Algorithm::Ed25519).unwrap();
    assert_ne!(other.public().id(), key.public().id());
    assert!(matches!(
        other.save(&path, None),
        Err(KeyError::Exists { .. })
    ));
    std::fs::remove_file(&files.public).unwrap();
    assert!(matches!(
        other.save(&path, None),
        Err(KeyError::Exists { .. })
    ));
    assert!(!files.public.exists(), "a refused save leaves nothing");
    assert_eq!(Key::load(&path, None).unwrap().public(), key.public());
}

#[test]
fn a_key_open_to_others_is_refused_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("release");
    let key = Key::generate("release", Purpose::Release, Algorithm::Ed25519).unwrap();
    key.save(&path, None).unwrap();
    for bits in [0o640, 0o604, 0o602, 0o610] {
        std::fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
        let error = Key::load(&path, None).unwrap_err();
        assert!(
            error.to_string().contains(&format!("{bits:04o}")),
            "{error}"
        );
        assert_eq!(error.help(), Some(format!("chmod 600 {}", path.display())));
    }
    std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    Key::load(&path, None).unwrap();
}

#[test]
fn a_passphrase_is_needed_and_must_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("release");
    let key = Key::generate("release", Purpose::Release, Algorithm::Ed25519).unwrap();
    key.save(&path, Some(&passphrase("correct horse"))).unwrap();
    assert!(Key::load(&path, None).unwrap_err().needs_passphrase());
    let wrong = Key::load(&path, Some(&passphrase("wrong"))).unwrap_err();
    assert!(!wrong.needs_passphrase() && wrong.help().is_some());
    let loaded = Key::load(&path, Some(&passphrase("correct horse"))).unwrap();
    assert_eq!(loaded.public(), key.public());
    assert!(matches!(
        Passphrase::new(String::new()),
        Err(KeyError::EmptyPassphrase)
    ));
    assert_eq!(format!("{:?}", passphrase("secret")), "Passphrase");
    assert!(!format!("{key:?}").contains("signing"));
}

#[test]
fn a_development_key_says_so_in_both_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("local-development");
    let key = Key::generate(
        "local-development",
        Purpose::Development,
        Algorithm::Ed25519,
    )
    .unwrap();
    let files = key.save(&path, Some(&passphrase("x"))).unwrap();
    for file in [&files.private, &files.public] {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.starts_with("# baker local development key"), "{text}");
    }
    let loaded = Key::load(&path, Some(&passphrase("x"))).unwrap();
    assert_eq!(loaded.public().purpose(), Purpose::Development);
    let trusted = Trust::load_key(&files.public).unwrap();
    assert_eq!(trusted, key.public());
}

#[test]
fn what_is_no_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    };
    let missing = Key::load(&folder.path().join("none"), None).unwrap_err();
    assert!(missing.help().unwrap().contains("baker key new"));
    let public = Key::from_seed("x", Purpose::Release, &[1; 32])
        .public()
        .to_text();
    let rsa = "-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n";
    for text in ["", "junk", public.as_str(), rsa, &"x".repeat(70_000)] {
        assert!(Key::load(&write("bad", text), None).is_err(), "{text:.40}");
    }
    // The point of order one: every message has a signature that fits it.
    let weak = "-----BEGIN PUBLIC KEY-----\n\
                MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\
                -----END PUBLIC KEY-----\n";
    write("weak.pub", weak);
    let error = Trust::load(folder.path()).unwrap_err();
    assert!(error.to_string().contains("weak.pub"), "{error}");
    assert!(
        Trust::load(&folder.path().join("nowhere"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn openssl_reads_our_keys() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let plain = Key::generate("plain", Purpose::Development, Algorithm::Ed25519).unwrap();
    plain.save(&at.join("plain"), None).unwrap();
    let locked = Key::generate("locked", Purpose::Release, Algorithm::Ed25519).unwrap();
    locked
        .save(&at.join("locked"), Some(&passphrase("pass word")))
        .unwrap();
    let public_of = |arguments: &[&str]| {
        let output = judge(at, "openssl", arguments)?;
        assert!(output.status.success(), "{output:?}");
        Some(String::from_utf8(output.stdout).unwrap())
    };
    let cases: [(&Key, &[&str]); 4] = [
        (&plain, &["pkey", "-in", "plain", "-pubout"]),
        (&plain, &["pkey", "-in", "plain.pub", "-pubin"]),
        (
            &locked,
            &[
                "pkey",
                "-in",
                "locked",
                "-passin",
                "pass:pass word",
                "-pubout",
            ],
        ),
        (&locked, &["pkey", "-in", "locked.pub", "-pubin"]),
    ];
    for (key, arguments) in cases {
        let Some(text) = public_of(arguments) else {
            return;
        };
        assert!(key.public().to_text().ends_with(&text), "{arguments:?}");
    }
    let der = judge(
        at,
        "openssl",
        &["pkey", "-pubin", "-in", "plain.pub", "-outform", "DER"],
    );
    assert_eq!(
        baker_model::Digest::of(&der.unwrap().stdout),
        plain.public().id()
    );
}

#[test]
fn we_read_openssl_keys() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let cases: [(&str, &[&str], Option<&str>); 3] = [
        ("plain", &[], None),
        (
            "pbkdf2",
            &["-aes-256-cbc", "-pass", "pass:p w"],
            Some("p w"),
        ),
        ("x25519", &[], None),
    ];
    for (name, extra, words) in cases {
        let algorithm = if name == "x25519" {
            "x25519"
        } else {
            "ed25519"
        };
        let arguments = [&["genpkey", "-algorithm", algorithm, "-out", name], extra].concat();
        let Some(made) = judge(at, "openssl", &arguments) else {
            return;
        };
        assert!(made.status.success(), "{made:?}");
        std::fs::set_permissions(at.join(name), Permissions::from_mode(0o600)).unwrap();
        let loaded = Key::load(&at.join(name), words.map(passphrase).as_ref());
        if name == "x25519" {
            assert!(matches!(loaded, Err(KeyError::Content { .. })));
            continue;
        }
        let words = format!("pass:{}", words.unwrap_or_default());
        let public = judge(
            at,
            "openssl",
            &["pkey", "-in", name, "-passin", &words, "-pubout"],
        );
        let public = String::from_utf8(public.unwrap().stdout).unwrap();
        assert_eq!(loaded.unwrap().public().to_text(), public, "{name}");
    }
}
