//! Signatures judged by `sbverify` and `osslsigncode`.

use proptest::prelude::*;

use super::super::tests::stub;
use super::*;
use crate::judge::{judge, run};
use crate::pe::{NewSection, append};
use crate::testing::TestKey;

/// A program whose length is no multiple of 8.
fn program() -> Vec<u8> {
    let mut bytes = append(&stub(), &[NewSection::new(".cmdline", b"quiet")]).unwrap();
    bytes.extend_from_slice(b"abc");
    bytes
}

fn sign(program: &[u8], key: &TestKey, certificate: &Certificate) -> Vec<u8> {
    let unsigned = prepare(program, certificate).unwrap();
    let signature = key.sign(unsigned.message());
    unsigned.attach(&signature).unwrap()
}

/// Asks a judge about a program; none when the judge is not installed.
fn ask(tool: &str, bytes: &[u8], certificate: &Certificate) -> Option<(bool, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("a.efi"), bytes).unwrap();
    std::fs::write(path("a.cer"), certificate.der()).unwrap();
    let mut openssl = judge("openssl")?;
    let words = ["x509", "-inform", "DER", "-in", "a.cer", "-out", "a.pem"];
    let (good, said) = run(openssl.args(words).current_dir(folder.path()));
    assert!(good, "{said}");
    let mut command = judge(tool)?;
    command.current_dir(folder.path());
    let words: &[&str] = match tool {
        "sbverify" => &["--cert", "a.pem", "a.efi"],
        _ => &["verify", "-in", "a.efi", "-CAfile", "a.pem"],
    };
    Some(run(command.args(words)))
}

#[test]
fn foreign_tools_accept_signatures_and_refuse_altered_programs() {
    let key = TestKey::rsa();
    let certificate = key.certificate("baker db");
    let good = sign(&program(), &key, &certificate);
    let mut bad = good.clone();
    bad[0x450] ^= 1;
    let stranger = TestKey::ecdsa().certificate("stranger");
    for tool in ["sbverify", "osslsigncode"] {
        let check = |bytes: &[u8], certificate| ask(tool, bytes, certificate);
        let Some((accepted, said)) = check(&good, &certificate) else {
            continue;
        };
        assert!(accepted, "{tool}: {said}");
        for (bytes, certificate) in [
            (&bad, &certificate),
            (&good, &stranger),
            (&program(), &certificate),
        ] {
            let (accepted, said) = check(bytes, certificate).unwrap();
            assert!(!accepted, "{tool}: {said}");
        }
    }
}

#[test]
fn elliptic_curves_are_accepted_too() {
    let key = TestKey::ecdsa();
    let certificate = key.certificate("curve");
    let signed = sign(&program(), &key, &certificate);
    assert_eq!(verify(&signed, &certificate), Ok(()));
    for tool in ["sbverify", "osslsigncode"] {
        if let Some((accepted, said)) = ask(tool, &signed, &certificate) {
            assert!(accepted, "{tool}: {said}");
        }
    }
}

#[test]
fn what_sbsign_signs_is_read_and_digested_alike() {
    let Some(mut sbsign) = judge("sbsign") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let key = TestKey::rsa();
    let certificate = key.certificate("db");
    std::fs::write(path("a.efi"), program()).unwrap();
    std::fs::write(path("a.cer"), certificate.der()).unwrap();
    std::fs::write(path("a.pk8"), include_bytes!("../testing/rsa.pk8")).unwrap();
    for words in [
        &["x509", "-inform", "DER", "-in", "a.cer", "-out", "a.pem"][..],
        &["pkey", "-inform", "DER", "-in", "a.pk8", "-out", "a.key"],
    ] {
        let mut openssl = judge("openssl").unwrap();
        let (good, said) = run(openssl.args(words).current_dir(folder.path()));
        assert!(good, "{said}");
    }
    let words = [
        "--key", "a.key", "--cert", "a.pem", "--output", "b.efi", "a.efi",
    ];
    let (good, said) = run(sbsign.args(words).current_dir(folder.path()));
    assert!(good, "{said}");
    let theirs = std::fs::read(path("b.efi")).unwrap();
    assert_eq!(verify(&theirs, &certificate), Ok(()));
    assert_eq!(digest(&theirs), digest(&program()));
    // Signing anew leaves their signature out.
    assert_eq!(
        sign(&theirs, &key, &certificate),
        sign(&program(), &key, &certificate)
    );
}

#[test]
fn the_same_key_gives_the_same_bytes() {
    let key = TestKey::rsa();
    let certificate = key.certificate("baker db");
    let signed = sign(&program(), &key, &certificate);
    assert_eq!(signed, sign(&program(), &key, &certificate));
    assert_eq!(
        Digest::of(&signed).to_string(),
        "153998e399fec85bca3c94f20547596adc4af3fc7c66736f293114458b5e95cb"
    );
    let image = Image::parse(&signed).unwrap();
    let field = image.optional + optional::CHECK_SUM;
    let sum = signed[field..field + 4].try_into().unwrap();
    assert_eq!(u32::from_le_bytes(sum), image.checksum(&signed));
    assert_eq!(
        image.section_bytes(&signed, ".cmdline"),
        Some(&b"quiet"[..])
    );
    let mut plain = program();
    plain.resize(plain.len().next_multiple_of(8), 0);
    set_checksum(&mut plain, &image);
    assert_eq!(strip(&signed).unwrap(), plain);
}

#[test]
fn each_way_to_fail_has_its_name() {
    let (key, other) = (TestKey::rsa(), TestKey::ecdsa());
    let certificate = key.certificate("ours");
    let signed = sign(&program(), &key, &certificate);
    assert_eq!(verify(&signed, &certificate), Ok(()));
    assert_eq!(
        verify(&program(), &certificate),
        Err(AuthenticodeError::Unsigned)
    );
    assert_eq!(
        verify(
            &sign(&program(), &other, &other.certificate("theirs")),
            &certificate
        ),
        Err(AuthenticodeError::Stranger {
            wanted: "ours".to_owned(),
            found: vec!["theirs".to_owned()],
        })
    );
    let mut altered = signed.clone();
    altered[0x450] ^= 1;
    let error = verify(&altered, &certificate).unwrap_err();
    assert!(
        matches!(error, AuthenticodeError::Altered { .. }),
        "{error}"
    );
    let unsigned = prepare(&program(), &certificate).unwrap();
    let wrong = other.sign(unsigned.message());
    let error = unsigned.attach(&wrong).unwrap_err();
    assert!(
        matches!(error, AuthenticodeError::Signature { .. }),
        "{error}"
    );
    let mut gap = stub();
    gap.extend_from_slice(&[0; 0x200]);
    // Raw offset of `.text` 0x200 later: verifiers would hash different bytes.
    let at = gap
        .windows(4)
        .rposition(|bytes| bytes == 0x400_u32.to_le_bytes());
    gap[at.unwrap()..][..4].copy_from_slice(&0x600_u32.to_le_bytes());
    assert!(matches!(digest(&gap), Err(PeError::Format { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A change is noticed wherever it is, or is where no signature reaches: the checksum, and
    /// what pads or describes the signature itself.
    #[test]
    fn every_flip_of_the_program_is_noticed(at in 0_usize..0x803, bit in 0_u8..8) {
        let key = TestKey::rsa();
        let certificate = key.certificate("ours");
        let signed = sign(&program(), &key, &certificate);
        let image = Image::parse(&signed).unwrap();
        let field = image.optional + optional::CHECK_SUM;
        let free = (field..field + 4).contains(&at);
        let mut flipped = signed;
        flipped[at] ^= 1 << bit;
        prop_assert_eq!(verify(&flipped, &certificate).is_ok(), free);
    }

    #[test]
    fn damaged_signatures_never_panic(
        changes in prop::collection::vec((0x808_usize..0xe00, any::<u8>()), 1..8),
    ) {
        let key = TestKey::rsa();
        let certificate = key.certificate("ours");
        let mut signed = sign(&program(), &key, &certificate);
        for (at, value) in changes {
            if let Some(byte) = signed.get_mut(at) {
                *byte = value;
            }
        }
        drop(verify(&signed, &certificate));
        drop(signatures(&signed));
    }
}

#[test]
fn what_is_carried_over_is_the_signature_alone() {
    let key = TestKey::rsa();
    let certificate = key.certificate("baker db");
    let good = sign(&program(), &key, &certificate);
    let again = |signed: &[u8]| carry_over(&strip(signed).unwrap(), signed, &certificate);
    assert_eq!(again(&good).unwrap(), good);
    // The checksum is nobody's secret, and the end of the table is behind the signature.
    let checksum = Image::parse(&good).unwrap().optional + optional::CHECK_SUM;
    for at in [checksum, good.len() - 1] {
        let mut planted = good.clone();
        planted[at] ^= 1;
        verify(&planted, &certificate).unwrap();
        assert_eq!(again(&planted).unwrap(), good, "{at:#x}");
    }
    let stranger = TestKey::ecdsa().certificate("stranger");
    assert!(carry_over(&program(), &good, &stranger).is_err());
    let mut other = program();
    other[0x450] ^= 1;
    assert!(carry_over(&other, &good, &certificate).is_err());
}
