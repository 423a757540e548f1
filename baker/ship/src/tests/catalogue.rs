//! Channels, promotion and withdrawal, on a folder.

use baker_model::manifest::{HygieneFact, HygieneFinding};
use baker_model::plan::Day;
use baker_model::{Digest, Interrupt, Manifest};

use super::fixture::key;
use super::released::{Release, both, channel, id, one, other_key, stranger, waiver};
use crate::channel::{ChannelError, history};
use crate::dsse::Envelope;
use crate::promote::{Objection, PromoteError, Promoted, Promotion, Withdrawn, promote};
use crate::said::{self, Rebuild, SayError, What, Withdrawal};
use crate::target::{FolderTarget, Source, Target, TargetError};
use crate::{Key, Trust};

/// 2026-11-22, 12:34:56 UTC.
const NOW: u64 = 1_795_350_896;

fn target(folder: &tempfile::TempDir) -> FolderTarget {
    FolderTarget::new(folder.path().join("releases"), Source::Kept)
}

fn promoted(
    target: &dyn Target,
    (version, to): (&str, &str),
    trust: &Trust,
    withdrawn: Withdrawn,
) -> Result<Promoted, PromoteError> {
    let request = Promotion {
        target,
        release: &id(version),
        channel: &channel(to),
        trust,
        signer: &key(),
        author: "ada",
        now: NOW,
        withdrawn,
    };
    promote(&request, &Interrupt::new())
}

fn objections(result: Result<Promoted, PromoteError>) -> Vec<String> {
    match result {
        Err(PromoteError::Refused { objections, .. }) => {
            objections.iter().map(Objection::to_string).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn withdrawal(target: &dyn Target, version: &str, key: &Key) {
    let withdrawal = Withdrawal {
        reason: "eats data".to_owned(),
        author: "ada".to_owned(),
        day: Day::of_unix(NOW),
    };
    said::withdraw(target, &id(version), withdrawal, key).unwrap();
}

#[test]
fn a_channel_moves_with_a_summary_and_keeps_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder);
    for version in ["1.0.0", "1.1.0"] {
        Release::new(version, "").publish(&target);
        promoted(&target, (version, "staging"), &one(), Withdrawn::Refuse).unwrap();
    }
    let again = promoted(&target, ("1.1.0", "staging"), &one(), Withdrawn::Refuse);
    assert_eq!(objections(again), ["minimal@staging points to it already"]);
    // Back to the old one: a line more, not one less.
    promoted(&target, ("1.0.0", "staging"), &one(), Withdrawn::Refuse).unwrap();
    let entries = history(&target, &channel("staging"), &one())
        .unwrap()
        .entries;
    let versions: Vec<_> = entries.iter().map(|e| e.pointer.version.as_str()).collect();
    assert_eq!(versions, ["1.0.0", "1.1.0", "1.0.0"]);
    assert_eq!(entries[1].pointer.previous, Some(entries[0].digest));
    assert_eq!(entries[2].pointer.day.to_string(), "2026-11-22");
    assert_eq!(target.channels("minimal").unwrap(), ["staging"]);
    assert_eq!(
        target.releases("minimal").unwrap(),
        [id("1.0.0"), id("1.1.0")]
    );
    // The pointer names the summary, which speaks of this release.
    let record = target.record(&id("1.1.0")).unwrap().unwrap();
    let said = said::about(&target, &record, &one()).unwrap();
    let [said] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(said.digest, entries[1].pointer.summary);
    let What::Verified(summary) = &said.what else {
        panic!("{said:?}");
    };
    assert_eq!(summary.time_verified, "2026-11-22T12:34:56Z");
    assert_eq!(
        summary.verified_levels,
        ["SLSA_BUILD_LEVEL_1", "BAKER_TESTED_UEFI"]
    );
    assert!(
        summary.policy.uri.ends_with("recipe.toml#promote.staging"),
        "{summary:?}"
    );
}

#[test]
fn a_misspelt_channel_does_not_escape_the_switches() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder);
    Release::new("1.0.0", "[promote.edge]\nhygiene = false\n").publish(&target);
    let refused = promoted(&target, ("1.0.0", "production"), &one(), Withdrawn::Refuse);
    assert_eq!(
        objections(refused),
        [
            "`production` is no channel of its recipe, which has dev, staging, prod, edge; another \
             one needs a table [promote.production] there"
        ]
    );
    assert!(target.channels("minimal").unwrap().is_empty());
    promoted(&target, ("1.0.0", "edge"), &one(), Withdrawn::Refuse).unwrap();
}

#[test]
fn the_released_recipe_decides_and_all_objections_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder);
    let signed_by = other_key().public().id();
    let switches = format!(
        "[promote.prod]\ntested = [\"uefi\", \"uefi-secure\"]\nrebuilt = true\nhygiene = true\n\
         after = \"staging\"\nsigned-by = [\"{signed_by}\"]\n"
    );
    let release = Release::changed("1.0.0", &switches, |manifest| {
        manifest
            .waivers
            .push(waiver("hygiene setuid", "sudo is wanted"));
        manifest.hygiene = Some(looked(&["/usr/bin/sudo"]));
    });
    release.publish(&target);
    let refused = promoted(&target, ("1.0.0", "prod"), &both(), Withdrawn::Refuse);
    assert_eq!(
        objections(refused),
        [
            "no test by uefi-secure has passed",
            "no trusted key besides those that signed it says that it was rebuilt with the same bytes",
            "none of the 1 keys that the recipe names has signed it",
            "hygiene was waived: setuid in /usr/bin/sudo",
            "hygiene was waived: hygiene setuid (sudo is wanted)",
            "it was never in staging",
        ]
    );
    // Nothing was said and no channel appeared.
    let record = target.record(&id("1.0.0")).unwrap().unwrap();
    assert!(target.statements(&record).unwrap().is_empty());
    assert!(target.channels("minimal").unwrap().is_empty());
    // Another channel of the same recipe asks for nothing.
    promoted(&target, ("1.0.0", "staging"), &both(), Withdrawn::Refuse).unwrap();
    let refused = promoted(&target, ("1.0.0", "prod"), &both(), Withdrawn::Refuse);
    assert_eq!(objections(refused).len(), 5);
}

/// What the gate said of a root in which set-user-id programs are waived.
fn looked(waived: &[&str]) -> HygieneFact {
    let finding = |path: &&str| HygieneFinding {
        rule: "setuid".to_owned(),
        path: (*path).to_owned(),
        line: None,
    };
    HygieneFact {
        rules: "8".to_owned(),
        size: 1 << 20,
        open: Vec::new(),
        waived: waived.iter().map(finding).collect(),
    }
}

#[test]
fn hygiene_is_clean_only_when_somebody_looked() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder);
    let switch = "[promote.prod]\nhygiene = true\n";
    Release::new("1.0.0", switch).publish(&target);
    let refused = promoted(&target, ("1.0.0", "prod"), &both(), Withdrawn::Refuse);
    assert_eq!(
        objections(refused),
        ["nothing is known about its hygiene: the baker that made it did not look"]
    );
    let clean = |manifest: &mut Manifest| manifest.hygiene = Some(looked(&[]));
    Release::changed("1.1.0", switch, clean).publish(&target);
    let passed = promoted(&target, ("1.1.0", "prod"), &both(), Withdrawn::Refuse).unwrap();
    let level = "BAKER_HYGIENE_CLEAN".to_owned();
    assert!(passed.levels.contains(&level), "{passed:?}");
}

#[test]
fn a_rebuild_counts_when_another_trusted_key_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder);
    Release::new("1.0.0", "[promote.prod]\nrebuilt = true\n").publish(&target);
    let rebuild = || Rebuild {
        builder: "the other lab".to_owned(),
        baker: "0.1.0".to_owned(),
        day: Day::of_unix(NOW),
    };
    let manifest = target.record(&id("1.0.0")).unwrap().unwrap().release();
    let confirm = |key: &Key, manifest: Digest| {
        said::confirm(&target, (&id("1.0.0"), manifest), rebuild(), key)
    };
    let manifest = manifest.unwrap();
    // Not what was rebuilt of another release, by whomever.
    let refused = confirm(&other_key(), Digest::of(b"another"));
    assert!(matches!(refused, Err(SayError::OtherRelease { .. })));
    // Not by whoever made it, and not by a stranger.
    for key in [key(), stranger()] {
        confirm(&key, manifest).unwrap();
        let refused = promoted(&target, ("1.0.0", "prod"), &both(), Withdrawn::Refuse);
        assert_eq!(objections(refused).len(), 1);
    }
    confirm(&other_key(), manifest).unwrap();
    let levels = promoted(&target, ("1.0.0", "prod"), &both(), Withdrawn::Refuse)
        .unwrap()
        .levels;
    assert!(levels.contains(&"BAKER_REBUILT".to_owned()), "{levels:?}");
    // A statement about another release is not kept.
    Release::new("1.1.0", "").publish(&target);
    let old = target.record(&id("1.0.0")).unwrap().unwrap();
    let new = target.record(&id("1.1.0")).unwrap().unwrap();
    let statement = target.statements(&old).unwrap().remove(0);
    let refused = said::attest(&target, &new, &statement).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("no statement about this release"),
        "{refused}"
    );
}

#[test]
fn what_is_withdrawn_is_not_promoted_unless_forced_and_strangers_withdraw_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder);
    Release::new("1.0.0", "").publish(&target);
    withdrawal(&target, "1.0.0", &stranger());
    let warned = promoted(&target, ("1.0.0", "dev"), &one(), Withdrawn::Refuse).unwrap();
    assert!(
        warned.warnings[0].contains("somebody unknown withdrew it"),
        "{warned:?}"
    );
    withdrawal(&target, "1.0.0", &key());
    let refused = promoted(&target, ("1.0.0", "prod"), &one(), Withdrawn::Refuse);
    assert_eq!(
        objections(refused),
        ["it was withdrawn: eats data (ada, 2026-11-22)"]
    );
    let forced = promoted(&target, ("1.0.0", "prod"), &one(), Withdrawn::Force).unwrap();
    assert!(
        forced
            .warnings
            .iter()
            .any(|w| w.contains("IT WAS WITHDRAWN")),
        "{forced:?}"
    );
    let nothing = Withdrawal {
        reason: " ".to_owned(),
        author: "ada".to_owned(),
        day: Day::of_unix(NOW),
    };
    let refused = said::withdraw(&target, &id("1.0.0"), nothing, &key());
    assert!(matches!(refused, Err(SayError::NoReason)));
}

#[test]
fn a_release_that_is_not_whole_or_not_signed_goes_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder);
    Release::new("1.0.0", "").publish(&target);
    let refused = promoted(
        &target,
        ("1.0.0", "dev"),
        &Trust::default(),
        Withdrawn::Refuse,
    );
    assert!(
        objections(refused)
            .iter()
            .any(|o| o.contains("nobody to trust"))
    );
    let record = target.record(&id("1.0.0")).unwrap().unwrap();
    let disk = folder.path().join("releases/minimal-1.0.0/disk.raw");
    std::fs::write(&disk, b"short").unwrap();
    let refused = promoted(&target, ("1.0.0", "dev"), &one(), Withdrawn::Refuse);
    assert_eq!(
        objections(refused),
        ["`disk.raw` is not in the target, or not with its 5000 bytes"]
    );
    assert_eq!(target.record(&id("1.0.0")).unwrap().unwrap(), record);
    let missing = promoted(&target, ("2.0.0", "dev"), &one(), Withdrawn::Refuse);
    assert!(matches!(missing, Err(PromoteError::NoRelease { .. })));
}

#[test]
fn a_history_that_was_tampered_with_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder);
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        Release::new(version, "").publish(&target);
        promoted(&target, (version, "prod"), &one(), Withdrawn::Refuse).unwrap();
    }
    let path = folder
        .path()
        .join("releases/catalogue/minimal/prod.channel");
    let good = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.split_inclusive('\n').collect();
    let payload = |line: &str| Envelope::parse(line.as_bytes()).unwrap();
    let mut forged = Envelope::new(
        payload(lines[2]).payload_type(),
        payload(lines[2]).payload().to_vec(),
    );
    forged.sign(&stranger()).unwrap();
    let forged = String::from_utf8(forged.to_line()).unwrap() + "\n";
    let rows: [(String, &str); 7] = [
        (
            lines[1..].concat(),
            "line 1: it does not name the line before it",
        ),
        (
            [lines[0], lines[2]].concat(),
            "line 2: it does not name the line before it",
        ),
        (
            [lines[1], lines[0], lines[2]].concat(),
            "line 1: it does not name",
        ),
        ([lines[0], lines[0]].concat(), "line 2: it does not name"),
        (good.trim_end().to_owned(), "has no end"),
        (
            [lines[0], lines[1], &forged].concat(),
            "line 3 of minimal@prod is not vouched for",
        ),
        (
            lines[0].replace("payloadType\":\"", "payloadType\":\"x"),
            "line 1 of minimal@prod is not",
        ),
    ];
    for (bytes, words) in rows {
        std::fs::write(&path, &bytes).unwrap();
        let error = history(&target, &channel("prod"), &one()).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
        let refused = promoted(&target, ("1.0.0", "prod"), &one(), Withdrawn::Refuse);
        assert!(matches!(refused, Err(PromoteError::Channel(_))), "{words}");
    }
    // A channel under another name is another channel.
    let other = path.with_file_name("dev.channel");
    std::fs::write(&other, &good).unwrap();
    let error = history(&target, &channel("dev"), &one()).unwrap_err();
    assert!(
        matches!(error, ChannelError::Broken { line: 1, .. }),
        "{error}"
    );
}

#[test]
fn of_two_who_move_a_channel_at_once_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder);
    Release::new("1.0.0", "").publish(&target);
    let record = target.record(&id("1.0.0")).unwrap().unwrap();
    let seen = target.channel(&channel("prod")).unwrap();
    let results: Vec<_> = std::thread::scope(|scope| {
        let go = |line: &'static [u8]| {
            let (target, seen, record) = (&target, &seen, &record);
            scope.spawn(move || target.move_channel(&channel("prod"), seen, line, record))
        };
        let both: Vec<_> = [&b"one"[..], b"two", b"three", b"four"]
            .map(go)
            .into_iter()
            .collect();
        both.into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let moved = results
        .iter()
        .filter(|r| matches!(r, Err(TargetError::Moved { .. })))
        .count();
    assert_eq!(
        (results.iter().filter(|r| r.is_ok()).count(), moved),
        (1, 3),
        "{results:?}"
    );
    let log = target.channel(&channel("prod")).unwrap();
    assert_eq!(log.bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
}
