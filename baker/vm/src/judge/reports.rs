//! What the probe says: taken when it was asked, refused when it was not.

use std::time::Duration;

use baker_contract::{Check, Order, Report};
use baker_model::Failure;

use super::boot::{Boot, Phase};
use super::case::{Case, Measures};
use super::{Asked, Judge, Wish};
use crate::evidence::milliseconds;
use crate::http::Window;

impl Judge {
    pub(super) fn report(&mut self, at: Duration, report: Report) {
        match report {
            Report::Hello { .. } => self.hello(at, &report),
            Report::Waiting {
                state, jobs, job, ..
            } => self.boot.progress.waiting(at, (state, jobs, job)),
            Report::Alarm => {
                self.boot.progress.step(at);
                self.boot.alarm = Some(at);
                self.alarmed(at);
            }
            Report::UnitFailed { unit, result } => {
                self.boot.progress.step(at);
                let since = self.boot.hint_before(at);
                for case in &mut self.cases {
                    case.unit_failed(at, since, &unit, Some(&result));
                }
                self.boot.failed_units.insert(unit, result);
            }
            Report::UnitSaid { unit, text } => {
                self.boot.progress.step(at);
                let boot = &self.boot;
                let asked = boot.doubtful.contains_key(&unit);
                if asked || boot.failed_units.contains_key(&unit) {
                    self.boot.last_words.insert(unit, text);
                }
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

    /// What PID 1 writes about a failed unit comes long before it answers questions about it.
    pub(super) fn alarmed(&mut self, at: Duration) {
        let Some((since, unit)) = self.boot.alarmed() else {
            return;
        };
        for case in &mut self.cases {
            case.unit_failed(at, since, unit, None);
        }
        // systemd may be starting it again, and then does not count it as failed.
        let unit = unit.to_owned();
        self.doubt(&unit, "restarting");
    }

    /// Asks a unit for its last words, unless the probe tells them by itself.
    fn doubt(&mut self, unit: &str, state: &'static str) {
        let boot = &mut self.boot;
        let asked = boot.doubtful.contains_key(unit) || boot.failed_units.contains_key(unit);
        if boot.hello.is_some() && !asked {
            boot.doubtful.insert(unit.to_owned(), state);
            let words = Order::Words { unit: unit.into() };
            self.wishes.push(Wish::Orders(vec![words]));
        }
    }

    /// Whoever says such a thing is not the probe that was asked.
    fn out_of_turn(&mut self, at: Duration, what: &str) {
        let detail = format!("the probe gave {what}, out of turn");
        self.suspect(at, Failure::AssertionFailed, &detail);
    }

    fn hello(&mut self, at: Duration, report: &Report) {
        let Report::Hello {
            root_hash,
            boot_id,
            uptime_ms,
            ..
        } = report
        else {
            return;
        };
        self.boot.progress.step(at);
        let known = |boot: &Boot| boot.boot_id().is_some_and(|id| id == boot_id);
        if self.boot.hello.is_some() || (!boot_id.is_empty() && self.past.iter().any(known)) {
            return self.out_of_turn(at, "a second hello");
        }
        // A quiet kernel says nothing of its start; its clock does.
        if let Some(start) = at.checked_sub(Duration::from_millis(*uptime_ms)) {
            self.boot.enter(start, Phase::Kernel);
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
                if let (Check::UnitActive { unit }, false) = (&check, holds) {
                    self.doubt(unit, "not active");
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
}
