//! Provenance: what it says, and that nothing else is believed.

use std::path::Path;

use baker_model::{Digest, Interrupt, Silent};
use serde_json::Value;

use super::fixture::{key, lock, problems, release, stage, verified};
use crate::dsse::{Envelope, IN_TOTO};
use crate::names::PROVENANCE;
use crate::{Draft, Key, Purpose};

fn envelope(path: &Path) -> Envelope {
    Envelope::parse(&std::fs::read(path.join(PROVENANCE)).unwrap()).unwrap()
}

#[test]
fn every_input_is_a_material_and_no_host_is_named() {
    let (_folder, path) = release();
    assert_eq!(problems(&verified(&path)), [""; 0]);
    let statement: Value = serde_json::from_slice(envelope(&path).payload()).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let subjects = statement["subject"].as_array().unwrap();
    let names: Vec<_> = subjects
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["disk.raw", "uki.efi"]);
    let definition = &statement["predicate"]["buildDefinition"];
    let materials = definition["resolvedDependencies"].as_array().unwrap();
    let found: Vec<(&str, &str)> = materials
        .iter()
        .map(|material| {
            let digest = material["digest"].as_object().unwrap();
            let (_, digest) = digest.iter().next().unwrap();
            (material["name"].as_str().unwrap(), digest.as_str().unwrap())
        })
        .collect();
    let of = |text: &str| Digest::of(text.as_bytes()).to_string();
    let text = lock().to_text();
    let recipe = of("name = \"minimal\"\n");
    let expected = [
        ("source", "c0ffee".to_owned()),
        ("recipe.lock", of(&text)),
        ("recipe.toml", recipe),
        ("files/a", of("a")),
        ("debian/dists/trixie/InRelease", of("inrelease")),
        (
            "debian/dists/trixie/main/binary-amd64/Packages.xz",
            of("index"),
        ),
        ("debian/pool/main/libc++.deb", of("libc++")),
        ("debian/pool/main/linux.deb", of("linux")),
        ("baker-guest", lock().guest.sha256.to_string()),
    ];
    let expected: Vec<(&str, &str)> = expected.iter().map(|(n, d)| (*n, d.as_str())).collect();
    assert_eq!(found, expected);
    assert_eq!(
        materials[6]["uri"],
        "pkg:deb/debian/libc%2B%2B@1:2.0%2Bb1?arch=amd64"
    );
    let stages = &definition["internalParameters"]["stages"];
    assert_eq!(stages, &serde_json::json!(["assemble", "disk"]));
    let details = &statement["predicate"]["runDetails"];
    let programs = details["builder"]["builderDependencies"]
        .as_array()
        .unwrap();
    assert_eq!(programs[0]["digest"]["sha256"], of("baker").as_str());
    let text = String::from_utf8_lossy(envelope(&path).payload()).into_owned();
    let known = ["https://in-toto.io/", "https://slsa.dev/"];
    let hosts = text.matches("://").count();
    assert_eq!(
        hosts,
        known
            .iter()
            .map(|url| text.matches(url).count())
            .sum::<usize>()
    );
}

#[test]
fn another_statement_is_not_believed() {
    let (_folder, path) = release();
    let place = path.join(PROVENANCE);
    let good = std::fs::read(&place).unwrap();
    let resigned = |from: &str, to: &str, key: &Key| {
        let text = String::from_utf8(envelope(&path).payload().to_vec()).unwrap();
        assert!(text.contains(from), "{from}");
        let mut other = Envelope::new(IN_TOTO, text.replace(from, to).into_bytes());
        other.sign(key).unwrap();
        other.to_bytes()
    };
    let stranger = Key::from_seed("stranger", Purpose::Release, &[9; 32]);
    let inputs = Digest::of(b"linux").to_string();
    let rows = [
        (
            resigned(&inputs, &Digest::of(b"other").to_string(), &key()),
            "speaks of another set of inputs",
        ),
        (
            resigned("\"dirty\":false", "\"dirty\":true", &key()),
            "speaks of another source",
        ),
        (
            resigned("c0ffee", "c0ffee", &stranger),
            "no trusted key signed `provenance.intoto.json`",
        ),
        (b"{}".to_vec(), "`provenance.intoto.json` cannot be used"),
        ([&good[..], b" "].concat(), "not written as baker writes it"),
    ];
    for (bytes, words) in rows {
        std::fs::write(&place, bytes).unwrap();
        let found = problems(&verified(&path)).join("\n");
        assert!(found.contains(words), "{words}: {found}");
    }
    std::fs::remove_file(&place).unwrap();
    let found = problems(&verified(&path)).join("\n");
    assert!(
        found.contains("`provenance.intoto.json` is missing"),
        "{found}"
    );
}

#[test]
fn provenance_needs_the_lock_that_the_manifest_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = stage(folder.path());
    manifest.lock = Digest::of(b"other");
    let draft = Draft::new(folder.path().to_owned(), manifest);
    let error = draft.sign(&key(), &Silent, &Interrupt::new()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("another than the manifest names"),
        "{error}"
    );
}

#[test]
fn a_release_from_before_has_none_and_may_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("minimal-1.0.0");
    std::fs::create_dir(&path).unwrap();
    let mut manifest = stage(&path);
    manifest.stages.clear();
    let draft = Draft::new(path.clone(), manifest);
    drop(draft.sign(&key(), &Silent, &Interrupt::new()).unwrap());
    assert!(!path.join(PROVENANCE).exists());
    assert_eq!(problems(&verified(&path)), [""; 0]);
    std::fs::write(path.join(PROVENANCE), "{}").unwrap();
    let found = problems(&verified(&path));
    assert_eq!(
        found,
        ["`provenance.intoto.json` is not named in the manifest"]
    );
}
