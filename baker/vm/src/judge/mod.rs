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
//! names the verdict.

mod boot;
mod case;
mod console;
mod journal;
mod progress;
mod questions;
mod suspicion;

use std::time::Duration;

use baker_contract::{Check, Order, Report};
use baker_model::plan::{HttpCheck, ProbeWay};
use baker_model::{Digest, Failure, Verdict};

use crate::evidence::{Attempt, milliseconds};
use crate::http::Window;
use crate::patience::Patience;
use crate::qmp::{MachineEvent, ShutdownCause};
pub(crate) use boot::Phase;
use boot::{Boot, Stop};
pub(crate) use case::{Case, Ruling};
use case::{Markers, Measures};
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
    Http(&'a HttpCheck, Result<String, String>),
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
    requests: Vec<HttpCheck>,
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
        let mut requests: Vec<HttpCheck> = Vec::new();
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
            }
            Observation::Lost(how) => self.suspect(at, Failure::QemuDied, &how),
            Observation::Http(check, result) => {
                let result = result.as_ref().map(String::as_str).map_err(String::as_str);
                for case in &mut self.cases {
                    case.http_answered(at, check, result);
                }
            }
            Observation::Worked(work) => self.boot.progress.worked(work),
            Observation::Tick => {}
        }
        self.rule(at);
        self.is_over()
    }

    /// What is to be done now; each wish is told once.
    pub(crate) fn wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// The requests that [`Wish::Requests`] means.
    pub(crate) fn requests(&self) -> &[HttpCheck] {
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

    fn is_over(&self) -> bool {
        !self.cases.iter().any(Case::is_open)
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
        let next = Boot::new(self.boot.number + 1, stage, at, self.boot.progress.work());
        self.past.push(std::mem::replace(&mut self.boot, next));
        self.open();
    }

    fn report(&mut self, at: Duration, report: Report) {
        match report {
            Report::Hello { .. } => self.hello(at, &report),
            Report::Waiting {
                state, jobs, job, ..
            } => self.boot.progress.waiting(at, (state, jobs, job)),
            Report::UnitFailed { unit, result } => {
                self.boot.progress.step(at);
                let since = self.boot.hint_before(at);
                for case in &mut self.cases {
                    case.unit_failed(at, since, &unit, &result);
                }
                self.boot.failed_units.insert(unit, result);
            }
            Report::Finding { id, text } => {
                self.boot.progress.step(at);
                match self.asked.get(id as usize) {
                    Some(Asked::Check(Check::Journal)) => self.boot.entries.push(text),
                    _ => self.out_of_turn(at, &format!("a finding for question {id}")),
                }
            }
            Report::Check { id, holds, found } => {
                self.boot.progress.step(at);
                self.check(at, id, holds, &found);
            }
            Report::Done { .. } => self.done(at, &report),
            Report::Unknown(_) => self.boot.progress.step(at),
        }
    }

    /// Whoever says such a thing is not the probe that was asked.
    fn out_of_turn(&mut self, at: Duration, what: &str) {
        let detail = format!("the probe gave {what}, out of turn");
        self.suspect(at, Failure::AssertionFailed, &detail);
    }

    fn hello(&mut self, at: Duration, report: &Report) {
        let Report::Hello {
            root_hash, boot_id, ..
        } = report
        else {
            return;
        };
        self.boot.progress.step(at);
        let known = |boot: &Boot| boot.boot_id().is_some_and(|id| id == boot_id);
        if self.boot.hello.is_some() || (!boot_id.is_empty() && self.past.iter().any(known)) {
            return self.out_of_turn(at, "a second hello");
        }
        self.boot.enter(at, Phase::Probe);
        self.compare_root(at, root_hash);
        self.boot.hello = Some(report.clone());
    }

    fn check(&mut self, at: Duration, id: Option<u32>, holds: bool, found: &str) {
        let asked = id.and_then(|id| Some((id, self.asked.get(id as usize)?.clone())));
        let Some((id, asked)) = asked else {
            let answer = format!("an answer to a question that was not asked ({found})");
            return self.out_of_turn(at, &answer);
        };
        if self.boot.hello.is_none() {
            return self.out_of_turn(at, "an answer before its hello");
        }
        let answer = (holds, found.to_owned());
        if let Some(before) = self.boot.answered.insert(id, answer.clone()) {
            if before != answer {
                self.out_of_turn(at, &format!("two different answers to question {id}"));
            }
            return;
        }
        match (asked, self.boot.is_done()) {
            (Asked::Check(check), false) => {
                for case in &mut self.cases {
                    case.check_answered(at, &check, (holds, found), &self.boot.entries);
                }
            }
            (Asked::Mark(folder), true) if self.boot.marks_asked => {
                for case in &mut self.cases {
                    case.mark_answered(at, &folder, holds, found);
                }
            }
            _ => self.out_of_turn(at, &format!("an answer to question {id}")),
        }
    }

    fn done(&mut self, at: Duration, report: &Report) {
        let Report::Done {
            state,
            root_hash,
            memory_kib,
            ..
        } = report
        else {
            return;
        };
        self.boot.progress.step(at);
        if self.boot.is_done() {
            return self.out_of_turn(at, "a second done");
        }
        if self.boot.hello.is_none() {
            self.out_of_turn(at, "its done before its hello");
        }
        self.boot.enter(at, Phase::Done);
        self.boot.done = Some(report.clone());
        self.compare_root(at, root_hash);
        if self.strangers > 0 {
            let detail = format!(
                "{} lines on the probe's port did not carry this run's nonce",
                self.strangers
            );
            self.suspect(at, Failure::AssertionFailed, &detail);
        }
        let measures = Measures {
            host_ms: milliseconds(at),
            memory_kib: *memory_kib,
        };
        let units: Vec<&str> = self.boot.failed_units.keys().map(String::as_str).collect();
        for case in &mut self.cases {
            let excused = state == "degraded" && case.excuses(units.iter().copied());
            if state != "running" && !excused {
                case.suspect(at, Failure::UnitFailed, &format!("systemd says {state}"));
            }
            case.inside_over(at, measures);
        }
        // The probe has said all: what is wrong is known now.
        if self.resets_left() == 0 {
            self.sentence_all(at);
        }
        if self.cases.iter().any(Case::is_open) {
            let patience = self.rules.patience.outside;
            let (any, right) = (patience, patience);
            self.wishes.push(Wish::Requests(Window { any, right }));
        }
    }

    fn compare_root(&mut self, at: Duration, found: &str) {
        let Some(expected) = self.rules.root_hash.map(|hash| hash.to_string()) else {
            return;
        };
        let fallback = self.rules.fallback.map(|hash| hash.to_string());
        if found == expected || fallback.is_some_and(|hash| hash == found) {
            return;
        }
        let found = if found.is_empty() {
            "no verity device"
        } else {
            found
        };
        let detail = format!("the running root is {found}, expected {expected}");
        self.suspect(at, Failure::AssertionFailed, &detail);
    }

    /// The verdict of every plan that has a suspicion, at once.
    fn sentence_all(&mut self, at: Duration) {
        let units: Vec<&str> = self.boot.failed_units.keys().map(String::as_str).collect();
        for case in &mut self.cases {
            case.sentence(at, &units);
        }
    }

    /// The verdicts that time and the last observation bring.
    fn rule(&mut self, at: Duration) {
        let may_reset = self.resets_left() > 0;
        let patience = &self.rules.patience;
        let units: Vec<&str> = self.boot.failed_units.keys().map(String::as_str).collect();
        for case in &mut self.cases {
            case.time(at);
            let ripe = case.suspicion().is_some_and(|first| match may_reset {
                false => first.is_settled(at),
                true => at >= first.since + patience.reset,
            });
            if ripe {
                case.sentence(at, &units);
            }
        }
        if self.rules.way == ProbeWay::Outside {
            self.pass_outside(at);
        } else if let Some(done) = self.boot.phases.get(&Phase::Done) {
            let patience = self.rules.patience.outside;
            if at >= *done + patience {
                for case in &mut self.cases {
                    case.console_over(at, patience);
                }
            }
            self.pass_or_restart(at);
        }
        self.end_of_patience(at);
    }

    fn pass_outside(&mut self, at: Duration) {
        let host_ms = milliseconds(at);
        for case in self.cases.iter_mut().filter(|case| case.is_open()) {
            let waits = case.waits_outside();
            if !waits && case.suspicion().is_none() {
                let memory_kib = 0;
                case.measured(
                    at,
                    Measures {
                        host_ms,
                        memory_kib,
                    },
                );
                if case.holds(Markers::Asked) {
                    case.rule(at, at, Verdict::Passed);
                }
            }
        }
    }

    fn pass_or_restart(&mut self, at: Duration) {
        let last = self.boot.stage == Stage::Second || !self.cases.iter().any(Case::restarts);
        if last {
            for case in &mut self.cases {
                if case.holds(Markers::Asked) {
                    case.rule(at, at, Verdict::Passed);
                }
            }
            return;
        }
        let markers = if self.boot.marks_asked {
            Markers::Asked
        } else {
            Markers::Later
        };
        let mut open = self.cases.iter().filter(|case| case.is_open()).peekable();
        if self.boot.restart_ordered
            || open.peek().is_none()
            || !open.all(|case| case.holds(markers))
        {
            return;
        }
        let marks: Vec<Order> = (0..)
            .zip(&self.asked)
            .filter_map(|(id, asked)| match asked {
                Asked::Mark(folder) => Some(Order::Mark {
                    id,
                    folder: folder.clone(),
                }),
                Asked::Check(_) => None,
            })
            .collect();
        if self.boot.marks_asked || marks.is_empty() {
            self.boot.restart_ordered = true;
            self.boot.progress.step(at);
            self.wishes.push(Wish::Orders(vec![Order::Restart]));
        } else {
            self.boot.marks_asked = true;
            self.boot.progress.step(at);
            self.wishes.push(Wish::Orders(marks));
        }
    }

    /// Gives up on a guest that gets nowhere.
    fn end_of_patience(&mut self, at: Duration) {
        let Some(Stop {
            failure,
            event,
            detail,
        }) = self.boot.end_of_patience(at, &self.rules.patience)
        else {
            return;
        };
        let way = self.rules.way;
        let strangers = self.strangers;
        for case in self.cases.iter_mut().filter(|case| case.is_open()) {
            // A server may stay silent on the console: its answers are waited for to the end.
            let served = failure != Failure::TimedOut || at < self.rules.patience.total;
            if case.suspicion().is_some() || (served && case.waits_for_requests_only()) {
                continue;
            }
            let mut detail = detail.clone();
            if way == ProbeWay::Disk && self.boot.hello.is_none() {
                detail.push_str(
                    "; the probe on its own disk never spoke: the image may not take system \
                     credentials (systemd before 256, or another init)",
                );
            }
            if way == ProbeWay::Outside || self.boot.is_done() {
                detail.push_str(&format!("; still missing: {}", case.missing().join(", ")));
            }
            if strangers > 0 {
                detail.push_str(&format!("; {strangers} lines without this run's nonce"));
            }
            case.rule(event, at, Verdict::Failed { failure, detail });
        }
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
