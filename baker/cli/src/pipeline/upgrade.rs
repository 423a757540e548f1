//! An update, played through: the new version beside the old one, on the disk and with the boot
//! loader of the old, until the loader and the guest have settled which of them stays.
//!
//! Takes two drafts or releases with two slots; gives one result with the verdict of the new
//! version. Works on copies: nothing of either is written to. A machine that makes a data partition
//! at its first start has that start before the update.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use baker_build::disk::{self, Counter, Entry, Upgrade, Upgraded};
use baker_model::manifest::FileRole;
use baker_model::plan::TestPlan;
use baker_model::{Digest, Failure as Kind, Manifest, Verdict};
use baker_vm::{
    Attempt, Evidence, Medium, MediumFormat, Patience, Sizes, SmokeRequest, Subject, Test,
    Treatment, Watchdog,
};
use serde::Serialize;

use super::host::Host;
use super::luggage;
use super::smoke::{self, Booted};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::program;

/// Name of the account of an update inside its evidence folder.
const ACCOUNT: &str = "upgrade.json";

/// Name of the disk in there, as it was before its first boot.
const DISK: &str = "upgrade.raw";

/// The guest's own deadline when the recipe of a release cannot be read: that of a recipe which
/// says nothing of it.
const HEALTH_SECONDS: u32 = 300;

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Account {
    /// The version that ran before.
    pub old: String,
    /// The version that arrived.
    pub new: String,
    /// How it ended.
    pub ending: Ending,
    /// The verdict of the new version.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Tries that the new version had.
    pub tries: u32,
    /// Boots that ended in a reset, each with what was wrong.
    pub attempts: Vec<Attempt>,
    /// UKIs on the ESP at the end, as loader and guest have named them.
    pub entries: Vec<String>,
}

/// How an update ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The new version runs and is called good.
    Blessed,
    /// The new version runs, but the loader still counts.
    Unblessed,
    /// The old version runs again.
    FellBack,
    /// Neither runs.
    Stuck,
}

/// Plays the update of `old` by `new`. The evidence's verdict is that of the new version.
pub fn upgrade(
    old: &Booted,
    new: &Booted,
    host: &Host,
    evidence: &Path,
    context: &Context,
) -> Result<smoke::Result, Failure> {
    let scratch = smoke::scratch()?;
    let plan = plan(old, new);
    let folder = evidence.join(plan.title());
    fs::create_dir_all(&folder).map_err(|error| {
        Failure::new(Exit::Internal, error).context(format!("cannot make {}", folder.display()))
    })?;
    // The disk before the update is kept beside the evidence of a failure, to repeat it by hand.
    let (path, kept) = (folder.join(DISK), scratch.path().join("kept"));
    let (old_disk, new_disk) = (checked(old)?, checked(new)?);
    let lived = lived(old, &old_disk, host, scratch.path(), context)?;
    let made = disk::upgraded(&Upgrade {
        path: &path,
        old: lived.as_ref().unwrap_or(&old_disk),
        new: &new_disk,
    })
    .map_err(|error| Failure::new(Exit::Usage, error))?;
    let boot = new.boot(plan.firmware, host, scratch.path())?;
    let mut patience = Patience::for_plans([&plan], &boot, host.accelerator.accelerator);
    be_patient(&mut patience, made.tries(), new);
    let request = SmokeRequest {
        qemu: &host.qemu,
        accelerator: &host.accelerator,
        subject: &subject(new, &path)?,
        boot: &boot,
        tests: &[Test {
            plan: &plan,
            work: &folder,
        }],
        patience,
        treatment: &Treatment {
            resets: made.tries(),
            fallback: Some(old.manifest().root_hash),
            watchdog: Watchdog::Resets,
            keep_disk: Some(kept.clone()),
            luggage: luggage::pack([&plan], &scratch.path().join("keys"))?,
            reads: None,
            neighbours: None,
        },
        today: smoke::today(),
        environment: &host.environment,
        listener: context.listener(),
        interrupt: context.interrupt(),
    };
    let seen = baker_vm::smoke(&request).map_err(|error| smoke::smoke_failure(error, context))?;
    let Some(evidence) = seen.into_iter().next() else {
        let problem = "the update gave no evidence";
        return Err(Failure::message(Exit::Internal, problem));
    };
    let entries = disk::entries(&kept).map_err(|error| Failure::new(Exit::Smoke, error))?;
    let account = account(&evidence, &made, &entries, old.manifest(), new.manifest());
    let mut evidence = tell(evidence, &account);
    evidence.command = evidence.command.replace(&text(&kept), &text(&path));
    if account.verdict.is_passed() {
        drop(fs::remove_file(&path));
    }
    smoke::write_report(&folder, &evidence)?;
    write_account(&folder, &account)?;
    context.printer().test(&evidence);
    Ok(smoke::Result { evidence, folder })
}

/// True when the machine makes a data partition, which outlives its versions.
fn keeps_data(booted: &Booted) -> bool {
    let recipe = booted.recipe();
    recipe.is_some_and(|recipe| recipe.disk.data.is_some())
}

/// The test of a version by UEFI.
fn own_plan(manifest: &Manifest) -> TestPlan {
    let own = manifest.plans.iter().find(|plan| plan.firmware.is_uefi());
    own.cloned().unwrap_or_default()
}

/// The disk of the old version after its first start, where the machine makes its data partition
/// then; none for disks that are complete when they are baked.
fn lived(
    old: &Booted,
    disk: &Path,
    host: &Host,
    scratch: &Path,
    context: &Context,
) -> Result<Option<PathBuf>, Failure> {
    if !keeps_data(old) {
        return Ok(None);
    }
    let plan = own_plan(old.manifest()).machine_only();
    let (kept, folder) = (scratch.join("lived"), scratch.join("life"));
    let boot = old.boot(plan.firmware, host, scratch)?;
    let request = SmokeRequest {
        qemu: &host.qemu,
        accelerator: &host.accelerator,
        subject: &subject(old, disk)?,
        boot: &boot,
        tests: &[Test {
            plan: &plan,
            work: &folder,
        }],
        patience: Patience::for_plans([&plan], &boot, host.accelerator.accelerator),
        treatment: &Treatment {
            keep_disk: Some(kept.clone()),
            luggage: luggage::pack([&plan], &scratch.join("keys-of-life"))?,
            ..Treatment::default()
        },
        today: smoke::today(),
        environment: &host.environment,
        listener: context.listener(),
        interrupt: context.interrupt(),
    };
    let seen = baker_vm::smoke(&request).map_err(|error| smoke::smoke_failure(error, context))?;
    match seen.first().map(|evidence| &evidence.verdict) {
        Some(Verdict::Passed) => Ok(Some(kept)),
        verdict => {
            let said = verdict.map_or("it gave no evidence".to_owned(), ToString::to_string);
            let version = &old.manifest().version;
            let problem = format!("version {version} does not live to be updated: {said}");
            Err(Failure::message(Exit::Smoke, problem).help("test it alone: baker test RELEASE"))
        }
    }
}

/// A raw disk with the root of this version.
fn subject(booted: &Booted, disk: &Path) -> Result<Subject, Failure> {
    Ok(Subject {
        medium: Some(Medium {
            path: disk.to_owned(),
            format: MediumFormat::Raw,
        }),
        digest: digest(disk)?,
        root_hash: Some(booted.manifest().root_hash),
        sizes: Sizes::default(),
        carries_probe: true,
        probe_disk: None,
    })
}

/// The machine of the new version's own test by UEFI; what its tests ask is asked elsewhere, but
/// for files on data that outlives a version, and commands that look at it.
fn plan(old: &Booted, new: &Booted) -> TestPlan {
    let own = own_plan(new.manifest());
    let (files, mut commands) = if keeps_data(old) && keeps_data(new) {
        (own.files, own.commands)
    } else {
        (Vec::new(), Vec::new())
    };
    // The restart that they wait for is the update itself.
    for command in &mut commands {
        command.after_restart = false;
    }
    TestPlan {
        name: Some(format!("after-{}", old.manifest().version)),
        files,
        commands,
        firmware: own.firmware,
        memory_mib: own.memory_mib,
        cpus: own.cpus,
        disk_bus: own.disk_bus,
        boot_seconds: own.boot_seconds,
        credentials: own.credentials,
        ..TestPlan::default()
    }
}

/// The path of the disk, when its bytes are those of the manifest.
fn checked(booted: &Booted) -> Result<PathBuf, Failure> {
    let (path, expected) = booted.file(FileRole::Disk)?;
    if digest(&path)? == expected {
        return Ok(path);
    }
    let problem = format!("the disk {} is not the one of its manifest", path.display());
    Err(Failure::message(Exit::Verify, problem).help("see all problems with: baker verify RELEASE"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn digest(path: &Path) -> Result<Digest, Failure> {
    program::digest_of(path).map_err(|error| {
        Failure::new(Exit::Verify, error).context(format!("cannot read {}", path.display()))
    })
}

/// One boot more than there are tries; and a bad boot may take until the guest's own deadline.
fn be_patient(patience: &mut Patience, tries: u32, new: &Booted) {
    let seconds = new
        .recipe()
        .map_or(HEALTH_SECONDS, |recipe| recipe.disk.health_seconds());
    let deadline = Duration::from_secs(seconds.into()) + patience.reset;
    patience.silence = patience.silence.max(deadline);
    patience.stall = patience.stall.max(deadline);
    patience.total = (patience.total + deadline) * (tries + 1);
}

/// Draws the conclusion: which version runs, and why.
fn account(
    evidence: &Evidence,
    made: &Upgraded,
    entries: &[Entry],
    old: &Manifest,
    new: &Manifest,
) -> Account {
    let running = evidence
        .guest
        .as_ref()
        .map(|guest| guest.root_hash.as_str());
    let is = |manifest: &Manifest| running == Some(&*manifest.root_hash.to_string());
    let left = entries.iter().find(|entry| entry.stem == made.new.stem);
    let blessed = left.is_some_and(|entry| entry.counter.is_none());
    let (ending, verdict) = if is(old) {
        let used = left.and_then(|entry| entry.counter);
        (Ending::FellBack, fell_back(evidence, used, old, new))
    } else if !is(new) || !evidence.verdict.is_passed() {
        let text = format!("and {} {} never came back", old.name, old.version);
        (Ending::Stuck, with(&evidence.verdict, &text))
    } else if blessed {
        (Ending::Blessed, Verdict::Passed)
    } else {
        let name = left.map_or("no UKI of it".to_owned(), Entry::to_string);
        let detail = format!("it runs, but nothing called the boot good: the ESP has {name}");
        let failure = Kind::AssertionFailed;
        (Ending::Unblessed, Verdict::Failed { failure, detail })
    };
    Account {
        old: old.version.clone(),
        new: new.version.clone(),
        ending,
        verdict,
        tries: made.tries(),
        attempts: evidence.attempts.clone(),
        entries: entries.iter().map(Entry::to_string).collect(),
    }
}

/// The verdict of a version that was given up: what was wrong with it, not only that it restarted.
fn fell_back(
    evidence: &Evidence,
    used: Option<Counter>,
    old: &Manifest,
    new: &Manifest,
) -> Verdict {
    let old = format!("{} {}", old.name, old.version);
    let reasons = || evidence.attempts.iter().map(|attempt| &attempt.verdict);
    let silent = |verdict: &&Verdict| {
        matches!(
            verdict,
            Verdict::Failed {
                failure: Kind::GuestReset,
                ..
            }
        )
    };
    let reason = reasons()
        .find(|verdict| !silent(verdict))
        .or_else(|| reasons().next());
    let Some(reason) = reason else {
        let detail = format!(
            "the boot loader never tried {}: {old} came up at once; is its version newer?",
            new.version
        );
        let failure = Kind::AssertionFailed;
        return Verdict::Failed { failure, detail };
    };
    let tries = used.map_or(
        evidence.attempts.len().try_into().unwrap_or(u32::MAX),
        |c| c.done,
    );
    let plural = if tries == 1 { "try" } else { "tries" };
    let mut text = format!("fell back to {old} after {tries} {plural}");
    if let Verdict::Failed { failure, detail } = &evidence.verdict {
        text.push_str(&format!(", which fails too: {failure}: {detail}"));
    }
    with(reason, &text)
}

/// A failure with more to say.
fn with(verdict: &Verdict, text: &str) -> Verdict {
    match verdict {
        Verdict::Passed => Verdict::Failed {
            failure: Kind::AssertionFailed,
            detail: text.to_owned(),
        },
        Verdict::Failed { failure, detail } => Verdict::Failed {
            failure: *failure,
            detail: format!("{detail}; {text}"),
        },
    }
}

/// The evidence under the verdict of the account, with the account as its first notes.
fn tell(evidence: Evidence, account: &Account) -> Evidence {
    let tried = account.attempts.iter().map(|attempt| {
        let seconds = attempt.milliseconds / 1000;
        format!(
            "boot {} ended after {seconds} s: {}",
            attempt.boot, attempt.verdict
        )
    });
    let names = format!("the ESP holds {}", account.entries.join(", "));
    let warnings = tried.chain([names]).chain(evidence.warnings).collect();
    Evidence {
        verdict: account.verdict.clone(),
        warnings,
        ..evidence
    }
}

fn write_account(folder: &Path, account: &Account) -> Result<(), Failure> {
    let path = folder.join(ACCOUNT);
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Internal, error).context(format!("cannot write {}", path.display()))
    };
    let mut bytes = serde_json::to_vec_pretty(account).map_err(|error| failed(error.into()))?;
    bytes.push(b'\n');
    fs::write(&path, bytes).map_err(failed)
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
