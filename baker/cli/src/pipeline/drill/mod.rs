//! The tamper drill: damages every structure of a release, one bit at a time, and asks who notices.
//!
//! Takes a release that verifies and boots; gives a report with one answer per flip. Every variant
//! is a private copy; the release itself is only read. A variant of a file goes before
//! `baker verify`; a variant of the disk is booted as well, with the release's own test and every
//! block of the root read. A flip that nobody notices is harmless only for a reason that the map
//! of the disk gives, and only when the boot passed with the root hash of the release.

mod bench;
mod report;
mod target;

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use baker_build::anatomy::{self, Standing};
use baker_model::event::{Outcome, Silent};
use baker_model::manifest::FileRole;
use baker_model::plan::{Budget, Firmware, TestPlan};
use baker_model::{Digest, Event, Manifest, Verdict};
use baker_ship::Trust;
use baker_vm::Capacity;

use super::host::{Host, architecture};
use super::smoke::{Booted, boot_quietly};
use super::workdir_failure;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use bench::Bench;
pub use report::DrillReport;
use report::{Answer, Flip, Guard, REPORT_VERSION};
pub use target::Extent;
use target::{Choice, Place, Target};

/// Name of the stage in events.
const STAGE: &str = "drill";

/// The report in the evidence folder, and the same for people.
const REPORT: [&str; 2] = ["drill.json", "drill.md"];

/// Memory of QEMU itself beside that of its guest, MiB.
const QEMU_MIB: u64 = 256;

/// What `baker drill` was asked for.
#[derive(Debug)]
pub struct DrillRequest<'a> {
    /// Folder of the release.
    pub release: &'a Path,
    /// Whom to trust.
    pub trust: &'a Trust,
    /// Decides the bytes; the release's own digest when not given.
    pub seed: Option<&'a str>,
    /// Flips in each structure.
    pub per_structure: u32,
    /// All structures or the quick selection.
    pub extent: Extent,
    /// Only structures with one of these texts in their names; empty: all.
    pub only: &'a [String],
    /// Guests at a time; by processors and free memory when not given.
    pub jobs: Option<usize>,
    /// Folder that gets the report.
    pub evidence: &'a Path,
}

/// Runs the drill and keeps its report.
///
/// # Errors
/// The release does not verify or does not boot undamaged, something is missing on this machine,
/// or a person asked to stop. An accepted flip is no error here.
pub fn drill(request: &DrillRequest<'_>, context: &Context) -> Result<DrillReport, Failure> {
    let start = Instant::now();
    let booted = Booted::read(request.release)?;
    let manifest = booted.manifest();
    if let Some(problem) = problems(request.release, request.trust, context)? {
        let text = format!("only a release that verifies can be drilled: {problem}");
        return Err(Failure::message(Exit::Verify, text));
    }
    let identity = Digest::of(&manifest.to_bytes());
    let choice = Choice {
        seed: match request.seed {
            Some(text) => Digest::of(text.as_bytes()),
            None => identity.derive(STAGE),
        },
        per_structure: request.per_structure,
        extent: request.extent,
        only: request.only.to_vec(),
    };
    let targets = targets(request.release, manifest, &choice)?;
    if targets.is_empty() {
        return Err(Failure::message(
            Exit::Usage,
            "no structure has such a name",
        ));
    }
    let plan = plan(manifest);
    let host = Host::find([&plan], architecture(manifest)?)?;
    let jobs = jobs(request.jobs, &plan, host.capacity);
    let runner = Runner {
        request,
        context,
        plan: &plan,
        host: &host,
        disk: manifest
            .file(FileRole::Disk)
            .map_or("", |file| file.name.as_str()),
    };
    let boots = targets.iter().any(|target| !target.is_in_file());
    let baseline = boots.then(|| runner.baseline()).transpose()?;
    let flips = runner.run_all(&targets, jobs)?;
    let report = DrillReport {
        report_version: REPORT_VERSION,
        release: format!("{}-{}", manifest.name, manifest.version),
        manifest: identity,
        seed: choice.seed,
        firmware: plan.firmware.name().to_owned(),
        baseline_milliseconds: baseline.map(milliseconds),
        jobs,
        milliseconds: milliseconds(start.elapsed()),
        flips,
    };
    keep(request.evidence, &report)?;
    Ok(report)
}

/// The first problem of a release; none when it verifies.
fn problems(release: &Path, trust: &Trust, context: &Context) -> Result<Option<String>, Failure> {
    let report = baker_ship::verify(release, trust, &Silent, context.interrupt())
        .map_err(|error| context.failure(Exit::Verify, error))?;
    Ok(report.problems.first().map(ToString::to_string))
}

/// All targets: the files of the release first, then the disk from its beginning to its end.
fn targets(release: &Path, manifest: &Manifest, choice: &Choice) -> Result<Vec<Target>, Failure> {
    let unreadable = |path: &Path, error: io::Error| {
        Failure::new(Exit::Verify, error).context(format!("cannot read {}", path.display()))
    };
    let mut targets = Vec::new();
    for name in file_names(release).map_err(|error| unreadable(release, error))? {
        let path = release.join(&name);
        let size = fs::metadata(&path)
            .map_err(|error| unreadable(&path, error))?
            .len();
        let signatures = match name.as_str() {
            baker_ship::SIGNATURES | baker_ship::TEST_RESULT => {
                let bytes = fs::read(&path).map_err(|error| unreadable(&path, error))?;
                signature_places(&bytes)
            }
            _ => Vec::new(),
        };
        targets.extend(choice.in_file(&name, size, &signatures));
    }
    if let Some(disk) = manifest.file(FileRole::Disk) {
        let path = release.join(&disk.name);
        let file = File::open(&path).map_err(|error| unreadable(&path, error))?;
        let map = anatomy::anatomy(&file, disk.size).map_err(|error| {
            Failure::new(Exit::Verify, error).context(format!("cannot map {}", path.display()))
        })?;
        targets.extend(choice.on_disk(&map));
    }
    Ok(targets)
}

/// Every file of the release, sorted by path: what stands in the manifest and what signs it.
fn file_names(release: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(release.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                todo.push(path);
            } else {
                // A release that verifies has no other names.
                names.extend(path.to_str().map(str::to_owned));
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Where the signatures lie in a file of signatures: the base64 of each, by the words that the
/// manifest's own format and DSSE put in front of it.
fn signature_places(bytes: &[u8]) -> Vec<Range<u64>> {
    const WORDS: [&str; 2] = ["\"signature\": \"", "\"sig\": \""];
    let text = String::from_utf8_lossy(bytes);
    let starts = |word: &'static str| {
        let found = text.match_indices(word);
        found.map(move |(at, _)| at + word.len())
    };
    let places = WORDS.into_iter().flat_map(starts).filter_map(|start| {
        let length = text[start..].find('"')?;
        Some(start as u64..(start + length) as u64)
    });
    places.collect()
}

/// The release's own test, asking for every block of the root, on a machine with one processor:
/// guests run side by side, and a second processor would idle most of the time. No budget: a busy
/// host must not look like a guard.
fn plan(manifest: &Manifest) -> TestPlan {
    let by = |firmware| {
        let mut plans = manifest.plans.iter();
        plans.find(|plan| plan.firmware == firmware)
    };
    let own = by(Firmware::UefiSecure).or_else(|| by(Firmware::Uefi));
    let own = own.cloned().unwrap_or_default();
    TestPlan {
        name: Some(STAGE.to_owned()),
        cpus: 1,
        boot_seconds: own.boot_seconds.max(180),
        root_readable: true,
        reboot: None,
        budget: Budget::default(),
        ..own
    }
}

/// Guests at a time: as many as the host has processors, as long as they fit into its memory.
fn jobs(asked: Option<usize>, plan: &TestPlan, capacity: Capacity) -> usize {
    if let Some(jobs) = asked {
        return jobs.max(1);
    }
    let guest = u64::from(plan.memory_mib) + QEMU_MIB;
    let fitting = capacity.memory_mib / guest;
    usize::try_from(fitting.min(capacity.cpus.into()))
        .unwrap_or(usize::MAX)
        .max(1)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn keep(folder: &Path, report: &DrillReport) -> Result<(), Failure> {
    let failed = |error| {
        Failure::new(Exit::Internal, error)
            .context(format!("cannot keep the report in {}", folder.display()))
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let contents = [report.to_bytes(), report.markdown().into_bytes()];
    for (name, bytes) in REPORT.iter().zip(contents) {
        fs::write(folder.join(name), bytes).map_err(failed)?;
    }
    Ok(())
}

/// What every flip needs.
struct Runner<'a> {
    request: &'a DrillRequest<'a>,
    context: &'a Context,
    plan: &'a TestPlan,
    host: &'a Host,
    /// Name of the disk in the release.
    disk: &'a str,
}

impl Runner<'_> {
    /// How long the undamaged disk takes to pass; it must.
    fn baseline(&self) -> Result<Duration, Failure> {
        let text = "the undamaged disk first".to_owned();
        let listener = self.context.listener();
        listener.event(Event::Note { stage: STAGE, text });
        let start = Instant::now();
        let booted = Booted::read(self.request.release)?;
        let verdict = self.boot(&booted, &self.request.evidence.join("baseline"))?;
        if !verdict.is_passed() {
            let text = format!("the undamaged disk does not pass: {verdict}");
            return Err(Failure::message(Exit::Smoke, text));
        }
        Ok(start.elapsed())
    }

    /// All flips, divided among the jobs, in the order of the targets.
    fn run_all(&self, targets: &[Target], jobs: usize) -> Result<Vec<Flip>, Failure> {
        self.context.listener().event(Event::Started {
            stage: STAGE,
            total: Some(targets.len() as u64),
            unit: "flips",
        });
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let results = Mutex::new(Vec::new());
        let keep = |result| {
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.push(result);
        };
        let work = || {
            let bench = match Bench::new(self.request.release) {
                Ok(bench) => bench,
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return keep((0, Err(workdir_failure(error))));
                }
            };
            while !stop.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(target) = targets.get(index) else {
                    break;
                };
                let result = self.run(&bench, index, target);
                stop.fetch_or(result.is_err(), Ordering::Relaxed);
                keep((index, result));
            }
        };
        thread::scope(|scope| {
            for _ in 1..jobs.min(targets.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(index, _)| *index);
        let flips: Vec<_> = results
            .into_iter()
            .map(|(_, result)| result)
            .collect::<Result<_, _>>()?;
        self.context.listener().event(Event::Finished {
            stage: STAGE,
            how: Outcome::Done,
            summary: format!("{} flips", flips.len()),
        });
        Ok(flips)
    }

    /// One flip on this private copy.
    fn run(&self, bench: &Bench, index: usize, target: &Target) -> Result<Flip, Failure> {
        let start = Instant::now();
        let (file, offsets) = match &target.place {
            Place::File { name, offset } => (name.as_str(), vec![*offset]),
            Place::Disk { offsets, .. } => (self.disk, offsets.clone()),
        };
        let judged = bench.flipped(file, &offsets, target.bit, || {
            self.judge(bench, index, target)
        });
        let (answer, verify_refuses) = judged.map_err(workdir_failure)??;
        let flip = Flip {
            structure: target.structure.clone(),
            file: file.to_owned(),
            offsets,
            bit: target.bit,
            answer,
            milliseconds: milliseconds(start.elapsed()),
            verify_refuses,
        };
        self.context.printer().say(&flip.line());
        let stage = STAGE;
        self.context
            .listener()
            .event(Event::Advanced { stage, by: 1 });
        Ok(flip)
    }

    /// The answer to the damage that the copy has now, and whether `baker verify` sees it.
    fn judge(
        &self,
        bench: &Bench,
        index: usize,
        target: &Target,
    ) -> Result<(Answer, Option<bool>), Failure> {
        let problem = problems(bench.release(), self.request.trust, self.context)?;
        let Place::Disk { standing, .. } = &target.place else {
            let answer = match problem {
                Some(detail) => Answer::Refused {
                    by: Guard::Verify,
                    detail,
                },
                None => Answer::Accepted {
                    detail: "baker verify finds no problem".to_owned(),
                },
            };
            return Ok((answer, None));
        };
        let booted = Booted::read(bench.release())?.with_disk_as_it_is()?;
        let folder = self.request.evidence.join(format!("flip-{index}"));
        let verdict = self.boot(&booted, &folder)?;
        let answer = Answer::refusal(&verdict).unwrap_or_else(|| self.passed(*standing));
        if !matches!(answer, Answer::Accepted { .. }) {
            // What cannot be removed is no failure of the drill.
            drop(fs::remove_dir_all(&folder));
        }
        Ok((answer, Some(problem.is_some())))
    }

    /// What it means that a damaged disk passed.
    fn passed(&self, standing: Standing) -> Answer {
        let secure = self.plan.firmware == Firmware::UefiSecure;
        match standing {
            Standing::Unused(reason) | Standing::Copied(reason) => Answer::Harmless {
                reason: reason.to_owned(),
            },
            Standing::Pointer(reason) if secure => Answer::Harmless {
                reason: reason.to_owned(),
            },
            Standing::Pointer(_) | Standing::Content if secure => Answer::Accepted {
                detail: "the boot passed all the same".to_owned(),
            },
            Standing::Pointer(_) | Standing::Content => Answer::Accepted {
                detail: "the boot passed all the same; sign for Secure Boot, so that the firmware \
                         refuses what it loads when it was altered"
                    .to_owned(),
            },
        }
    }

    fn boot(&self, booted: &Booted, folder: &Path) -> Result<Verdict, Failure> {
        boot_quietly(booted, self.plan, self.host, folder, None, self.context)
            .map(|evidence| evidence.verdict)
    }
}
