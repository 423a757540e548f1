//! The smoke stage: boots the very bytes that will be published and says what became of it.
//!
//! Takes a subject, its digest and root hash, and plans that can share a boot; gives evidence with
//! a verdict for each; touches the evidence folders, a private temporary folder and one QEMU
//! child. Never writes to the disk, never leaves a QEMU behind, never passes on anything but the
//! guest's own signed-off word (or, judged from outside, on all that was asked).

mod medium;
mod prepare;
mod report;

use std::io;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::thread;

use baker_model::event::Outcome as How;
use baker_model::plan::{Day, ProbeWay, TestPlan};
use baker_model::{Digest, Event, Interrupt, Listener, Verdict};

use crate::accelerator::AcceleratorChoice;
use crate::arguments::shell_line;
use crate::environment::Environment;
use crate::evidence::{Evidence, Retry};
use crate::judge::{Case, Judge, Rules};
use crate::machine::{Attachment, Boot, Machine, Watchdog};
use crate::neighbour::NeighbourFiles;
use crate::outside::Luggage;
use crate::patience::Patience;
use crate::qemu::Qemu;
use crate::session::{self, Outcome, SessionError, Setting, Timing};
use crate::subject::{PlanProblem, Subject};
use medium::MediumCheck;

/// Name of the stage in events.
pub(crate) const STAGE: &str = "smoke";

/// A known fault of the host is given this many further runs.
const RETRIES: usize = 1;

/// What a smoke test is made of: one boot, and the plans that it answers.
#[derive(Clone, Copy)]
pub struct SmokeRequest<'a> {
    /// The QEMU to use.
    pub qemu: &'a Qemu,
    /// The accelerator, as [`crate::probe_accelerator`] chose it.
    pub accelerator: &'a AcceleratorChoice,
    /// What is booted.
    pub subject: &'a Subject,
    /// What starts the guest; agrees with the firmware of the plans.
    pub boot: &'a Boot,
    /// The plans and their evidence folders; at least one, all of equal shape.
    pub tests: &'a [Test<'a>],
    /// How long to wait; [`Patience::for_plans`] when there is no reason for something else.
    pub patience: Patience,
    /// What else is done to the guest.
    pub treatment: &'a Treatment,
    /// Today, for excuses that end.
    pub today: Day,
    /// The host.
    pub environment: &'a Environment,
    /// Takes events.
    pub listener: &'a dyn Listener,
    /// Ends the run when raised.
    pub interrupt: &'a Interrupt,
}

/// A plan, and the folder for its evidence: made when missing, gets the logs.
#[derive(Debug, Clone, Copy)]
pub struct Test<'a> {
    /// What must hold.
    pub plan: &'a TestPlan,
    /// The evidence folder.
    pub work: &'a Path,
}

/// What is done to the guest beyond a plain boot; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Treatment {
    /// Resets that the guest may make by itself. Each ends an attempt, which is told in the
    /// evidence, and voids what was seen before it; a failure waits for the reset that may follow.
    pub resets: u32,
    /// Root hash of the version that a boot loader may fall back to: a boot that shows it passes
    /// as one that shows the subject's own. Which of them it was stands in the evidence.
    pub fallback: Option<Digest>,
    /// Whether a watchdog resets a guest that stops feeding it.
    pub watchdog: Watchdog,
    /// Where the guest's writes are kept: a copy of the disk is made there, and booted. The file
    /// must not exist. None: writes are thrown away. Only for raw disks.
    pub keep_disk: Option<PathBuf>,
    /// Credentials for the guest, and what belongs to them.
    pub luggage: Luggage,
    /// File that gets QEMU's words on every read of the disk, [`crate::reads`].
    pub reads: Option<PathBuf>,
    /// What neighbours boot; needed by plans that have some.
    pub neighbours: Option<NeighbourFiles>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum SmokeError {
    /// A folder cannot be made.
    #[error("cannot make the folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host gave no random bytes.
    #[error("cannot get random bytes for the nonce")]
    Nonce(#[source] io::Error),
    /// The plan cannot be answered for this image.
    #[error("the test {title} {problem}")]
    Plan {
        /// Title of the plan.
        title: String,
        /// What does not go together.
        problem: PlanProblem,
    },
    /// The request has no plan.
    #[error("there is nothing to test: the request has no plan")]
    NoPlan,
    /// QEMU could not be started or its lines could not be made.
    #[error("cannot run {command}")]
    Run {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk cannot be read.
    #[error("cannot read the disk {}", path.display())]
    Disk {
        /// The disk.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The private copy of the disk cannot be made, or a log cannot be copied.
    #[error("cannot write {}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk is not the one that was to be tested.
    #[error(
        "the disk {} is not the one of this release: its digest is {found}, expected {expected}",
        path.display()
    )]
    DiskDiffers {
        /// The disk.
        path: PathBuf,
        /// The digest asked for.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// A person asked to stop.
    #[error("the smoke test was interrupted")]
    Interrupted,
}

/// Boots the subject once and judges it by every plan; gives their evidence in the same order.
///
/// A failing guest is no error: the verdict in the evidence says what failed.
///
/// # Errors
/// There is no verdict: a plan cannot be answered for this image, the disk is another one or
/// unreadable, QEMU cannot be started at all, a folder cannot be made, or a person asked to stop.
pub fn smoke(request: &SmokeRequest<'_>) -> Result<Vec<Evidence>, SmokeError> {
    let way = prepare::way(request)?;
    let works = works(request)?;
    request.listener.event(Event::Started {
        stage: STAGE,
        total: None,
        unit: "",
    });
    if let Some(text) = prepare::cpu(request).warning {
        let warning = Event::Warning { stage: STAGE, text };
        request.listener.event(warning);
    }
    let check = MediumCheck::new(request);
    let machine = prepare::machine(request, way)?;
    let stop = || request.interrupt.is_raised() || check.is_refuted();
    let (before, runs) = thread::scope(|scope| {
        let hashing = scope.spawn(|| check.run());
        let runs = Bench {
            request,
            machine: &machine,
            way,
            work: &works[0],
            stop: &stop,
        }
        .runs();
        let before = hashing.join();
        (
            before.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            runs,
        )
    });
    // A disk that is another one has ended the run: that is the error to show.
    let before = before?;
    let (retries, run) = runs?;
    let after = check.hash()?;
    let neighbours = &request.tests[0].plan.neighbours;
    report::share_logs(&works, neighbours, &run, &retries)?;
    let evidence = report::evidence(request, &machine, way, &run, &retries, [before, after]);
    request.listener.event(Event::Finished {
        stage: STAGE,
        how: How::Done,
        summary: report::summary(&evidence),
    });
    Ok(evidence)
}

/// The evidence folders, made and absolute.
fn works(request: &SmokeRequest<'_>) -> Result<Vec<PathBuf>, SmokeError> {
    let make = |work: &Path| {
        std::fs::create_dir_all(work)?;
        absolute(work)
    };
    let works = request.tests.iter().map(|test| {
        make(test.work).map_err(|source| SmokeError::Folder {
            path: test.work.to_owned(),
            source,
        })
    });
    works.collect()
}

/// One run and its nonce.
struct Run {
    outcome: Outcome,
    nonce: String,
    logs: Logs,
}

/// Names of the files of a run.
struct Logs {
    serial: String,
    qemu: String,
    screenshot: String,
}

/// What every run of a request has in common.
struct Bench<'a> {
    request: &'a SmokeRequest<'a>,
    machine: &'a Machine,
    way: ProbeWay,
    /// Folder of the logs.
    work: &'a Path,
    stop: &'a dyn Fn() -> bool,
}

impl Bench<'_> {
    /// Runs the machine; once more when the console showed a known fault of the host.
    fn runs(&self) -> Result<(Vec<Retry>, Run), SmokeError> {
        let request = self.request;
        let mut retries = Vec::new();
        loop {
            let run = self.run(retries.len())?;
            let failed = report::worst(&run.outcome);
            match (run.outcome.judge.flake(), failed) {
                (Some(cause), Some(ruling))
                    if retries.len() < RETRIES && request.treatment.keep_disk.is_none() =>
                {
                    let text = format!("{cause}; running {} again", report::titles(request));
                    let warning = Event::Warning { stage: STAGE, text };
                    request.listener.event(warning);
                    retries.push(Retry {
                        cause: cause.to_owned(),
                        verdict: ruling.verdict.clone(),
                        milliseconds: crate::evidence::milliseconds(ruling.at),
                        serial_log: run.logs.serial,
                    });
                }
                _ => return Ok((retries, run)),
            }
        }
    }

    fn run(&self, number: usize) -> Result<Run, SmokeError> {
        let request = self.request;
        let temporary = &request.environment.temporary;
        let private = tempfile::Builder::new()
            .prefix("baker-")
            .tempdir_in(temporary)
            .map_err(|source| SmokeError::Folder {
                path: temporary.clone(),
                source,
            })?;
        let logs = Logs::of_run(number);
        let nonce = prepare::nonce().map_err(SmokeError::Nonce)?;
        let setting = Setting {
            qemu: request.qemu,
            machine: self.machine,
            nonce: &nonce,
            timing: Timing {
                connect: request.patience.first_sign,
                power_off: request.patience.power_off,
            },
            work: self.work,
            serial_log: self.work.join(&logs.serial),
            qemu_log: self.work.join(&logs.qemu),
            screenshot: self.work.join(&logs.screenshot),
            private: private.path(),
            luggage: Arc::new(request.treatment.luggage.clone()),
            neighbours: prepare::neighbours(request)?,
            listener: request.listener,
            stop: self.stop,
        };
        let judge = self.judge(&nonce)?;
        let outcome = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SessionError::Io)
            .and_then(|runtime| runtime.block_on(session::observe(&setting, judge)));
        match outcome {
            Ok(outcome) => Ok(Run {
                outcome,
                nonce,
                logs,
            }),
            Err(SessionError::Stopped) => Err(SmokeError::Interrupted),
            Err(SessionError::Io(source)) => {
                let argv = self.machine.argv(Attachment::Terminal);
                let command = shell_line(&request.qemu.program, &argv);
                Err(SmokeError::Run { command, source })
            }
        }
    }

    fn judge(&self, nonce: &str) -> Result<Judge, SmokeError> {
        let request = self.request;
        let cases = request.tests.iter().map(|test| {
            Case::new(test.plan, request.subject, self.way, request.today)
                .map_err(|problem| prepare::refused(test.plan, problem))
        });
        let rules = Rules {
            way: self.way,
            root_hash: request
                .subject
                .root_hash
                .filter(|_| self.way != ProbeWay::Outside),
            fallback: request.treatment.fallback,
            patience: request.patience,
            resets: request.treatment.resets,
        };
        Ok(Judge::new(cases.collect::<Result<_, _>>()?, rules, nonce))
    }
}

impl Logs {
    fn of_run(number: usize) -> Self {
        let name = |stem: &str, kind: &str| match number {
            0 => format!("{stem}.{kind}"),
            _ => format!("{stem}-{number}.{kind}"),
        };
        Self {
            serial: name("serial", "log"),
            qemu: name("qemu", "log"),
            screenshot: name("screen", "png"),
        }
    }
}

/// The verdict when the disk changed under the guest.
fn unless_changed(verdict: &Verdict, before: Digest, after: Digest) -> Verdict {
    match verdict {
        Verdict::Passed if after != before => Verdict::Failed {
            failure: baker_model::Failure::AssertionFailed,
            detail: format!("the disk changed during the test, its digest is now {after}"),
        },
        verdict => verdict.clone(),
    }
}

#[cfg(test)]
mod tests;
