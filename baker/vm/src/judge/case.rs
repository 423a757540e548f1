//! The judgement of one plan: its items, their answers, and its verdict.
//!
//! Several plans can share a boot. What befalls the guest befalls all of them; an answer counts
//! only for the plans that asked.

use std::collections::BTreeSet;
use std::time::Duration;

use baker_contract::Check;
use baker_model::plan::{Day, JournalCheck, ProbeWay, TestPlan};
use baker_model::{Failure, Verdict};

use super::journal;
use super::questions::{Item, Source, Stage, items};
use super::suspicion::{SETTLING, Suspicion};
use crate::evidence::CheckFact;
use crate::outside::Outside;
use crate::subject::{PlanProblem, Subject};

/// After a verdict about the inside the other answers are still taken while they keep coming, no
/// longer than this: a person wants to see all that is wrong.
const GATHERING: Duration = Duration::from_secs(5);

/// After a verdict about a unit its last words are waited for, no longer than this: an emulated
/// guest answers only when it has started all else, and may take seconds to read its journal.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// One plan before the judge.
#[derive(Debug)]
pub(crate) struct Case {
    first: Vec<Item>,
    second: Option<Vec<Item>>,
    may_fail: BTreeSet<String>,
    journal: JournalCheck,
    today: Day,
    stage: Stage,
    answers: Vec<Option<Answer>>,
    /// Facts of the boot before the restart.
    facts: Vec<CheckFact>,
    suspicion: Option<Suspicion>,
    ruling: Option<Ruling>,
    /// When the probe last answered a question in the present boot.
    last_answer: Option<Duration>,
    /// The boot that the verdict is about has ended.
    boot_over: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    holds: bool,
    found: String,
}

/// A verdict, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruling {
    /// The verdict.
    pub verdict: Verdict,
    /// When the event that decided was seen.
    pub event: Duration,
    /// When the verdict fell.
    pub at: Duration,
}

/// What the probe's last word brings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measures {
    /// Milliseconds from QEMU's start.
    pub host_ms: u64,
    /// Memory in use.
    pub memory_kib: u64,
}

impl Case {
    /// A plan for this image.
    ///
    /// # Errors
    /// The plan cannot be answered for this image.
    pub(crate) fn new(
        plan: &TestPlan,
        subject: &Subject,
        way: ProbeWay,
        today: Day,
    ) -> Result<Self, PlanProblem> {
        let first = items(plan, subject, way, Stage::First)?;
        let second = match plan.reboot {
            Some(_) => Some(items(plan, subject, way, Stage::Second)?),
            None => None,
        };
        Ok(Self {
            answers: vec![None; first.len()],
            first,
            second,
            may_fail: plan.units_may_fail.iter().cloned().collect(),
            journal: plan.journal.clone().unwrap_or_default(),
            today,
            stage: Stage::First,
            facts: Vec::new(),
            suspicion: None,
            ruling: None,
            last_answer: None,
            boot_over: false,
        })
    }

    /// The questions to the probe in this stage.
    pub(crate) fn checks(&self, stage: Stage) -> impl Iterator<Item = Check> {
        let items = match stage {
            Stage::First => Some(&self.first),
            Stage::Second => self.second.as_ref(),
        };
        items.into_iter().flatten().filter_map(Item::check)
    }

    /// Folders that get a marker before the restart.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &str> {
        self.first.iter().filter_map(|item| match &item.source {
            Source::Mark { folder } => Some(folder.as_str()),
            _ => None,
        })
    }

    /// The requests from outside.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &Outside> {
        self.first.iter().filter_map(|item| match &item.source {
            Source::Outside(check) => Some(check),
            _ => None,
        })
    }

    /// True when there is no verdict yet.
    pub(crate) fn is_open(&self) -> bool {
        self.ruling.is_none()
    }

    /// True while answers are worth waiting for that change no verdict.
    pub(crate) fn gathers(&self, at: Duration) -> bool {
        let (Some(ruling), Some(answer)) = (&self.ruling, self.last_answer) else {
            return false;
        };
        let inside = [
            Failure::UnitFailed,
            Failure::AssertionFailed,
            Failure::BudgetExceeded,
        ];
        let Verdict::Failed { failure, .. } = &ruling.verdict else {
            return false;
        };
        inside.contains(failure)
            && at < answer + SETTLING
            && at < ruling.at + GATHERING
            && self.answers.contains(&None)
    }

    /// True while the last words of a failed unit are worth waiting for.
    pub(crate) fn awaits_words(&self, at: Duration) -> bool {
        let unit_failed = |ruling: &Ruling| {
            let failure = Failure::UnitFailed;
            matches!(&ruling.verdict, Verdict::Failed { failure: it, .. } if *it == failure)
        };
        let ruling = self.ruling.as_ref().filter(|_| !self.boot_over);
        ruling.is_some_and(|ruling| unit_failed(ruling) && at < ruling.at + LAST_WORDS)
    }

    /// The boot that the verdict is about is over: later answers belong to another.
    pub(crate) fn boot_over(&mut self) {
        self.boot_over = true;
        self.last_answer = None;
    }

    /// The verdict, if there is one.
    pub(crate) fn ruling(&self) -> Option<&Ruling> {
        self.ruling.as_ref()
    }

    /// What seems to be wrong.
    pub(crate) fn suspicion(&self) -> Option<&Suspicion> {
        self.suspicion.as_ref()
    }

    /// A sign of a failure.
    pub(crate) fn suspect(&mut self, at: Duration, failure: Failure, detail: &str) {
        if self.is_open() {
            Suspicion::add(&mut self.suspicion, at, failure, detail.to_owned());
        }
    }

    /// A failed unit and, once it is known, its result: a failure unless the plan excuses it.
    pub(crate) fn unit_failed(
        &mut self,
        at: Duration,
        since: Duration,
        unit: &str,
        result: Option<&str>,
    ) {
        if !self.may_fail.contains(unit) {
            let result = result.map_or(String::new(), |result| format!(" ({result})"));
            let detail = format!("{unit} failed{result}");
            self.suspect(since.min(at), Failure::UnitFailed, &detail);
        }
    }

    /// True when these failed units are all excused, and they explain a degraded system.
    pub(crate) fn excuses<'a>(&self, units: impl Iterator<Item = &'a str>) -> bool {
        let mut units = units.peekable();
        units.peek().is_some() && units.all(|unit| self.may_fail.contains(unit))
    }

    /// An answer of the probe to `check`, with the journal's entries when that was asked.
    pub(crate) fn check_answered(
        &mut self,
        at: Duration,
        check: &Check,
        (holds, found): (bool, &str),
        entries: &[String],
    ) {
        for index in 0..self.items().len() {
            let item = &self.items()[index];
            if item.check().as_ref() != Some(check) {
                continue;
            }
            let (holds, found) = match &item.source {
                Source::Journal if holds => journal::judge(&self.journal, entries, self.today),
                Source::Reached { limit, .. } if holds => within(found, *limit),
                _ => (holds, found.to_owned()),
            };
            self.answer(at, index, holds, found);
        }
        if self.is_open() || self.gathers(at) {
            self.last_answer = Some(at);
        }
    }

    /// An answer of the probe about a marker.
    pub(crate) fn mark_answered(&mut self, at: Duration, folder: &str, holds: bool, found: &str) {
        let is_it = |source: &Source| matches!(source, Source::Mark { folder: f } if f == folder);
        self.answer_all(at, is_it, holds, found);
    }

    /// The result of a request from outside.
    pub(crate) fn outside_answered(
        &mut self,
        at: Duration,
        check: &Outside,
        result: Result<&str, &str>,
    ) {
        let is_it = |source: &Source| matches!(source, Source::Outside(c) if c == check);
        let (Ok(found) | Err(found)) = result;
        self.answer_all(at, is_it, result.is_ok(), found);
    }

    /// A line of the console.
    pub(crate) fn console_said(&mut self, at: Duration, line: &str) {
        let is_it =
            |source: &Source| matches!(source, Source::Console(t) if line.contains(t.as_str()));
        self.answer_all(at, is_it, true, line.trim());
    }

    fn answer_all(
        &mut self,
        at: Duration,
        is_it: impl Fn(&Source) -> bool,
        holds: bool,
        found: &str,
    ) {
        for index in 0..self.items().len() {
            if self.answers[index].is_none() && is_it(&self.items()[index].source) {
                self.answer(at, index, holds, found.to_owned());
            }
        }
    }

    fn answer(&mut self, at: Duration, index: usize, holds: bool, found: String) {
        if !self.is_open() && !self.gathers(at) {
            return;
        }
        if !holds {
            let item = &self.items()[index];
            let (failure, detail) = (item.failure, format!("{}: {found}", item.what));
            self.suspect(at, failure, &detail);
        }
        self.answers[index] = Some(Answer { holds, found });
    }

    fn items(&self) -> &[Item] {
        match (self.stage, &self.second) {
            (Stage::Second, Some(second)) => second,
            _ => &self.first,
        }
    }

    /// The probe has said its last word of this boot: what it has not answered fails.
    pub(crate) fn inside_over(&mut self, at: Duration, measures: Measures) {
        self.measured(at, measures);
        for index in 0..self.items().len() {
            if self.items()[index].check().is_some() && self.answers[index].is_none() {
                let found = "the probe did not answer".to_owned();
                // Why it did not may be known already, and says more.
                if self.suspicion.is_some() {
                    let holds = false;
                    self.answers[index] = Some(Answer { holds, found });
                } else {
                    self.answer(at, index, false, found);
                }
            }
        }
    }

    /// Compares what was measured with the budgets.
    pub(crate) fn measured(&mut self, at: Duration, measures: Measures) {
        for index in 0..self.items().len() {
            let (holds, found) = match self.items()[index].source {
                // The host's clock runs from QEMU's start: only the first boot's time is one.
                Source::HostTime(_) if self.stage == Stage::Second => continue,
                Source::HostTime(limit) => (measures.host_ms <= limit, seconds(measures.host_ms)),
                Source::Memory(limit) => {
                    let found = format!("{} MiB", measures.memory_kib.div_ceil(1024));
                    (measures.memory_kib <= limit, found)
                }
                Source::Size { found, limit, unit } => (
                    found <= limit,
                    format!("{found} {unit}").trim_end().to_owned(),
                ),
                _ => continue,
            };
            if self.answers[index].is_none() {
                self.answer(at, index, holds, found);
            }
        }
    }

    /// Time passes: a budget of the host's clock ends by itself.
    pub(crate) fn time(&mut self, at: Duration) {
        for index in 0..self.items().len() {
            if let Source::HostTime(limit) = self.items()[index].source
                && self.stage == Stage::First
                && self.answers[index].is_none()
                && at > Duration::from_millis(limit)
            {
                let found = format!("not all was said after {}", seconds(limit));
                self.answer(Duration::from_millis(limit), index, false, found);
            }
        }
    }

    /// True when everything of this boot has been answered and holds, but for the markers when
    /// those are still to be asked for.
    pub(crate) fn holds(&self, markers: Markers) -> bool {
        let held = self.answers.iter().zip(self.items()).all(|(answer, item)| {
            let later = matches!(item.source, Source::Mark { .. }) && markers == Markers::Later;
            let second = matches!(item.source, Source::HostTime(_)) && self.stage == Stage::Second;
            later || second || answer.as_ref().is_some_and(|answer| answer.holds)
        });
        held && self.suspicion.is_none()
    }

    /// True while something that shows outside is still waited for.
    pub(crate) fn waits_outside(&self) -> bool {
        let pairs = self.answers.iter().zip(self.items());
        let mut open = pairs.filter(|(answer, _)| answer.is_none());
        open.any(|(_, item)| matches!(item.source, Source::Console(_) | Source::Outside(_)))
    }

    /// True while the answers to requests are all that is waited for.
    pub(crate) fn waits_for_requests_only(&self) -> bool {
        let pairs = self.answers.iter().zip(self.items());
        let mut open = pairs.filter(|(answer, _)| answer.is_none());
        self.waits_outside() && !open.any(|(_, item)| matches!(item.source, Source::Console(_)))
    }

    /// The time for what the console must show is over.
    pub(crate) fn console_over(&mut self, at: Duration, patience: Duration) {
        let found = format!(
            "not within {} s after the guest had settled",
            patience.as_secs()
        );
        let is_it = |source: &Source| matches!(source, Source::Console(_));
        self.answer_all(at, is_it, false, &found);
    }

    /// True when the plan wants a restart.
    pub(crate) fn restarts(&self) -> bool {
        self.second.is_some()
    }

    /// QEMU ended, and how: says more than the lines that closed with it.
    pub(crate) fn qemu_ended(&mut self, at: Duration, how: &str) {
        self.suspicion
            .take_if(|first| first.failure == Failure::QemuDied);
        self.suspect(at, Failure::QemuDied, how);
    }

    /// What is still not answered, for people.
    pub(crate) fn missing(&self) -> Vec<&str> {
        let pairs = self.answers.iter().zip(self.items());
        let open = pairs.filter(|(answer, _)| answer.is_none());
        open.map(|(_, item)| item.what.as_str()).collect()
    }

    /// The guest starts again as the plan wants it.
    pub(crate) fn restarted(&mut self, boot: u32) {
        let facts = self.facts_of_boot(boot);
        self.facts.extend(facts);
        self.stage = Stage::Second;
        self.last_answer = None;
        self.answers = vec![None; self.items().len()];
    }

    /// The guest starts again by itself, and may: what the boot before has shown is void.
    pub(crate) fn begin_again(&mut self) -> Option<Suspicion> {
        self.answers = vec![None; self.items().len()];
        self.last_answer = None;
        self.suspicion.take()
    }

    /// The verdict falls.
    pub(crate) fn rule(&mut self, event: Duration, at: Duration, verdict: Verdict) {
        if self.is_open() {
            self.ruling = Some(Ruling { verdict, event, at });
        }
    }

    /// The verdict of the suspicion at hand falls, if there is one.
    pub(crate) fn sentence(&mut self, at: Duration, failed_units: &[&str]) {
        let Some(suspicion) = self.suspicion.clone() else {
            return;
        };
        let mut detail = suspicion.detail.clone();
        if suspicion.failure == Failure::UnitFailed && failed_units.len() > 1 {
            detail = format!("{detail}; failed units: {}", failed_units.join(", "));
        }
        let pairs = self.answers.iter().zip(self.items());
        let others = pairs.filter(|(answer, item)| {
            let failed = answer.as_ref().filter(|answer| !answer.holds);
            failed.is_some_and(|answer| {
                format!("{}: {}", item.what, answer.found) != suspicion.detail
            })
        });
        let others = others.count();
        if others > 0 {
            detail = format!("{detail}; {others} more of its checks do not hold");
        }
        let failure = suspicion.failure;
        self.rule(suspicion.since, at, Verdict::Failed { failure, detail });
    }

    /// Every item and its answer, in the order of the plan, boot after boot.
    pub(crate) fn facts(&self, boot: u32) -> Vec<CheckFact> {
        let mut facts = self.facts.clone();
        facts.extend(self.facts_of_boot(boot));
        facts
    }

    fn facts_of_boot(&self, boot: u32) -> Vec<CheckFact> {
        let pairs = self.answers.iter().zip(self.items());
        let facts = pairs.filter_map(|(answer, item)| {
            if matches!(item.source, Source::HostTime(_)) && self.stage == Stage::Second {
                return None;
            }
            let unanswered = || Answer {
                holds: false,
                found: "not answered before the verdict".to_owned(),
            };
            let Answer { holds, found } = answer.clone().unwrap_or_else(unanswered);
            let what = item.what.clone();
            Some(CheckFact {
                what,
                holds,
                found,
                boot,
            })
        });
        facts.collect()
    }
}

/// Whether markers have been asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Markers {
    /// They will be.
    Later,
    /// They have been, or there are none.
    Asked,
}

/// Whether a time in milliseconds that the probe told is within the limit.
fn within(found: &str, limit: u64) -> (bool, String) {
    match found.trim().parse() {
        Ok(time) => (time <= limit, seconds(time)),
        Err(_) => (false, format!("`{found}` is no time")),
    }
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}
