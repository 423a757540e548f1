//! Pulling: verified on the way in, resumed, and never half-named.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use baker_model::event::Outcome;
use baker_model::plan::Day;
use baker_model::{Interrupt, Silent};

use super::fixture::{key, verified};
use super::released::{Release, channel, contents, id, one};
use crate::folder::Watch;
use crate::promote::{Promotion, Withdrawn, promote};
use crate::pull::{Check, Pull, PullError, Pulled, Receipt, Wanted, pull};
use crate::said::{Withdrawal, withdraw};
use crate::target::{
    ChannelId, FolderTarget, Log, Piece, Record, ReleaseId, Source, Target, TargetError, Upload,
};
use crate::{Trust, publish};

/// A target whose connection breaks after some bytes of each file, and that tells what was read.
struct Breaking {
    inner: FolderTarget,
    /// Bytes that one reading gets; all when none.
    after: Option<u64>,
    reads: Mutex<Vec<(String, u64)>>,
}

impl Breaking {
    fn new(folder: &Path, after: Option<u64>) -> Self {
        Self {
            inner: FolderTarget::new(folder.join("releases"), Source::Kept),
            after,
            reads: Mutex::default(),
        }
    }

    /// What was read since the last time.
    fn reads(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }
}

/// Takes so many bytes and no more.
struct Short<'a>(&'a mut dyn Write, u64);

impl Write for Short<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.1 == 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let count = bytes.len().min(usize::try_from(self.1).unwrap());
        self.1 -= count as u64;
        self.0.write(&bytes[..count])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Target for Breaking {
    fn place(&self) -> String {
        self.inner.place()
    }
    fn begin<'a>(
        &'a self,
        record: &Record,
        watch: Watch<'_>,
    ) -> Result<Box<dyn Upload + 'a>, TargetError> {
        self.inner.begin(record, watch)
    }
    fn record(&self, id: &ReleaseId) -> Result<Option<Record>, TargetError> {
        self.inner.record(id)
    }
    fn releases(&self, name: &str) -> Result<Vec<ReleaseId>, TargetError> {
        self.inner.releases(name)
    }
    fn size_of(&self, record: &Record, piece: &Piece) -> Result<Option<u64>, TargetError> {
        self.inner.size_of(record, piece)
    }
    fn read(
        &self,
        record: &Record,
        piece: &Piece,
        from: u64,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        self.reads.lock().unwrap().push((piece.name.clone(), from));
        match self.after.filter(|_| piece.name == "disk.raw") {
            Some(after) => self
                .inner
                .read(record, piece, from, &mut Short(to, after), watch),
            None => self.inner.read(record, piece, from, to, watch),
        }
    }
    fn statements(&self, record: &Record) -> Result<Vec<Vec<u8>>, TargetError> {
        self.inner.statements(record)
    }
    fn add_statement(&self, record: &Record, envelope: &[u8]) -> Result<(), TargetError> {
        self.inner.add_statement(record, envelope)
    }
    fn channels(&self, name: &str) -> Result<Vec<String>, TargetError> {
        self.inner.channels(name)
    }
    fn channel(&self, id: &ChannelId) -> Result<Log, TargetError> {
        self.inner.channel(id)
    }
    fn move_channel(
        &self,
        id: &ChannelId,
        seen: &Log,
        line: &[u8],
        record: &Record,
    ) -> Result<(), TargetError> {
        self.inner.move_channel(id, seen, line, record)
    }
}

/// What is asked of [`pull`] in these tests.
struct Asked<'a> {
    wanted: Wanted,
    trust: &'a Trust,
    check: Check,
    withdrawn: Withdrawn,
}

fn version(version: &str) -> Wanted {
    Wanted::Version(id(version))
}

fn asked(wanted: Wanted, trust: &Trust) -> Asked<'_> {
    Asked {
        wanted,
        trust,
        check: Check::Verify,
        withdrawn: Withdrawn::Refuse,
    }
}

fn pulled(target: &dyn Target, to: &Path, asked: &Asked<'_>) -> Result<Pulled, PullError> {
    let request = Pull {
        target,
        wanted: &asked.wanted,
        to,
        trust: asked.trust,
        check: asked.check,
        withdrawn: asked.withdrawn,
        today: Day::of_unix(1_795_350_896),
    };
    pull(&request, &Silent, &Interrupt::new())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_published_arrives_and_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let target = Breaking::new(folder.path(), None);
    let release = Release::new("1.0.0", "");
    let published = release.publish(&target);
    assert_eq!(published.how, Outcome::Done);
    assert_eq!(release.publish(&target).how, Outcome::Reused);
    let to = folder.path().join("here");
    let trust = one();
    let arrived = pulled(&target, &to, &asked(version("1.0.0"), &trust)).unwrap();
    assert_eq!(contents(&arrived.folder), contents(&release.folder));
    assert!(verified(&arrived.folder).is_good() && arrived.warnings.is_empty());
    assert_eq!(names(&to), ["minimal-1.0.0", "minimal-1.0.0.receipt.json"]);
    let receipt = std::fs::read(to.join("minimal-1.0.0.receipt.json")).unwrap();
    let receipt: Receipt = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(receipt, arrived.receipt);
    assert!(receipt.verified && receipt.signed_by == [key().public().id()]);
    target.reads();
    let again = pulled(&target, &to, &asked(version("1.0.0"), &trust)).unwrap();
    assert_eq!(again.how, Outcome::Reused);
    assert!(!target.reads().iter().any(|(name, _)| name == "disk.raw"));
}

#[test]
fn another_release_of_the_same_version_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = Breaking::new(folder.path(), None);
    Release::new("1.0.0", "").publish(&target);
    let before = contents(folder.path());
    let other = Release::new("1.0.0", "[disk]\nslots = 2\n").verified();
    let refused = publish(&other, &target, &Silent, &Interrupt::new());
    assert!(
        matches!(refused, Err(TargetError::AlreadyThere { .. })),
        "{refused:?}"
    );
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn a_broken_connection_is_resumed_and_a_damaged_rest_fetched_anew() {
    let folder = tempfile::tempdir().unwrap();
    let target = Breaking::new(folder.path(), Some(1500));
    let release = Release::new("1.0.0", "");
    release.publish(&target);
    let (to, trust) = (folder.path().join("here"), one());
    let ask = asked(version("1.0.0"), &trust);
    let coming = to.join(".minimal-1.0.0.pull/minimal-1.0.0/disk.raw");
    let offsets = |target: &Breaking| -> Vec<u64> {
        let reads = target
            .reads()
            .into_iter()
            .filter(|(name, _)| name == "disk.raw");
        reads.map(|(_, from)| from).collect()
    };
    offsets(&target);
    for from in [0, 1500, 3000] {
        let broken = pulled(&target, &to, &ask);
        assert!(matches!(broken, Err(PullError::Target(_))), "{broken:?}");
        assert_eq!(offsets(&target), [from]);
        assert_eq!(std::fs::metadata(&coming).unwrap().len(), from + 1500);
        assert_eq!(names(&to), [".minimal-1.0.0.pull"]);
    }
    // Damage what came so far: the rest comes, the digest does not fit, and it comes once more.
    let mut bytes = std::fs::read(&coming).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&coming, bytes).unwrap();
    let whole = Breaking::new(folder.path(), None);
    let arrived = pulled(&whole, &to, &ask).unwrap();
    assert_eq!(offsets(&whole), [4500, 0]);
    assert_eq!(contents(&arrived.folder), contents(&release.folder));
    assert_eq!(names(&to), ["minimal-1.0.0", "minimal-1.0.0.receipt.json"]);
}

#[test]
fn nothing_large_comes_of_a_release_that_nobody_trusted_has_signed() {
    let folder = tempfile::tempdir().unwrap();
    let target = Breaking::new(folder.path(), None);
    Release::new("1.0.0", "").publish(&target);
    let to = folder.path().join("here");
    let nobody = Trust::default();
    target.reads();
    let refused = pulled(&target, &to, &asked(version("1.0.0"), &nobody));
    assert!(
        matches!(refused, Err(PullError::NotGood { .. })),
        "{refused:?}"
    );
    let read = target.reads();
    assert!(!read.iter().any(|(name, _)| name == "disk.raw"), "{read:?}");
    assert!(names(&to).is_empty());
    // Unverified it comes, loudly, and the receipt remembers.
    let mut ask = asked(version("1.0.0"), &nobody);
    ask.check = Check::Skip;
    let arrived = pulled(&target, &to, &ask).unwrap();
    assert!(
        arrived.warnings[0].contains("IS NOT VERIFIED"),
        "{arrived:?}"
    );
    assert!(!arrived.receipt.verified && arrived.receipt.signed_by.is_empty());
}

#[test]
fn every_flipped_byte_of_the_target_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let target = Breaking::new(folder.path(), None);
    Release::new("1.0.0", "").publish(&target);
    let (to, trust) = (folder.path().join("here"), one());
    let release = folder.path().join("releases/minimal-1.0.0");
    for (name, good) in contents(&release) {
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 0x20;
        std::fs::write(release.join(&name), &bad).unwrap();
        let refused = pulled(&target, &to, &asked(version("1.0.0"), &trust));
        assert!(refused.is_err(), "{} {refused:?}", name.display());
        assert!(!to.join("minimal-1.0.0").exists(), "{}", name.display());
        std::fs::write(release.join(&name), &good).unwrap();
    }
    pulled(&target, &to, &asked(version("1.0.0"), &trust)).unwrap();
}

#[test]
fn a_channel_is_followed_and_never_backwards() {
    let folder = tempfile::tempdir().unwrap();
    let target = Breaking::new(folder.path(), None);
    let (to, trust) = (folder.path().join("here"), one());
    let follow = || Wanted::Channel(channel("prod"));
    let none = pulled(&target, &to, &asked(follow(), &trust));
    assert!(matches!(none, Err(PullError::Channel(_))), "{none:?}");
    let log = folder
        .path()
        .join("releases/catalogue/minimal/prod.channel");
    let mut logs = Vec::new();
    for number in ["1.0.0", "1.1.0"] {
        Release::new(number, "").publish(&target);
        let request = Promotion {
            target: &target,
            release: &id(number),
            channel: &channel("prod"),
            trust: &trust,
            signer: &key(),
            author: "ada",
            now: 1_795_350_896,
            withdrawn: Withdrawn::Refuse,
        };
        promote(&request, &Interrupt::new()).unwrap();
        let arrived = pulled(&target, &to, &asked(follow(), &trust)).unwrap();
        assert!(arrived.folder.ends_with(format!("minimal-{number}")));
        logs.push(std::fs::read(&log).unwrap());
    }
    // The end of the history is cut off: the signatures still hold, the memory does not.
    std::fs::write(&log, &logs[0]).unwrap();
    let cut = pulled(&target, &to, &asked(follow(), &trust));
    assert!(
        matches!(cut, Err(PullError::RolledBack { seen: 2, .. })),
        "{cut:?}"
    );
    let elsewhere = folder.path().join("elsewhere");
    pulled(&target, &elsewhere, &asked(follow(), &trust)).unwrap();
    std::fs::write(&log, &logs[1]).unwrap();
    // The version is another release than the pointer says.
    std::fs::remove_dir_all(folder.path().join("releases/minimal-1.1.0")).unwrap();
    Release::new("1.1.0", "[disk]\nslots = 2\n").publish(&target);
    let swapped = pulled(&target, &elsewhere, &asked(follow(), &trust));
    assert!(
        matches!(swapped, Err(PullError::Swapped { .. })),
        "{swapped:?}"
    );
}

#[test]
fn what_was_withdrawn_comes_only_by_force_and_the_receipt_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let target = Breaking::new(folder.path(), None);
    let (to, trust) = (folder.path().join("here"), one());
    Release::new("1.0.0", "").publish(&target);
    let withdrawal = Withdrawal {
        reason: "eats data".to_owned(),
        author: "ada".to_owned(),
        day: Day::of_unix(1_795_350_896),
    };
    withdraw(&target, &id("1.0.0"), withdrawal, &key()).unwrap();
    let mut ask = asked(version("1.0.0"), &trust);
    let refused = pulled(&target, &to, &ask).unwrap_err();
    assert!(
        refused.to_string().contains("eats data (ada, 2026-11-22)"),
        "{refused}"
    );
    ask.withdrawn = Withdrawn::Force;
    let arrived = pulled(&target, &to, &ask).unwrap();
    assert!(arrived.warnings[0].contains("WAS WITHDRAWN"), "{arrived:?}");
    assert_eq!(arrived.receipt.withdrawn.len(), 1);
}
