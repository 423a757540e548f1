//! Certificates judged by OpenSSL.

use proptest::prelude::*;

use super::*;
use crate::judge::{judge, run};
use crate::testing::TestKey;

#[test]
fn openssl_reads_what_was_meant() {
    let Some(_) = judge("openssl") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.cer");
    for (key, algorithm) in [
        (TestKey::rsa(), "sha256WithRSAEncryption"),
        (TestKey::ecdsa(), "ecdsa-with-SHA256"),
    ] {
        let certificate = key.certificate("Bäcker db");
        std::fs::write(&path, certificate.der()).unwrap();
        let ask = |words: &[&str]| {
            let mut openssl = judge("openssl").unwrap();
            openssl.args(["x509", "-inform", "DER", "-in"]).arg(&path);
            run(openssl.args(words))
        };
        let (good, said) = ask(&["-noout", "-text", "-nameopt", "utf8"]);
        assert!(good, "{said}");
        for words in [
            algorithm,
            "Version: 3 (0x2)",
            "Subject: CN=Bäcker db",
            "Issuer: CN=Bäcker db",
            "Not Before: Jan  1 00:00:00 2026 GMT",
            "Not After : Jan  1 00:00:00 2051 GMT",
            "CA:FALSE",
            "Digital Signature",
            "X509v3 Subject Key Identifier",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let (good, pem) = ask(&["-outform", "PEM"]);
        assert!(good, "{pem}");
        let pem_path = folder.path().join("a.pem");
        std::fs::write(&pem_path, pem).unwrap();
        let mut openssl = judge("openssl").unwrap();
        openssl.args(["verify", "-check_ss_sig", "-CAfile"]);
        let (good, said) = run(openssl.arg(&pem_path).arg(&pem_path));
        assert!(good, "{said}");
    }
}

#[test]
fn what_was_made_is_read_back() {
    let key = TestKey::rsa();
    let certificate = key.certificate("baker db");
    assert_eq!(certificate.name(), "baker db");
    assert_eq!(certificate.key(), &key.public());
    assert_eq!(
        Certificate::parse(certificate.der()),
        Ok(certificate.clone())
    );
    assert_eq!(
        certificate.fingerprint().to_string(),
        "47274f7b8aec29bc3750a341f3b0b19c27daf7649209767582d86b327f7665a1",
        "the same key, name and time always give the same certificate"
    );
    let long = [certificate.der(), &[0]].concat();
    assert!(matches!(Certificate::parse(&long), Err(X509Error::Der(_))));
}

#[test]
fn names_and_signatures_that_do_not_fit_are_refused() {
    let key = TestKey::ecdsa().public();
    for name in ["", "a\nb", &"x".repeat(65)] {
        let request = Request {
            name,
            key: &key,
            not_before: 0,
            not_after: 1,
        };
        assert!(matches!(request.prepare(), Err(X509Error::Name { .. })));
    }
    let request = Request {
        name: "x",
        key: &key,
        not_before: 0,
        not_after: 1,
    };
    let unsigned = request.prepare().unwrap();
    let other = TestKey::rsa().sign(unsigned.message());
    assert_eq!(unsigned.attach(&other), Err(X509Error::Signature));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_certificates_never_panic(
        changes in prop::collection::vec((0_usize..700, any::<u8>()), 1..6),
        end in 0_usize..900,
    ) {
        let mut der = TestKey::ecdsa().certificate("x").der().to_vec();
        for (at, value) in changes {
            if let Some(byte) = der.get_mut(at) {
                *byte = value;
            }
        }
        der.truncate(end);
        if let Ok(certificate) = Certificate::parse(&der) {
            prop_assert_eq!(certificate.der(), der);
            drop(certificate.name());
        }
    }
}
