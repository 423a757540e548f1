//! What every target must do, whatever it is.

use std::process::Command;

use baker_model::event::Outcome;
use baker_model::plan::Day;
use baker_model::{Digest, Interrupt, Silent};

use super::fixture::{key, skip, verified};
use super::released::{Release, channel, contents, id, one};
use super::servers::{Server, bucket, bucket_at, registry, registry_as, registry_at};
use crate::channel::history;
use crate::promote::{PromoteError, Promotion, Withdrawn, promote};
use crate::pull::{Check, Pull, PullError, Wanted, pull};
use crate::said::{Withdrawal, about, withdraw};
use crate::target::{Credentials, FolderTarget, Source, Target, TargetError};
use crate::{Trust, publish};

pub(super) const NOW: u64 = 1_795_350_896;

pub(super) fn promotion<'a>(
    target: &'a dyn Target,
    release: &'a crate::ReleaseId,
    to: &'a crate::ChannelId,
    (trust, key): (&'a Trust, &'a crate::Key),
) -> Promotion<'a> {
    Promotion {
        target,
        release,
        channel: to,
        trust,
        signer: key,
        author: "ada",
        now: NOW,
        withdrawn: Withdrawn::Refuse,
    }
}

/// Pulls into a new folder and compares with what was published.
pub(super) fn arrives(target: &dyn Target, wanted: &Wanted, release: &Release) {
    let (to, trust) = (tempfile::tempdir().unwrap(), one());
    let request = Pull {
        target,
        wanted,
        to: to.path(),
        trust: &trust,
        check: Check::Verify,
        withdrawn: Withdrawn::Refuse,
        today: Day::of_unix(NOW),
    };
    let arrived = pull(&request, &Silent, &Interrupt::new()).unwrap();
    assert!(verified(&arrived.folder).is_good());
    assert_eq!(contents(&arrived.folder), contents(&release.folder));
}

/// The whole life of two releases in an empty target.
fn behaves(target: &dyn Target) {
    let (trust, key) = (one(), key());
    let (old, new) = (Release::new("1.0.0", ""), Release::new("1.1.0-rc.1+b", ""));
    let (old_id, new_id) = (id("1.0.0"), id("1.1.0-rc.1+b"));
    assert_eq!(target.record(&old_id).unwrap(), None);
    assert!(target.releases("minimal").unwrap().is_empty());
    assert!(target.channels("minimal").unwrap().is_empty());
    let published = old.publish(target);
    assert_eq!(published.how, Outcome::Done);
    assert_eq!(target.record(&old_id).unwrap().unwrap(), published.record);
    assert_eq!(old.publish(target).how, Outcome::Reused);
    let other = Release::new("1.0.0", "[disk]\nslots = 2\n").verified();
    let refused = publish(&other, target, &Silent, &Interrupt::new());
    assert!(
        matches!(refused, Err(TargetError::AlreadyThere { .. })),
        "{refused:?}"
    );
    new.publish(target);
    assert_eq!(
        target.releases("minimal").unwrap(),
        [old_id.clone(), new_id.clone()]
    );
    arrives(target, &Wanted::Version(old_id.clone()), &old);
    let prod = channel("prod");
    for id in [&old_id, &new_id] {
        promote(
            &promotion(target, id, &prod, (&trust, &key)),
            &Interrupt::new(),
        )
        .unwrap();
    }
    assert_eq!(target.channels("minimal").unwrap(), ["prod"]);
    arrives(target, &Wanted::Channel(prod.clone()), &new);
    let entries = history(target, &prod, &trust).unwrap().entries;
    assert_eq!(entries.len(), 2);
    moves_from_what_was_seen_only(target, &published.record);
    let withdrawal = Withdrawal {
        reason: "eats data".to_owned(),
        author: "ada".to_owned(),
        day: Day::of_unix(NOW),
    };
    withdraw(target, &new_id, withdrawal, &key).unwrap();
    let dev = channel("dev");
    let refused = promote(
        &promotion(target, &new_id, &dev, (&trust, &key)),
        &Interrupt::new(),
    );
    assert!(
        matches!(refused, Err(PromoteError::Refused { .. })),
        "{refused:?}"
    );
    let record = target.record(&new_id).unwrap().unwrap();
    let said = about(target, &record, &trust).unwrap();
    assert_eq!(
        said.iter()
            .filter(|said| said.withdrawal().is_some())
            .count(),
        1
    );
    assert!(
        about(target, &published.record, &trust)
            .unwrap()
            .iter()
            .all(|s| s.withdrawal().is_none())
    );
    let to = tempfile::tempdir().unwrap();
    let request = Pull {
        target,
        wanted: &Wanted::Channel(prod),
        to: to.path(),
        trust: &trust,
        check: Check::Verify,
        withdrawn: Withdrawn::Refuse,
        today: Day::of_unix(NOW),
    };
    let refused = pull(&request, &Silent, &Interrupt::new());
    assert!(
        matches!(refused, Err(PullError::Withdrawn { .. })),
        "{refused:?}"
    );
}

fn moves_from_what_was_seen_only(target: &dyn Target, record: &crate::Record) {
    let beta = channel("beta");
    let seen = target.channel(&beta).unwrap();
    target
        .move_channel(&beta, &seen, b"{\"one\":1}", record)
        .unwrap();
    let moved = target.move_channel(&beta, &seen, b"{\"two\":2}", record);
    assert!(matches!(moved, Err(TargetError::Moved { .. })), "{moved:?}");
    let seen = target.channel(&beta).unwrap();
    assert_eq!(seen.bytes, b"{\"one\":1}\n");
    target
        .move_channel(&beta, &seen, b"{\"two\":2}", record)
        .unwrap();
    let moved = target.move_channel(&beta, &seen, b"{\"three\":3}", record);
    assert!(matches!(moved, Err(TargetError::Moved { .. })), "{moved:?}");
    assert_eq!(
        target.channel(&beta).unwrap().bytes,
        b"{\"one\":1}\n{\"two\":2}\n"
    );
    // Not of this baker's making: out of the way for what follows.
    assert!(
        target
            .channels("minimal")
            .unwrap()
            .contains(&"beta".to_owned())
    );
}

#[test]
fn a_folder_behaves() {
    let folder = tempfile::tempdir().unwrap();
    behaves(&FolderTarget::new(
        folder.path().join("releases"),
        Source::Kept,
    ));
}

#[test]
fn a_registry_behaves_and_lets_nobody_else_in() {
    let Some(server) = registry() else {
        return;
    };
    let authority = server.authority();
    let place = server.place();
    behaves(&registry_at(server.port(), &place, &authority));
    let wrong = || Some(Credentials::new("ada".to_owned(), "guessed".to_owned()));
    for credentials in [None, wrong()] {
        let target = registry_as(server.port(), &place, credentials, Some(&authority)).unwrap();
        let refused = target.record(&id("1.0.0"));
        assert!(
            matches!(refused, Err(TargetError::Unauthorized { .. })),
            "{refused:?}"
        );
        assert!(!format!("{refused:?} {target:?}").contains("guessed"));
    }
    let unknown = registry_as(server.port(), &place, wrong(), None).unwrap();
    let refused = unknown.record(&id("1.0.0")).unwrap_err();
    assert!(matches!(refused, TargetError::Remote { .. }), "{refused:?}");
    judge_the_registry(&server, &place);
    assert!(!server.log().contains(super::servers::PASSWORD));
}

/// curl sees what the specification says: an artifact, its evidence as a referrer by tag.
fn judge_the_registry(server: &Server, place: &str) {
    let get = |path: &str| {
        let url = format!(
            "https://localhost:{}/v2/{place}/minimal/{path}",
            server.port()
        );
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        let output = Command::new("curl")
            .args(["-sf", "-u", "ada:correct horse", "-H", accept, "--cacert"])
            .arg(server.authority())
            .arg(url)
            .output();
        match output {
            Ok(output) => Some(output.stdout),
            Err(error) => {
                skip(&format!("curl cannot be run: {error}"));
                None
            }
        }
    };
    let Some(bytes) = get("manifests/1.0.0") else {
        return;
    };
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        manifest["artifactType"],
        "application/vnd.baker.release.v1+json"
    );
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.oci.empty.v1+json"
    );
    let layers = manifest["layers"].as_array().unwrap();
    let disk = layers
        .iter()
        .find(|l| l["annotations"]["org.opencontainers.image.title"] == "disk.raw");
    let digest = disk.unwrap()["digest"].as_str().unwrap();
    assert_eq!(
        Digest::of(&get(&format!("blobs/{digest}")).unwrap()),
        Digest::of(&[0xa5; 5000])
    );
    let own = Digest::of(&bytes);
    let index = get(&format!("manifests/sha256-{own}")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let kinds: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["artifactType"])
        .collect();
    assert!(
        kinds
            .iter()
            .all(|kind| **kind == "application/vnd.in-toto+json"),
        "{kinds:?}"
    );
    // Test result and provenance, and the summary of the promotion.
    assert_eq!(kinds.len(), 3, "{index:#}");
    let first = index["manifests"][0]["digest"].as_str().unwrap();
    let referrer: serde_json::Value =
        serde_json::from_slice(&get(&format!("manifests/{first}")).unwrap()).unwrap();
    assert_eq!(referrer["subject"]["digest"], format!("sha256:{own}"));
}

#[test]
fn a_bucket_behaves() {
    let Some(server) = bucket() else {
        return;
    };
    behaves(&bucket_at(server.port(), &server.place()));
    behaves(&bucket_at(server.port(), ""));
}
