//! The verdict as a state machine: takes what was observed and when, gives the answer once.
//!
//! Pure: it reads no clock, opens no socket. A pass needs every one of these: the probe said
//! hello and done once with this run's nonce, the root hash was the image's both times, systemd
//! says `running` (or is degraded by excused units only), no other unit failed, every item of the
//! plan was answered and holds, nobody spoke out of turn on the probe's port, and the console
//! shows no failure. Judged from outside, every item must hold and there must be one. Whatever
//! else ends the run is one named failure.
//!
//! A failure often shows in several ways: a corrupt block, then a failed mount, then a panic, then
//! a reset. So the first sign opens a short time of settling, and the sign nearest to the cause
//! names the verdict. A verdict never changes; answers that come right after it still reach the
//! report.

mod boot;
mod case;
mod console;
mod journal;
mod progress;
mod questions;
mod reports;
mod ruling;
mod suspicion;

use std::time::Duration;

use baker_contract::{Check, Order, Report};
use baker_model::plan::ProbeWay;
use baker_model::{Digest, Failure, Verdict};

use crate::evidence::{Attempt, milliseconds};
use crate::http::Window;
use crate::outside::Outside;
use crate::patience::Patience;
use crate::qmp::{MachineEvent, ShutdownCause};
use boot::Boot;
pub(crate) use boot::Phase;
pub(crate) use case::{Case, Ruling};

use console::Meaning;
use questions::Stage;

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation<'a> {
    /// A line of the console, without escape sequences.
    Console(&'a str),
    /// The beginning of a line that is not over yet: a prompt.
    Prompt(&'a str),
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
    /// The result of a request from outside: what was found, or what was wrong.
    Outside(&'a Outside, Result<String, String>),
    /// CPU time that the guest's CPUs have wanted so far.
    Worked(Duration),
    /// Nothing, but time has passed.
    Tick,
}

/// Something that the judge wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Lines for the probe.
    Orders(Vec<Order>),
    /// The requests from outside, from now on.
    Requests(Window),
}

/// What holds for all plans of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// How the probe gets in; never `auto`.
    pub way: ProbeWay,
    /// dm-verity root hash that the guest must show.
    pub root_hash: Option<Digest>,
    /// Another one that will do: of the version that a boot loader falls back to.
    pub fallback: Option<Digest>,
    /// How long to wait.
    pub patience: Patience,
    /// Resets that the guest may make by itself; each voids what was seen before it.
    pub resets: u32,
}

/// The state of one run.
#[derive(Debug)]
pub(crate) struct Judge {
    rules: Rules,
    nonce: String,
    cases: Vec<Case>,
    /// Every question and marker; its place is its id on the wire.
    asked: Vec<Asked>,
    requests: Vec<Outside>,
    boot: Boot,
    past: Vec<Boot>,
    attempts: Vec<Attempt>,
    flake: Option<&'static str>,
    strangers: u32,
    wishes: Vec<Wish>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Check(Check),
    Mark(String),
}

impl Judge {
    /// A run that starts now (all times count from here).
    pub(crate) fn new(cases: Vec<Case>, rules: Rules, nonce: &str) -> Self {
        let mut asked: Vec<Asked> = Vec::new();
        let mut requests: Vec<Outside> = Vec::new();
        for case in &cases {
            let checks = [Stage::First, Stage::Second]
                .into_iter()
                .flat_map(|s| case.checks(s));
            let marks = case.marks().map(|folder| Asked::Mark(folder.to_owned()));
            for question in checks.map(Asked::Check).chain(marks) {
                if !asked.contains(&question) {
                    asked.push(question);
                }
            }
            for request in case.requests() {
                if !requests.contains(request) {
                    requests.push(request.clone());
                }
            }
        }
        let mut judge = Self {
            rules,
            nonce: nonce.to_owned(),
            cases,
            asked,
            requests,
            boot: Boot::new(1, Stage::First, Duration::ZERO, None),
            past: Vec::new(),
            attempts: Vec::new(),
            flake: None,
            strangers: 0,
            wishes: Vec::new(),
        };
        judge.open();
        judge
    }

    /// Takes what was seen `at` this time since the start; true when every plan has its verdict.
    pub(crate) fn observe(&mut self, at: Duration, observation: Observation<'_>) -> bool {
        match observation {
            Observation::Console(line) => self.console(at, line),
            Observation::Prompt(text) => self.prompt(at, text),
            Observation::Report(report) => self.report(at, report),
            Observation::Stranger => self.strangers += 1,
            Observation::Machine(event) => self.machine(at, event),
            Observation::Exited(how) => {
                for case in &mut self.cases {
                    case.qemu_ended(at, &how);
                }
                self.sentence_all(at);
                self.boot_over();
            }
            Observation::Lost(how) => self.suspect(at, Failure::QemuDied, &how),
            Observation::Outside(check, result) => {
                let result = result.as_ref().map(String::as_str).map_err(String::as_str);
                for case in &mut self.cases {
                    case.outside_answered(at, check, result);
                }
            }
            Observation::Worked(work) => self.boot.progress.worked(work),
            Observation::Tick => {}
        }
        self.rule(at);
        self.is_over(at)
    }

    /// What is to be done now; each wish is told once.
    pub(crate) fn wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// The requests that [`Wish::Requests`] means.
    pub(crate) fn requests(&self) -> &[Outside] {
        &self.requests
    }

    /// The boots so far, the last one being the present.
    pub(crate) fn boots(&self) -> impl Iterator<Item = &Boot> {
        self.past.iter().chain([&self.boot])
    }

    /// Boots that ended in a reset which the guest was allowed.
    pub(crate) fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The plans, in the order given.
    pub(crate) fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// Number of lines on the probe's port that did not carry the nonce.
    pub(crate) fn strangers(&self) -> u32 {
        self.strangers
    }

    /// The fault of the host that showed on the console, if one did: worth a second run.
    pub(crate) fn flake(&self) -> Option<&'static str> {
        self.flake
    }

    /// Every plan has its verdict, and nobody is saying more about a failed one.
    fn is_over(&self, at: Duration) -> bool {
        let words = self.boot.owes_words();
        let gathers = |case: &Case| {
            (!self.boot.is_done() && case.gathers(at)) || (words && case.awaits_words(at))
        };
        !self
            .cases
            .iter()
            .any(|case| case.is_open() || gathers(case))
    }

    fn boot_over(&mut self) {
        for case in self.cases.iter_mut().filter(|case| !case.is_open()) {
            case.boot_over();
        }
    }

    /// The orders and requests that a boot begins with.
    fn open(&mut self) {
        if self.rules.way == ProbeWay::Outside {
            let patience = &self.rules.patience;
            let (any, right) = (patience.total, patience.outside);
            self.wishes.push(Wish::Requests(Window { any, right }));
            return;
        }
        let begin = Order::Begin {
            nonce: self.nonce.clone(),
        };
        let stage = self.boot.stage;
        let wanted: Vec<Check> = self
            .cases
            .iter()
            .flat_map(|case| case.checks(stage))
            .collect();
        let checks = (0..)
            .zip(&self.asked)
            .filter_map(|(id, asked)| match asked {
                Asked::Check(check) if wanted.contains(check) => {
                    let check = check.clone();
                    Some(Order::Check { id, check })
                }
                _ => None,
            });
        let orders = std::iter::once(begin).chain(checks).chain([Order::End]);
        self.wishes.push(Wish::Orders(orders.collect()));
    }

    fn suspect(&mut self, at: Duration, failure: Failure, detail: &str) {
        for case in &mut self.cases {
            case.suspect(at, failure, detail);
        }
    }

    fn console(&mut self, at: Duration, line: &str) {
        if line.is_empty() {
            return;
        }
        self.boot.progress.line(at, line);
        for case in &mut self.cases {
            case.console_said(at, line);
        }
        let booting = !self.boot.has(Phase::Kernel);
        match console::meaning(line, booting) {
            Meaning::Failure(failure) => {
                let hint = self.boot.unit_hint.as_ref();
                let hint = hint.filter(|_| failure == Failure::UnitFailed);
                let mut detail = hint
                    .map_or(line.trim(), |(_, text)| text.as_str())
                    .to_owned();
                if let Some(cause) = &self.boot.cause {
                    detail.push_str(&format!("; before it: {cause}"));
                }
                self.suspect(at, failure, &detail);
            }
            Meaning::Cause => self.boot.cause = Some(console::without_time(line).to_owned()),
            Meaning::InitFailed(failure, detail) => self.suspect(at, failure, &detail),
            Meaning::UnitHint => {
                self.boot.unit_hint = Some((at, line.trim().to_owned()));
                self.alarmed(at);
                if self.boot.hello.is_some() && !self.boot.is_done() {
                    self.wishes.push(Wish::Orders(vec![Order::Look]));
                }
            }
            Meaning::Flake(cause) => {
                self.flake = Some(cause);
                self.suspect(at, Failure::KernelPanic, line.trim());
            }
            Meaning::Loader => self.boot.enter(at, Phase::Loader),
            Meaning::Kernel => self.boot.enter(at, Phase::Kernel),
            Meaning::InitStarted => self.boot.enter(at, Phase::Init),
            Meaning::Handover => self.boot.enter(at, Phase::Userspace),
            Meaning::Nothing => {}
        }
    }

    /// A prompt is an answer to what the console must show, and a sign of life.
    fn prompt(&mut self, at: Duration, text: &str) {
        self.boot.progress.line(at, text);
        for case in &mut self.cases {
            case.console_said(at, text);
        }
    }

    fn machine(&mut self, at: Duration, event: MachineEvent) {
        let (failure, detail) = match event {
            MachineEvent::Reset if self.boot.firmware_resets_too(at) => return,
            MachineEvent::Reset if self.boot.restart_ordered => return self.restart(at),
            MachineEvent::Reset if self.resets_left() > 0 => return self.begin_again(at),
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
        self.suspect(at, failure, detail);
    }

    fn resets_left(&self) -> u32 {
        let made = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        self.rules.resets.saturating_sub(made)
    }

    /// The restart that was ordered.
    fn restart(&mut self, at: Duration) {
        for case in self.cases.iter_mut().filter(|case| case.is_open()) {
            case.restarted(self.boot.number);
        }
        self.next_boot(at, Stage::Second);
    }

    /// A reset that the guest may make: it ends an attempt, and what was seen is void.
    fn begin_again(&mut self, at: Duration) {
        let signs: Vec<_> = self
            .cases
            .iter_mut()
            .filter_map(Case::begin_again)
            .collect();
        let verdict = match signs.into_iter().next() {
            Some(first) => Verdict::Failed {
                failure: first.failure,
                detail: first.detail,
            },
            None => Verdict::Failed {
                failure: Failure::GuestReset,
                detail: "the guest restarted before it gave its sign".to_owned(),
            },
        };
        self.attempts.push(Attempt {
            boot: self.boot.number,
            verdict,
            milliseconds: milliseconds(at),
        });
        self.next_boot(at, self.boot.stage);
    }

    fn next_boot(&mut self, at: Duration, stage: Stage) {
        self.boot_over();
        let next = Boot::new(self.boot.number + 1, stage, at, self.boot.progress.work());
        self.past.push(std::mem::replace(&mut self.boot, next));
        self.open();
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
