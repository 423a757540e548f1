//! A trust folder over the years: keys come, go, and are lost.

use std::fs;
use std::path::Path;

use baker_model::plan::Day;
use baker_model::{Digest, Interrupt, Silent};

use super::Trust;
use super::revocation::{Revocations, RevokedKey, Withdrawn};
use super::rotation::Rotation;
use crate::dsse::Envelope;
use crate::tests::fixture;
use crate::{Key, Purpose, Report, verify};

fn key(name: &str, seed: u8) -> Key {
    Key::from_seed(name, Purpose::Release, &[seed; 32])
}

fn day(text: &str) -> Day {
    Day::try_from(text.to_owned()).unwrap()
}

fn publish(folder: &Path, key: &Key) {
    let file = format!("{}.pub", key.public().name());
    fs::write(folder.join(file), key.public().to_text()).unwrap();
}

fn put(folder: &Path, name: &str, mut envelope: Envelope, signer: &Key) {
    envelope.sign(signer).unwrap();
    fs::write(folder.join(name), envelope.to_bytes()).unwrap();
}

fn revoke(key: &Key) -> Envelope {
    let list = Revocations {
        issued: day("2026-11-22"),
        keys: vec![RevokedKey {
            key_id: key.public().id(),
            reason: "the laptop was stolen".to_owned(),
        }],
        releases: Vec::new(),
    };
    list.envelope()
}

/// What `trust` makes of the release of the fixture, whose time is 2023-11-14.
fn verdict(folder: &Path) -> Report {
    let (_folder, path) = fixture::release();
    let trust = Trust::load(folder).unwrap();
    verify(&path, &trust, &Silent, &Interrupt::new()).unwrap()
}

fn first_problem(report: &Report) -> String {
    report.problems[0].to_string()
}

#[test]
fn a_revoked_key_signs_no_more_and_the_reason_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (release, other) = (fixture::key(), key("other", 9));
    publish(at, &release);
    publish(at, &other);
    assert!(verdict(at).is_good());
    put(at, "lost.revocations.json", revoke(&release), &other);
    let report = verdict(at);
    let told = first_problem(&report);
    assert!(
        told.contains("`release`") && told.contains("the laptop was stolen"),
        "{told}"
    );

    // Signed by a stranger, the list is no list, and the folder is no folder to trust.
    put(
        at,
        "lost.revocations.json",
        revoke(&release),
        &key("stranger", 3),
    );
    let error = Trust::load(at).unwrap_err();
    assert!(
        error.to_string().contains("lost.revocations.json"),
        "{error}"
    );
}

#[test]
fn a_withdrawn_release_is_refused_whoever_signed_it() {
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), &fixture::key());
    let manifest = Digest::of(&fixture::manifest().to_bytes());
    let list = Revocations {
        issued: day("2026-11-22"),
        keys: Vec::new(),
        releases: vec![Withdrawn {
            manifest,
            reason: "eats disks".to_owned(),
        }],
    };
    put(
        folder.path(),
        "bad.revocations.json",
        list.envelope(),
        &fixture::key(),
    );
    let told = first_problem(&verdict(folder.path()));
    assert!(told.contains("eats disks"), "{told}");
}

#[test]
fn an_old_and_a_new_key_count_together_until_the_old_one_retires() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (old, new) = (fixture::key(), key("next", 9));
    publish(at, &old);
    let rotate = |retire| Rotation::new(&old.public(), &new.public(), retire).envelope();
    put(at, "next.rotation.json", rotate(None), &old);
    assert_eq!(Trust::load(at).unwrap().keys().len(), 2);
    assert!(verdict(at).is_good());
    put(
        at,
        "next.rotation.json",
        rotate(Some(day("2023-11-14"))),
        &old,
    );
    assert!(verdict(at).is_good(), "the last day is one of its days");
    put(
        at,
        "next.rotation.json",
        rotate(Some(day("2023-11-13"))),
        &old,
    );
    let told = first_problem(&verdict(at));
    assert!(told.contains("retired on 2023-11-13"), "{told}");
    // Only the old key may say so.
    put(at, "next.rotation.json", rotate(None), &new);
    assert!(Trust::load(at).is_err());
}

#[test]
fn a_stolen_key_that_was_revoked_names_no_successor() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (stolen, good, thief) = (key("stolen", 4), key("good", 5), key("thief", 6));
    publish(at, &stolen);
    publish(at, &good);
    let rotation = Rotation::new(&stolen.public(), &thief.public(), None);
    put(at, "a.rotation.json", rotation.envelope(), &stolen);
    put(at, "b.revocations.json", revoke(&stolen), &good);
    let trust = Trust::load(at).unwrap();
    let names: Vec<_> = trust
        .keys()
        .iter()
        .map(|key| key.name().to_owned())
        .collect();
    assert_eq!(names, ["good"]);
}

#[test]
fn as_many_must_sign_as_the_policy_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let other = key("other", 9);
    publish(at, &fixture::key());
    publish(at, &other);
    fs::write(at.join("policy.json"), "{\"threshold\": 2}").unwrap();
    let told = first_problem(&verdict(at));
    assert!(
        told.contains("1 trusted key signed this release, 2 must"),
        "{told}"
    );

    let release = tempfile::tempdir().unwrap();
    drop(fixture::signed(release.path()).countersign(&other).unwrap());
    let trust = Trust::load(at).unwrap();
    let report = verify(release.path(), &trust, &Silent, &Interrupt::new()).unwrap();
    assert!(report.is_good(), "{report:?}");

    for (text, words) in [
        ("{\"threshold\": 0}", "policy.json"),
        ("{\"treshold\": 2}", "unknown field"),
        (
            "{\"retired\": {\"x\": \"2027-01-31\"}}",
            "not a SHA-256 digest",
        ),
    ] {
        fs::write(at.join("policy.json"), text).unwrap();
        let error = Trust::load(at).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
