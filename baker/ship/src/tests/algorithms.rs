//! Keys of the other algorithms: kept like those of Ed25519, and understood by OpenSSL in both
//! directions.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use super::fixture::{self, judge};
use crate::pem::{certificate_from_pem, certificate_to_pem};
use crate::{Algorithm, Draft, Key, KeyError, Passphrase, PublicKey, Purpose, Signer, Trust};

/// Making one takes a while.
fn rsa() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(|| Key::generate("rsa", Purpose::Release, Algorithm::RsaPkcs1Sha256).unwrap())
}

fn p256() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(|| Key::generate("p256", Purpose::Release, Algorithm::EcdsaP256Sha256).unwrap())
}

fn openssl(folder: &Path, words: &str) -> Option<bool> {
    let words: Vec<&str> = words.split(' ').collect();
    judge(folder, "openssl", &words).map(|output| output.status.success())
}

#[test]
fn a_key_is_kept_and_openssl_agrees_with_its_signatures() {
    for key in [rsa(), p256()] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let passphrase = Passphrase::new("correct horse".to_owned()).unwrap();
        key.save(&path("plain.key"), None).unwrap();
        key.save(&path("sealed.key"), Some(&passphrase)).unwrap();
        let mode = path("plain.key").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let again = key.save(&path("plain.key"), None);
        assert!(matches!(again, Err(KeyError::Exists { .. })));

        let sealed = Key::load(&path("sealed.key"), Some(&passphrase)).unwrap();
        assert_eq!(sealed.public().id(), key.public().id());
        let error = Key::load(&path("sealed.key"), None).unwrap_err();
        assert!(error.needs_passphrase(), "{error}");
        let other = Passphrase::new("wrong".to_owned()).unwrap();
        assert!(Key::load(&path("sealed.key"), Some(&other)).is_err());

        let signature = key.sign(b"message").unwrap();
        assert_eq!(signature, sealed.sign(b"message").unwrap());
        assert!(key.public().accepts(b"message", &signature.bytes));
        assert!(!key.public().accepts(b"messagf", &signature.bytes));
        std::fs::write(path("message"), "message").unwrap();
        std::fs::write(path("signature"), &signature.bytes).unwrap();
        let derive = "pkey -in sealed.key -passin file:secret -pubout -out a.pub";
        std::fs::write(path("secret"), "correct horse").unwrap();
        if openssl(folder.path(), derive).is_none() {
            return;
        }
        let public = std::fs::read_to_string(path("a.pub")).unwrap();
        assert_eq!(public, key.public().to_text());
        let verify = "dgst -sha256 -verify a.pub -signature signature message";
        assert_eq!(openssl(folder.path(), verify), Some(true));
        std::fs::write(path("message"), "another").unwrap();
        assert_eq!(openssl(folder.path(), verify), Some(false));
    }
}

#[test]
fn keys_of_openssl_are_read_when_they_are_strong_enough() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, words: &str| {
        let made = openssl(folder.path(), &format!("genpkey {words} -out {name}"))?;
        assert!(made, "{words}");
        let path = folder.path().join(name);
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        Some(Key::load(&path, None))
    };
    let Some(small) = make("small", "-algorithm RSA -pkeyopt rsa_keygen_bits:1024") else {
        return;
    };
    assert!(small.unwrap_err().help().unwrap().contains("baker key new"));
    let large = make("large", "-algorithm RSA -pkeyopt rsa_keygen_bits:3072");
    let large = large.unwrap().unwrap();
    assert_eq!(large.sign(b"x").unwrap().bytes.len(), 384);
    let curve = make("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    let curve = curve.unwrap().unwrap();
    assert_eq!(curve.public().algorithm(), Algorithm::EcdsaP256Sha256);
    let other = make("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384");
    assert!(other.unwrap().is_err());

    std::fs::write(folder.path().join("message"), "message").unwrap();
    let sign = "dgst -sha256 -sign p256 -out signature message";
    assert_eq!(openssl(folder.path(), sign), Some(true));
    let theirs = std::fs::read(folder.path().join("signature")).unwrap();
    assert!(curve.public().accepts(b"message", &theirs));
    // Compressed, one key would have a second id.
    let words = "pkey -in p256 -pubout -ec_conv_form compressed -out c.pub";
    assert_eq!(openssl(folder.path(), words), Some(true));
    let text = std::fs::read_to_string(folder.path().join("c.pub")).unwrap();
    assert!(PublicKey::parse("c", &text).is_err());
}

#[test]
fn releases_are_signed_with_p256_and_never_with_rsa() {
    use baker_model::{Interrupt, Silent};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("minimal-1.0.0");
    std::fs::create_dir(&path).unwrap();
    let draft = || Draft::new(path.clone(), fixture::stage(&path));
    let error = draft().sign(rsa(), &Silent, &Interrupt::new()).unwrap_err();
    assert!(error.help().unwrap().contains("baker key new"), "{error}");
    draft().sign(p256(), &Silent, &Interrupt::new()).unwrap();
    let trust = Trust::of([p256().public()]);
    let report = crate::verify(&path, &trust, &Silent, &Interrupt::new()).unwrap();
    assert!(report.is_good(), "{report:?}");
    std::fs::write(folder.path().join("rsa.pub"), rsa().public().to_text()).unwrap();
    let error = Trust::load(folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("never signs releases"),
        "{error}"
    );
}

#[test]
fn certificates_go_through_pem() {
    let pem = certificate_to_pem(&[0x30, 3, 2, 1, 7]).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
    assert_eq!(certificate_from_pem(&pem).unwrap(), [0x30, 3, 2, 1, 7]);
    let other = pem.replace("CERTIFICATE", "PUBLIC KEY");
    assert!(certificate_from_pem(&other).is_err());
}
