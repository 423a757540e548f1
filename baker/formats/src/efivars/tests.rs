//! Stores and updates, judged by `virt-fw-vars`, `sbvarsign`, `sbsiglist` and OVMF's own templates.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::judge::{judge, run};
use crate::pkcs7;
use crate::testing::TestKey;

/// The template of the distribution.
const TEMPLATE: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// The same with the distribution's test keys enrolled by another program.
const SNAKEOIL: &str = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";

fn keys() -> Keys {
    Keys {
        platform: TestKey::rsa().certificate("baker PK"),
        exchange: TestKey::rsa().certificate("baker KEK"),
        database: TestKey::rsa().certificate("baker db"),
    }
}

/// A file of the host; none with a loud line when it is not there.
fn host_file(path: &str) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok();
    if bytes.is_none() {
        assert!(
            std::env::var("BAKER_STRICT").as_deref() != Ok("1"),
            "{path} is missing"
        );
        eprintln!("SKIPPED a check: {path} is missing");
    }
    bytes
}

/// A store as small as can be, its area full of erased flash.
fn small_store(room: usize) -> Vec<u8> {
    let mut bytes = vec![0; 0x48];
    bytes[16..32].copy_from_slice(&Guid::SYSTEM_NV_DATA.0);
    bytes[40..44].copy_from_slice(b"_FVH");
    bytes[48] = 0x48;
    bytes.extend_from_slice(&Guid::AUTHENTICATED_VARIABLE.0);
    bytes.extend_from_slice(&u32::try_from(28 + room).unwrap().to_le_bytes());
    bytes.extend_from_slice(&[0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
    bytes.resize(bytes.len() + room, 0xff);
    bytes.extend_from_slice(b"fault tolerant writes");
    bytes
}

#[test]
fn an_enrolled_store_is_pinned_and_changes_nothing_else() {
    let template = small_store(8192);
    let enrolled = enrol(&template, &keys()).unwrap();
    assert_eq!(
        baker_model::Digest::of(&enrolled).to_string(),
        "fb22c0179396e983ab68d9be14b9bd93336f3582f107f4888757347c1e16e2b0"
    );
    assert_eq!(enrolled.len(), template.len());
    assert!(enrolled.ends_with(b"fault tolerant writes"));
    assert_eq!(enrol(&enrolled, &keys()).unwrap(), enrolled);
    let store = Store::parse(&enrolled).unwrap();
    let names: Vec<_> = store.variables().iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["db", "KEK", "PK", "SecureBootEnable", "CustomMode"]);
    let list = read_signature_lists(&store.variables()[0].data).unwrap();
    assert_eq!(list, [(keys().owner(), keys().database)]);
    let full = enrol(&small_store(2000), &keys()).unwrap_err();
    assert!(
        matches!(full, StoreError::Full { room: 2000, .. }),
        "{full}"
    );
}

/// A judge out of a Python archive, so an extra that `BAKER_VIRT_FW_VARS` names; none with a loud
/// line when it names nothing.
fn virt_fw_vars(folder: &Path, words: &str) -> Option<String> {
    let Some(program) = std::env::var_os("BAKER_VIRT_FW_VARS") else {
        eprintln!("SKIPPED a check: BAKER_VIRT_FW_VARS names no virt-fw-vars");
        return None;
    };
    let mut command = std::process::Command::new(program);
    let (good, said) = run(command.args(words.split(' ')).current_dir(folder));
    assert!(good, "{said}");
    Some(said)
}

#[test]
fn virt_fw_vars_prints_the_keys_that_were_enrolled() {
    let Some(template) = host_file(TEMPLATE) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ours.fd"), enrol(&template, &keys()).unwrap()).unwrap();
    let print = "--input ours.fd --print --verbose";
    let Some(said) = virt_fw_vars(folder.path(), print) else {
        return;
    };
    for role in KeyRole::ALL {
        let line = said
            .lines()
            .position(|line| line.starts_with(&format!("name={} ", role.name())));
        let after: Vec<_> = said.lines().skip(line.expect(&said)).take(3).collect();
        assert!(after[1].contains("EfiCertX509 count=1"), "{said}");
        assert!(after[2].ends_with(&keys().get(role).name()), "{said}");
    }
    assert!(said.contains("name=SecureBootEnable"), "{said}");

    // The other way: what it enrols is what we enrol.
    std::fs::write(path("template.fd"), &template).unwrap();
    let mut words = "--input template.fd --output theirs.fd --secure-boot".to_owned();
    for (flag, role) in [
        ("--set-pk", KeyRole::Platform),
        ("--add-kek", KeyRole::Exchange),
        ("--add-db", KeyRole::Database),
    ] {
        let name = format!("{}.pem", role.name());
        std::fs::write(path(&name), keys().get(role).der()).unwrap();
        let mut openssl = judge("openssl").unwrap();
        openssl.args(["x509", "-inform", "DER", "-in", &name, "-out", &name]);
        let (good, said) = run(openssl.current_dir(folder.path()));
        assert!(good, "{said}");
        words.push_str(&format!(" {flag} {} {name}", keys().owner()));
    }
    virt_fw_vars(folder.path(), &words);
    let values = |name: &str| {
        let store = Store::parse(&std::fs::read(path(name)).unwrap()).unwrap();
        let mut all: Vec<_> = store.variables().to_vec();
        // It adds a list of one program that nobody has.
        all.retain(|variable| variable.name != "dbx");
        all.iter_mut()
            .for_each(|variable| variable.time = Time::default());
        all.sort_by(|left, right| left.name.cmp(&right.name));
        all
    };
    assert!(values("theirs.fd") == values("ours.fd"), "they differ");
}

#[test]
fn stores_of_other_programs_are_read() {
    let Some(bytes) = host_file(SNAKEOIL) else {
        return;
    };
    let store = Store::parse(&bytes).unwrap();
    let find = |name: &str| store.variables().iter().find(|v| v.name == name).unwrap();
    for role in KeyRole::ALL {
        let variable = find(role.name());
        assert_eq!(variable.vendor, role.vendor());
        assert_eq!(variable.attributes, KEY_ATTRIBUTES);
        let list = read_signature_lists(&variable.data).unwrap();
        assert!(!list.is_empty(), "{}", role.name());
    }
    assert_eq!(find("SecureBootEnable").data, [1]);
    let again = Store::parse(&store.to_bytes().unwrap()).unwrap();
    assert_eq!(again.variables(), store.variables());
}

#[test]
fn a_variable_in_deletion_counts_until_the_new_one_is_whole() {
    let mut store = Store::parse(&small_store(1000)).unwrap();
    let variable = |name: &str, data: &[u8]| Variable {
        name: name.to_owned(),
        vendor: Guid::GLOBAL_VARIABLE,
        attributes: 7,
        time: Time::default(),
        data: data.to_vec(),
    };
    store.set(variable("a", b"old"));
    store.set(variable("b", b"other"));
    let mut bytes = store.to_bytes().unwrap();
    let first = 0x48 + 28;
    bytes[first + 2] = 0x3e;
    let read = Store::parse(&bytes).unwrap();
    assert_eq!(read.variables().len(), 2);
    bytes[first + 2] = 0x3c;
    let read = Store::parse(&bytes).unwrap();
    assert_eq!(read.variables(), [variable("b", b"other")]);
}

#[test]
fn signed_updates_are_those_of_sbvarsign() {
    let Some(mut sbsiglist) = judge("sbsiglist") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (key, keys) = (TestKey::rsa(), keys());
    std::fs::write(path("db.cer"), keys.database.der()).unwrap();
    std::fs::write(path("KEK.cer"), keys.exchange.der()).unwrap();
    std::fs::write(path("a.pk8"), include_bytes!("../testing/rsa.pk8")).unwrap();
    let owner = keys.owner().to_string();
    let words = [
        "--owner", &owner, "--type", "x509", "--output", "db.esl", "db.cer",
    ];
    let (good, said) = run(sbsiglist.args(words).current_dir(folder.path()));
    assert!(good, "{said}");
    let list = signature_list(keys.owner(), &keys.database);
    assert_eq!(std::fs::read(path("db.esl")).unwrap(), list);
    for words in [
        &[
            "x509", "-inform", "DER", "-in", "KEK.cer", "-out", "KEK.pem",
        ][..],
        &["pkey", "-inform", "DER", "-in", "a.pk8", "-out", "KEK.key"],
    ] {
        let mut openssl = judge("openssl").unwrap();
        let (good, said) = run(openssl.args(words).current_dir(folder.path()));
        assert!(good, "{said}");
    }
    let mut sbvarsign = judge("sbvarsign").unwrap();
    let attributes = "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS";
    let words =
        format!("--attr {attributes} --key KEK.key --cert KEK.pem --output db.auth db db.esl");
    let (good, said) = run(sbvarsign.args(words.split(' ')).current_dir(folder.path()));
    assert!(good, "{said}");
    let theirs = std::fs::read(path("db.auth")).unwrap();
    let update = Update {
        role: KeyRole::Database,
        value: &list,
        time: Time(theirs[..16].try_into().unwrap()),
        signer: &keys.exchange,
    };
    let unsigned = update.prepare();
    let ours = unsigned.attach(&key.sign(unsigned.message())).unwrap();
    // Theirs signs attributes, with the digest of the same message and its own signing time.
    assert_eq!(
        (&ours[..16], &ours[20..40]),
        (&theirs[..16], &theirs[20..40])
    );
    assert!(ours.ends_with(&list) && theirs.ends_with(&list));
    let digest = baker_model::Digest::of(unsigned.message());
    assert!(theirs.windows(32).any(|bytes| bytes == digest.as_bytes()));
    // OpenSSL takes PKCS#7 inside of ContentInfo only.
    let signed = &ours[40..ours.len() - list.len()];
    std::fs::write(path("db.p7"), pkcs7::with_type(signed)).unwrap();
    std::fs::write(path("message"), unsigned.message()).unwrap();
    let mut openssl = judge("openssl").unwrap();
    let words = "smime -verify -binary -inform DER -in db.p7 -content message -CAfile KEK.pem \
        -purpose any -out verified";
    let (good, said) = run(openssl
        .args(words.split_whitespace())
        .current_dir(folder.path()));
    assert!(good, "{said}");
    let wrong = unsigned.attach(&TestKey::ecdsa().sign(unsigned.message()));
    assert!(matches!(wrong, Err(UpdateError::Signature { .. })));
}

#[test]
fn times_are_told_to_the_second() {
    let time = Time::of_unix(1_795_305_600 + 3 * 3600 + 25 * 60 + 7);
    assert_eq!(time.0[..8], [0xea, 7, 11, 22, 3, 25, 7, 0]);
    assert_eq!(Time::of_unix(946_684_800), Time::ENROLLED);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_set_is_read_back(
        values in prop::collection::vec(("[a-zA-Zä]{1,9}", prop::collection::vec(any::<u8>(), 0..40)), 0..12),
    ) {
        let mut store = Store::parse(&small_store(4096)).unwrap();
        for (name, data) in values {
            store.set(Variable {
                name,
                vendor: Guid::IMAGE_SECURITY_DATABASE,
                attributes: KEY_ATTRIBUTES,
                time: Time::ENROLLED,
                data,
            });
        }
        let read = Store::parse(&store.to_bytes().unwrap()).unwrap();
        prop_assert_eq!(read.variables(), store.variables());
    }

    #[test]
    fn damaged_stores_and_lists_never_panic(
        changes in prop::collection::vec((0_usize..4096, any::<u8>()), 1..12),
        end in 0_usize..6000,
    ) {
        let mut bytes = enrol(&small_store(8192), &keys()).unwrap();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(end.max(0x48));
        if let Ok(store) = Store::parse(&bytes) {
            for variable in store.variables() {
                drop(read_signature_lists(&variable.data));
            }
            drop(store.to_bytes());
        }
    }
}
