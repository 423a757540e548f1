//! The verdict as a state machine: takes what was observed and when, gives the answer once.
//!
//! Pure: it reads no clock, opens no socket. A pass needs every one of these: the probe said
//! hello and done with this run's nonce, the root hash was the image's both times, systemd says
//! `running`, no unit failed, every planned unit was answered for, every HTTP check holds, and the
//! console shows no failure. Whatever else ends the run is one named failure.
//!
//! A failure often shows in several ways: a corrupt block, then a failed mount, then a panic, then
//! a reset. So the first sign opens a short time of settling, and the sign nearest to the cause
//! names the verdict.

mod console;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use baker_contract::Report;
use baker_model::{Digest, Failure, Verdict};

use crate::patience::Patience;
use crate::qmp::{MachineEvent, ShutdownCause};
use console::Meaning;

/// Time between the first sign of a failure and the verdict.
const SETTLING: Duration = Duration::from_millis(600);

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation<'a> {
    /// A line of the console, without escape sequences.
    Console(&'a str),
    /// A line of the probe that carries this run's nonce.
    Report(Report),
    /// A line on the probe's port that does not.
    Stranger,
    /// An event of QEMU.
    Machine(MachineEvent),
    /// QEMU ended; how, in words.
    Exited(String),
    /// QEMU lives but cannot be spoken to; how, in words.
    Lost(String),
    /// An HTTP check of the plan, by its place there: fine, or what was wrong.
    Http(usize, Result<(), String>),
    /// Nothing, but time has passed.
    Tick,
}

/// What must be true of a guest that passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// dm-verity root hash of the image.
    pub root_hash: Digest,
    /// Units that must be active.
    pub units: Vec<String>,
    /// Number of HTTP checks in the plan.
    pub http: usize,
}

/// What the guest was last known to be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Firmware, from the start.
    Firmware,
    /// Boot loader or UEFI stub.
    Loader,
    /// The kernel.
    Kernel,
    /// `/init` of the initramfs.
    Init,
    /// systemd, from the hand-over by `/init`.
    Userspace,
    /// The probe runs.
    Probe,
    /// The system has settled and the probe has said all.
    Done,
}

impl Phase {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Loader => "loader",
            Self::Kernel => "kernel",
            Self::Init => "init",
            Self::Userspace => "userspace",
            Self::Probe => "probe",
            Self::Done => "done",
        }
    }
}

/// The state of one run.
#[derive(Debug)]
pub struct Judge {
    expectation: Expectation,
    patience: Patience,
    suspicion: Option<Suspicion>,
    phases: BTreeMap<Phase, Duration>,
    last_sign: Option<Duration>,
    last_line: String,
    state: String,
    failed_units: BTreeMap<String, String>,
    unit_hint: Option<String>,
    held: BTreeSet<u32>,
    http_held: BTreeSet<usize>,
    strangers: u32,
    flake: Option<&'static str>,
}

#[derive(Debug)]
struct Suspicion {
    since: Duration,
    failure: Failure,
    detail: String,
}

/// The nearer to the cause, the larger.
fn weight(failure: Failure) -> u8 {
    match failure {
        Failure::VerityCorruption => 9,
        Failure::InitFailed => 8,
        Failure::KernelPanic => 7,
        Failure::KernelOops => 6,
        Failure::UnitFailed => 5,
        Failure::AssertionFailed | Failure::BudgetExceeded => 4,
        Failure::LoaderFailed => 3,
        Failure::FirmwareRefused => 2,
        Failure::GuestReset | Failure::GuestSilent => 1,
        Failure::QemuDied | Failure::TimedOut => 0,
    }
}

impl Judge {
    /// A run that starts now (all times count from here).
    #[must_use]
    pub fn new(expectation: Expectation, patience: Patience) -> Self {
        Self {
            expectation,
            patience,
            suspicion: None,
            phases: BTreeMap::from([(Phase::Firmware, Duration::ZERO)]),
            last_sign: None,
            last_line: String::new(),
            state: String::new(),
            failed_units: BTreeMap::new(),
            unit_hint: None,
            held: BTreeSet::new(),
            http_held: BTreeSet::new(),
            strangers: 0,
            flake: None,
        }
    }

    /// Takes what was seen `at` this time since the start; gives the verdict when there is one.
    pub fn observe(&mut self, at: Duration, observation: Observation<'_>) -> Option<Verdict> {
        match observation {
            Observation::Console(line) => self.console(at, line),
            Observation::Report(report) => {
                self.last_sign = Some(at);
                return self.report(at, report).or_else(|| self.settled(at));
            }
            Observation::Stranger => self.strangers += 1,
            Observation::Machine(event) => self.machine(at, event),
            Observation::Exited(how) => {
                // Says more than the lines that closed with it.
                self.suspicion
                    .take_if(|first| first.failure == Failure::QemuDied);
                self.suspect(at, Failure::QemuDied, how);
                return self.sentence();
            }
            Observation::Lost(how) => self.suspect(at, Failure::QemuDied, how),
            Observation::Http(index, Ok(())) => {
                self.http_held.insert(index);
                return self.pass_if_complete();
            }
            Observation::Http(_, Err(problem)) => {
                self.suspect(at, Failure::AssertionFailed, problem);
            }
            Observation::Tick => {}
        }
        self.settled(at)
    }

    /// When each phase was first seen.
    #[must_use]
    pub fn phases(&self) -> &BTreeMap<Phase, Duration> {
        &self.phases
    }

    /// The fault of the host that showed on the console, if one did: worth a second run.
    #[must_use]
    pub fn flake(&self) -> Option<&'static str> {
        self.flake
    }

    fn enter(&mut self, at: Duration, phase: Phase) {
        self.phases.entry(phase).or_insert(at);
    }

    fn suspect(&mut self, at: Duration, failure: Failure, detail: String) {
        match &mut self.suspicion {
            None => {
                self.suspicion = Some(Suspicion {
                    since: at,
                    failure,
                    detail,
                })
            }
            Some(first) if weight(failure) > weight(first.failure) => {
                first.failure = failure;
                first.detail = detail;
            }
            Some(_) => {}
        }
    }

    fn console(&mut self, at: Duration, line: &str) {
        if line.is_empty() {
            return;
        }
        self.last_sign = Some(at);
        line.clone_into(&mut self.last_line);
        let booting = !self.phases.contains_key(&Phase::Kernel);
        match console::meaning(line, booting) {
            Meaning::Failure(failure) => {
                let hint = self
                    .unit_hint
                    .clone()
                    .filter(|_| failure == Failure::UnitFailed);
                self.suspect(at, failure, hint.unwrap_or_else(|| line.trim().to_owned()));
            }
            Meaning::InitFailed(failure, detail) => self.suspect(at, failure, detail),
            Meaning::UnitHint => self.unit_hint = Some(line.trim().to_owned()),
            Meaning::Flake(cause) => {
                self.flake = Some(cause);
                self.suspect(at, Failure::KernelPanic, line.trim().to_owned());
            }
            Meaning::Loader => self.enter(at, Phase::Loader),
            Meaning::Kernel => self.enter(at, Phase::Kernel),
            Meaning::InitStarted => self.enter(at, Phase::Init),
            Meaning::Handover => self.enter(at, Phase::Userspace),
            Meaning::Nothing => {}
        }
    }

    fn machine(&mut self, at: Duration, event: MachineEvent) {
        let (failure, detail) = match event {
            MachineEvent::Reset | MachineEvent::Shutdown(ShutdownCause::GuestReset) => (
                Failure::GuestReset,
                "the guest restarted before it gave its sign",
            ),
            MachineEvent::Panicked | MachineEvent::Shutdown(ShutdownCause::GuestPanic) => (
                Failure::KernelPanic,
                "the guest told its panic device that it is lost",
            ),
            MachineEvent::Shutdown(ShutdownCause::Guest) => (
                Failure::GuestSilent,
                "the guest powered off before it gave its sign",
            ),
            // What follows says more: QEMU's exit, or the answer why it stopped the guest.
            MachineEvent::Shutdown(ShutdownCause::Host) | MachineEvent::Stopped => return,
        };
        self.suspect(at, failure, detail.to_owned());
    }

    fn report(&mut self, at: Duration, report: Report) -> Option<Verdict> {
        match report {
            Report::Hello { root_hash, .. } => {
                self.enter(at, Phase::Probe);
                self.compare_root(at, &root_hash);
            }
            Report::Waiting { state, jobs, .. } => self.state = format!("{state}, {jobs} jobs"),
            Report::UnitFailed { unit, result } => {
                self.suspect(at, Failure::UnitFailed, format!("{unit} failed ({result})"));
                self.failed_units.insert(unit, result);
            }
            Report::Check {
                id: Some(id),
                holds: true,
                ..
            } => drop(self.held.insert(id)),
            Report::Check { id, found, .. } => {
                let unit = id.and_then(|id| self.expectation.units.get(id as usize));
                let (failure, what) = match unit {
                    Some(unit) => (Failure::UnitFailed, format!("unit-active {unit}")),
                    None => (Failure::AssertionFailed, "an unknown check".to_owned()),
                };
                self.suspect(at, failure, format!("{what}: found {found}"));
            }
            Report::Finding { .. } => {}
            Report::Done {
                state, root_hash, ..
            } => {
                self.done(at, &state, &root_hash);
                // The probe has said all: what is wrong is known now.
                return self.sentence().or_else(|| self.pass_if_complete());
            }
            Report::Unknown(_) => {}
        }
        None
    }

    fn done(&mut self, at: Duration, state: &str, root_hash: &str) {
        if !self.phases.contains_key(&Phase::Probe) {
            let detail = "the probe said done before hello".to_owned();
            self.suspect(at, Failure::AssertionFailed, detail);
        }
        self.enter(at, Phase::Done);
        self.compare_root(at, root_hash);
        if state != "running" {
            self.suspect(at, Failure::UnitFailed, format!("systemd says {state}"));
        }
        for (id, unit) in (0..).zip(self.expectation.units.clone()) {
            if !self.held.contains(&id) {
                let detail = format!("the probe did not say that {unit} is active");
                self.suspect(at, Failure::UnitFailed, detail);
            }
        }
    }

    fn compare_root(&mut self, at: Duration, found: &str) {
        let expected = self.expectation.root_hash.to_string();
        if found == expected {
            return;
        }
        let found = if found.is_empty() {
            "no verity device"
        } else {
            found
        };
        let detail = format!("the running root is {found}, expected {expected}");
        self.suspect(at, Failure::AssertionFailed, detail);
    }

    fn pass_if_complete(&self) -> Option<Verdict> {
        let complete = self.suspicion.is_none()
            && self.phases.contains_key(&Phase::Done)
            && self.http_held.len() == self.expectation.http;
        complete.then_some(Verdict::Passed)
    }

    /// The verdict of the suspicion at hand, at once.
    fn sentence(&self) -> Option<Verdict> {
        let suspicion = self.suspicion.as_ref()?;
        let mut detail = suspicion.detail.clone();
        if suspicion.failure == Failure::UnitFailed && self.failed_units.len() > 1 {
            let units: Vec<_> = self.failed_units.keys().map(String::as_str).collect();
            detail = format!("{detail}; failed units: {}", units.join(", "));
        }
        Some(Verdict::Failed {
            failure: suspicion.failure,
            detail,
        })
    }

    /// The verdict that time brings.
    fn settled(&self, at: Duration) -> Option<Verdict> {
        if let Some(suspicion) = &self.suspicion {
            return (at >= suspicion.since + SETTLING)
                .then(|| self.sentence())
                .flatten();
        }
        let (since, allowed) = match self.last_sign {
            Some(last) => (last, self.patience.silence),
            None => (Duration::ZERO, self.patience.first_sign),
        };
        let waiting_for_host = self.phases.contains_key(&Phase::Done);
        if !waiting_for_host && at.saturating_sub(since) >= allowed {
            return Some(self.end_of_patience(Failure::GuestSilent, since, at));
        }
        (at >= self.patience.total)
            .then(|| self.end_of_patience(Failure::TimedOut, Duration::ZERO, at))
    }

    fn end_of_patience(&self, failure: Failure, since: Duration, at: Duration) -> Verdict {
        let seconds = at.saturating_sub(since).as_secs();
        let phase = self
            .phases
            .keys()
            .next_back()
            .map_or("firmware", |phase| phase.name());
        let mut detail = match failure {
            Failure::GuestSilent => format!("no sign of life for {seconds} s in {phase}"),
            _ => format!("no verdict after {seconds} s, in {phase}"),
        };
        if !self.state.is_empty() {
            detail.push_str(&format!("; systemd says {}", self.state));
        }
        if self.strangers > 0 {
            detail.push_str(&format!(
                "; {} lines without this run's nonce",
                self.strangers
            ));
        }
        if let Some(hint) = &self.unit_hint {
            detail.push_str(&format!("; {hint}"));
        }
        if !self.last_line.is_empty() {
            detail.push_str(&format!("; last console line: {}", self.last_line.trim()));
        }
        Verdict::Failed { failure, detail }
    }
}

/// The kernel's complaint on a console line, if it is one that no healthy guest prints.
pub(crate) fn kernel_problem(line: &str) -> Option<Failure> {
    match console::meaning(line, false) {
        Meaning::Failure(failure) => Some(failure),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
