//! Keys that firmware knows: kept like others, and understood by OpenSSL in both directions.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use super::fixture::judge;
use crate::boot_key::{certificate_from_pem, certificate_to_pem};
use crate::{BootKey, Key, KeyError, Passphrase, Purpose};

/// Making one takes a while.
fn key() -> &'static BootKey {
    static KEY: OnceLock<BootKey> = OnceLock::new();
    KEY.get_or_init(|| BootKey::generate().unwrap())
}

fn openssl(folder: &Path, words: &str) -> Option<bool> {
    let words: Vec<&str> = words.split(' ').collect();
    judge(folder, "openssl", &words).map(|output| output.status.success())
}

#[test]
fn a_boot_key_is_kept_and_openssl_agrees_with_its_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let passphrase = Passphrase::new("correct horse".to_owned()).unwrap();
    key().save(&path("plain.key"), None).unwrap();
    key().save(&path("sealed.key"), Some(&passphrase)).unwrap();
    let mode = path("plain.key").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let again = key().save(&path("plain.key"), None);
    assert!(matches!(again, Err(KeyError::Exists { .. })));

    let sealed = BootKey::load(&path("sealed.key"), Some(&passphrase)).unwrap();
    assert_eq!(sealed.public().unwrap(), key().public().unwrap());
    let error = BootKey::load(&path("sealed.key"), None).unwrap_err();
    assert!(error.needs_passphrase(), "{error}");
    let other = Passphrase::new("wrong".to_owned()).unwrap();
    assert!(BootKey::load(&path("sealed.key"), Some(&other)).is_err());

    let signature = key().sign(b"message").unwrap();
    assert_eq!(signature, sealed.sign(b"message").unwrap());
    std::fs::write(path("message"), "message").unwrap();
    std::fs::write(path("signature"), signature).unwrap();
    let derive = "pkey -in sealed.key -passin file:secret -pubout -out a.pub";
    std::fs::write(path("secret"), "correct horse").unwrap();
    if openssl(folder.path(), derive).is_none() {
        return;
    }
    let verify = "dgst -sha256 -verify a.pub -signature signature message";
    assert_eq!(openssl(folder.path(), verify), Some(true));
    std::fs::write(path("message"), "another").unwrap();
    assert_eq!(openssl(folder.path(), verify), Some(false));
}

#[test]
fn only_rsa_keys_of_enough_bits_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let refused = |name: &str| {
        let file = path(name);
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let error = BootKey::load(&file, None).unwrap_err();
        let help = error.help().unwrap();
        assert!(help.contains("baker key secure-boot"), "{error}: {help}");
    };
    let signing = Key::generate("release", Purpose::Release).unwrap();
    signing.save(&path("ed25519"), None).unwrap();
    refused("ed25519");
    let make = "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out small";
    if openssl(folder.path(), make).is_some() {
        refused("small");
        let make = "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out large";
        assert_eq!(openssl(folder.path(), make), Some(true));
        std::fs::set_permissions(path("large"), Permissions::from_mode(0o600)).unwrap();
        let large = BootKey::load(&path("large"), None).unwrap();
        assert_eq!(large.sign(b"x").unwrap().len(), 384);
    }
}

#[test]
fn certificates_go_through_pem() {
    let pem = certificate_to_pem(&[0x30, 3, 2, 1, 7]).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
    assert_eq!(certificate_from_pem(&pem).unwrap(), [0x30, 3, 2, 1, 7]);
    let other = pem.replace("CERTIFICATE", "PUBLIC KEY");
    assert!(certificate_from_pem(&other).is_err());
}
