//! Whether the guest gets anywhere: signs of life, steps forward, and the work of its CPUs.
//!
//! A guest that says the same every second lives but does not move. Whether it is stuck or slow
//! shows in what its CPUs do: a stuck guest sleeps, a slow one on a busy host wants to run.

use std::time::Duration;

use crate::patience::Patience;

/// A guest that wants its CPUs for more than one part in this many of the time is busy.
const IDLE_PART: u32 = 4;

/// A busy guest is given this many times the patience of an idle one.
const BUSY_FACTOR: u32 = 3;

/// Why the wait is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing was heard.
    Silent {
        /// Since when.
        since: Duration,
        /// When patience ended.
        at: Duration,
    },
    /// The same was heard again and again.
    Stalled {
        /// Since when.
        since: Duration,
        /// When patience ended.
        at: Duration,
    },
}

/// What is known of the guest's progress in one boot.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    start: Duration,
    sign: Option<Duration>,
    step: Option<Duration>,
    /// CPU time that the guest wanted, now and at the last sign and step.
    work: Option<Duration>,
    work_at_sign: Option<Duration>,
    work_at_step: Option<Duration>,
    /// systemd's state, number of jobs and job at hand, as the probe told last.
    doing: Option<(String, u64, String)>,
    /// The job that the console told of.
    console_job: Option<String>,
    last_line: String,
}

impl Progress {
    /// A boot that begins now.
    pub(crate) fn starting(at: Duration, work: Option<Duration>) -> Self {
        Self {
            start: at,
            work,
            work_at_sign: work,
            work_at_step: work,
            ..Self::default()
        }
    }

    /// CPU time that the guest's CPUs have wanted so far.
    pub(crate) fn worked(&mut self, work: Duration) {
        for at in [&mut self.work_at_sign, &mut self.work_at_step] {
            at.get_or_insert(work);
        }
        self.work = Some(work);
    }

    /// The CPU time known last.
    pub(crate) fn work(&self) -> Option<Duration> {
        self.work
    }

    /// It lives.
    fn sign(&mut self, at: Duration) {
        self.sign = Some(at);
        self.work_at_sign = self.work;
    }

    /// It got somewhere.
    pub(crate) fn step(&mut self, at: Duration) {
        self.sign(at);
        self.step = Some(at);
        self.work_at_step = self.work;
    }

    /// A line of the console.
    pub(crate) fn line(&mut self, at: Duration, line: &str) {
        match running_job(line) {
            Some(job) => {
                self.sign(at);
                if self.console_job.as_deref() != Some(job) {
                    self.console_job = Some(job.to_owned());
                }
            }
            None => {
                self.step(at);
                line.trim().clone_into(&mut self.last_line);
            }
        }
    }

    /// What the probe waits for.
    pub(crate) fn waiting(&mut self, at: Duration, doing: (String, u64, String)) {
        if self.doing.as_ref() == Some(&doing) {
            self.sign(at);
        } else {
            self.doing = Some(doing);
            self.step(at);
        }
    }

    /// Why the wait is over, if it is.
    pub(crate) fn end(&self, at: Duration, patience: &Patience) -> Option<End> {
        let sign = self.sign.unwrap_or(self.start);
        let silence = match (self.sign, self.busy(sign, self.work_at_sign, at)) {
            (None, Some(false)) => patience.silence.min(patience.first_sign),
            (None, _) => patience.first_sign,
            (Some(_), Some(true)) => patience.silence * BUSY_FACTOR,
            (Some(_), _) => patience.silence,
        };
        if at.saturating_sub(sign) >= silence {
            let at = sign + silence;
            return Some(End::Silent { since: sign, at });
        }
        let step = self.step.unwrap_or(self.start);
        let stall = match self.busy(step, self.work_at_step, at) {
            Some(true) => patience.stall * BUSY_FACTOR,
            _ => patience.stall,
        };
        // Whoever has not been heard for most of that time is silent, and has the patience of the
        // silent.
        let speaks = sign >= step + stall / 2;
        let stalled = speaks && at.saturating_sub(step) >= stall;
        let at = step + stall;
        stalled.then_some(End::Stalled { since: step, at })
    }

    /// Whether the guest wanted its CPUs since then; none when that is not known.
    fn busy(&self, since: Duration, work: Option<Duration>, at: Duration) -> Option<bool> {
        let wanted = self.work?.saturating_sub(work?);
        Some(wanted * IDLE_PART > at.saturating_sub(since))
    }

    /// The job that does not end, if one is known.
    pub(crate) fn job(&self) -> Option<&str> {
        let told = self.doing.as_ref().map(|(_, _, job)| job.as_str());
        told.filter(|job| !job.is_empty())
            .or(self.console_job.as_deref())
    }

    /// systemd's state and the last line, for the end of a verdict.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        if let Some((state, jobs, _)) = &self.doing {
            text.push_str(&format!("; systemd says {state}, {jobs} jobs"));
        }
        if !self.last_line.is_empty() {
            text.push_str(&format!("; last console line: {}", self.last_line));
        }
        text
    }
}

/// The job of a line that systemd repeats while a job takes long (`manager_print_jobs_in_progress`
/// of its `src/core/manager.c`, in the wording of old and new versions).
fn running_job(line: &str) -> Option<&str> {
    let inside = line.trim_start().strip_prefix('[')?.split_once(']')?;
    let (stars, message) = (inside.0, inside.1.trim_start());
    if !stars.chars().all(|c| c == '*' || c == ' ') {
        return None;
    }
    let message = match message.strip_prefix('(') {
        Some(counted) => counted.split_once(") ")?.1,
        None => message,
    };
    let job = match message.split_once(" job is running for ") {
        Some((_, job)) => job,
        None => message.strip_prefix("Job ")?.trim_start(),
    };
    let end = job.rfind(" running (").or_else(|| job.rfind(" ("))?;
    Some(job[..end].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_about_a_running_job_name_it() {
        let rows = [
            (
                "[ ***  ] A start job is running for Slow thing (5s / 1min 30s)",
                Some("Slow thing"),
            ),
            (
                "[**    ] (1 of 2) A stop job is running for x.service (1s / no limit)",
                Some("x.service"),
            ),
            (
                "[   ***] Job slow.service/start running (12s / no limit)",
                Some("slow.service/start"),
            ),
            ("[  OK  ] Started slow.service.", None),
            ("[    1.5] A start job is running for x (1s / 2s)", None),
        ];
        for (line, expected) in rows {
            assert_eq!(running_job(line), expected, "{line}");
        }
    }
}
