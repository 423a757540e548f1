//! What was seen of one boot of the guest.

use std::collections::BTreeMap;
use std::time::Duration;

use baker_contract::Report;
use baker_model::Failure;

use super::console;
use super::progress::{End, Progress};
use super::questions::Stage;
use crate::patience::Patience;

/// A `[FAILED]` line explains a failed unit that is told of within this time.
const HINT: Duration = Duration::from_secs(2);

/// A reset that firmware adds to the guest's comes within this time.
const FIRMWARE_RESET: Duration = Duration::from_secs(5);

/// What the guest was last known to be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
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
    pub(crate) const fn name(self) -> &'static str {
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

/// One boot, from a start of the machine to the next.
#[derive(Debug)]
pub(crate) struct Boot {
    /// From 1.
    pub number: u32,
    pub stage: Stage,
    start: Duration,
    /// When each phase was first seen.
    pub phases: BTreeMap<Phase, Duration>,
    pub progress: Progress,
    /// [`Report::Hello`].
    pub hello: Option<Report>,
    /// [`Report::Done`].
    pub done: Option<Report>,
    /// Answers by id.
    pub answered: BTreeMap<u32, (bool, String)>,
    /// Entries of the journal.
    pub entries: Vec<String>,
    /// Units and their results.
    pub failed_units: BTreeMap<String, String>,
    /// Units that do not do what they should and that systemd may not count as failed, with a word
    /// for their state: what they said last was asked for.
    pub doubtful: BTreeMap<String, &'static str>,
    /// What failed units said last.
    pub last_words: BTreeMap<String, String>,
    /// The last `[FAILED]` line.
    pub unit_hint: Option<(Duration, String)>,
    /// When the probe last heard that some unit has failed.
    pub alarm: Option<Duration>,
    /// The last line that explains a failure which may follow.
    pub cause: Option<String>,
    pub firmware_reset: bool,
    pub marks_asked: bool,
    pub restart_ordered: bool,
}

/// Why a boot is given up.
pub(crate) struct Stop {
    pub failure: Failure,
    /// When patience ended.
    pub event: Duration,
    pub detail: String,
}

impl Boot {
    /// A boot that begins now.
    pub(crate) fn new(number: u32, stage: Stage, at: Duration, work: Option<Duration>) -> Self {
        Self {
            number,
            stage,
            start: at,
            phases: BTreeMap::from([(Phase::Firmware, at)]),
            progress: Progress::starting(at, work),
            hello: None,
            done: None,
            answered: BTreeMap::new(),
            entries: Vec::new(),
            failed_units: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            last_words: BTreeMap::new(),
            unit_hint: None,
            alarm: None,
            cause: None,
            firmware_reset: false,
            marks_asked: false,
            restart_ordered: false,
        }
    }

    pub(crate) fn enter(&mut self, at: Duration, phase: Phase) {
        self.phases.entry(phase).or_insert(at);
    }

    pub(crate) fn has(&self, phase: Phase) -> bool {
        self.phases.contains_key(&phase)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.is_some()
    }

    /// The kernel's id of this boot, once it is known.
    pub(crate) fn boot_id(&self) -> Option<&str> {
        match &self.hello {
            Some(Report::Hello { boot_id, .. }) => Some(boot_id),
            _ => None,
        }
    }

    /// True once, for a reset right after the one that this boot began with: SeaBIOS answers a warm
    /// reset with a cold one of its own (`tryReboot` of its `src/resume.c`).
    pub(crate) fn firmware_resets_too(&mut self, at: Duration) -> bool {
        let soon = at.saturating_sub(self.start) <= FIRMWARE_RESET;
        let first = self.number > 1 && !self.firmware_reset && soon;
        self.firmware_reset |= first;
        first
    }

    /// True while the guest may still say why its units failed.
    pub(crate) fn owes_words(&self) -> bool {
        let told = |unit: &String| self.last_words.contains_key(unit);
        let mut failed = self.failed_units.keys().chain(self.doubtful.keys());
        self.hello.is_some() && !failed.all(told)
    }

    /// When the event behind a unit's failure showed first: on the console, or now.
    pub(crate) fn hint_before(&self, at: Duration) -> Duration {
        let hint = self.unit_hint.as_ref().map(|(since, _)| *since);
        hint.filter(|since| at.saturating_sub(*since) <= HINT)
            .unwrap_or(at)
    }

    /// The unit that the console and an alarm of the probe agree about, and when the first of them
    /// came. Neither says enough: anything may write on the console, and the alarm has no name.
    pub(crate) fn alarmed(&self) -> Option<(Duration, &str)> {
        let (hint, text) = self.unit_hint.as_ref()?;
        let alarm = self.alarm?;
        let (first, last) = (*hint.min(&alarm), *hint.max(&alarm));
        let unit = console::unit_of(text)?;
        (last - first <= HINT).then_some((first, unit))
    }

    /// Why this boot is given up, if it is.
    pub(crate) fn end_of_patience(&self, at: Duration, patience: &Patience) -> Option<Stop> {
        let over = at >= patience.total;
        // Once the guest has said all, it is the host that is waited for.
        let waits_for_guest = !self.is_done() || self.marks_asked || self.restart_ordered;
        let end = self.progress.end(at, patience).filter(|_| waits_for_guest);
        let phase = self
            .phases
            .keys()
            .next_back()
            .map_or("firmware", |phase| phase.name());
        let seconds = |since: Duration, until: Duration| until.saturating_sub(since).as_secs();
        let (failure, event, mut detail) = match end {
            Some(End::Silent { since, at: event }) => {
                let text = format!("no sign of life for {} s in {phase}", seconds(since, event));
                (Failure::GuestSilent, event, text)
            }
            Some(End::Stalled { since, at: event }) => {
                let seconds = seconds(since, event);
                let text = match self.progress.job() {
                    Some(job) => {
                        format!("{job} has been running for {seconds} s and nothing moves")
                    }
                    None => format!("no progress for {seconds} s in {phase}"),
                };
                (Failure::TimedOut, event, text)
            }
            None if over => {
                let seconds = patience.total.as_secs();
                let text = format!("no verdict after {seconds} s, in {phase}");
                (Failure::TimedOut, patience.total, text)
            }
            None => return None,
        };
        detail.push_str(&self.progress.describe());
        if let Some((_, hint)) = &self.unit_hint {
            detail.push_str(&format!("; {hint}"));
        }
        Some(Stop {
            failure,
            event,
            detail,
        })
    }
}
