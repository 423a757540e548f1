//! When a verdict falls: by a settled suspicion, by all that holds, or by the end of patience.

use std::time::Duration;

use baker_contract::Order;
use baker_model::plan::ProbeWay;
use baker_model::{Failure, Verdict};

use super::boot::{Phase, Stop};
use super::case::{Case, Markers, Measures};
use super::questions::Stage;
use super::{Asked, Judge, Wish};
use crate::evidence::milliseconds;

impl Judge {
    /// The verdict of every plan that has a suspicion, at once.
    pub(super) fn sentence_all(&mut self, at: Duration) {
        let units: Vec<&str> = self.boot.failed_units.keys().map(String::as_str).collect();
        for case in &mut self.cases {
            case.sentence(at, &units);
        }
    }

    /// The verdicts that time and the last observation bring.
    pub(super) fn rule(&mut self, at: Duration) {
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
