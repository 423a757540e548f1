//! What the probe reports.

use crate::Line;

/// What the probe reports; every line also carries `nonce`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The probe runs: systemd has started it.
    Hello {
        /// Root hash of the active dm-verity table under `/`, hex; empty when there is none.
        root_hash: String,
        /// `uname -r`.
        kernel: String,
        /// The kernel's id of this boot.
        boot_id: String,
        /// `enabled`, `disabled`, or `none` when UEFI did not start the kernel.
        secure_boot: String,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// Sent at least every second while the system has not settled: the guest lives. It makes
    /// progress when anything but `uptime_ms` changes.
    Waiting {
        /// What systemd says of itself (`starting`, `running` ...).
        state: String,
        /// Jobs still queued.
        jobs: u64,
        /// The job that has been running longest, as `UNIT/TYPE`, when last looked at. Once the
        /// checks are being answered it is `WORD/check`, behind it how far that one is. Empty
        /// when none is known.
        job: String,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// Some unit has failed this moment; which is told as soon as systemd answers.
    Alarm,
    /// A unit has failed.
    UnitFailed {
        /// Full unit name.
        unit: String,
        /// systemd's `Result` (`exit-code`, `timeout` ...).
        result: String,
    },
    /// What a unit that has failed, or that was asked for, said last.
    UnitSaid {
        /// Full unit name.
        unit: String,
        /// Lines of the journal; empty when it has none or cannot be read.
        text: String,
    },
    /// Something that belongs to a check and that the host judges: an entry of the journal.
    Finding {
        /// Id of the check.
        id: u32,
        /// One line.
        text: String,
    },
    /// A check of the plan, done.
    Check {
        /// The order's id; none for an order that had none.
        id: Option<u32>,
        /// True when it holds.
        holds: bool,
        /// What was found.
        found: String,
    },
    /// All is said. The verdict is the host's, from the lines above.
    Done {
        /// systemd's state at the end (`running`, `degraded` ...).
        state: String,
        /// Root hash as in [`Report::Hello`], read again.
        root_hash: String,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
        /// Memory in use, KiB (`MemTotal - MemAvailable`).
        memory_kib: u64,
    },
    /// A word that this version does not know.
    Unknown(Line),
}

impl Report {
    /// The line to write, with this run's nonce.
    #[must_use]
    pub fn to_line(&self, nonce: &str) -> Line {
        let line = match self {
            Self::Hello {
                root_hash,
                kernel,
                boot_id,
                secure_boot,
                uptime_ms,
            } => Line::new("hello")
                .with("root-hash", root_hash)
                .with("kernel", kernel)
                .with("boot-id", boot_id)
                .with("secure-boot", secure_boot)
                .with("uptime-ms", uptime_ms),
            Self::Waiting {
                state,
                jobs,
                job,
                uptime_ms,
            } => Line::new("waiting")
                .with("state", state)
                .with("jobs", jobs)
                .with("job", job)
                .with("uptime-ms", uptime_ms),
            Self::Alarm => Line::new("alarm"),
            Self::UnitFailed { unit, result } => Line::new("unit-failed")
                .with("unit", unit)
                .with("result", result),
            Self::UnitSaid { unit, text } => {
                Line::new("unit-said").with("unit", unit).with("text", text)
            }
            Self::Finding { id, text } => Line::new("finding").with("id", id).with("text", text),
            Self::Check { id, holds, found } => {
                let line = Line::new("check").with_some("id", *id);
                line.with("holds", holds).with("found", found)
            }
            Self::Done {
                state,
                root_hash,
                uptime_ms,
                memory_kib,
            } => Line::new("done")
                .with("state", state)
                .with("root-hash", root_hash)
                .with("uptime-ms", uptime_ms)
                .with("memory-kib", memory_kib),
            Self::Unknown(line) => return line.clone(),
        };
        line.with("nonce", nonce)
    }

    /// The meaning of a line that carries this run's nonce; none when it does not.
    #[must_use]
    pub fn from_line(line: Line, nonce: &str) -> Option<Self> {
        if nonce.is_empty() || line.get("nonce") != Some(nonce) {
            return None;
        }
        let field = |key| line.get(key).unwrap_or_default().to_owned();
        let number = |key| line.get(key).and_then(|value| value.parse().ok());
        let id = line.get("id").and_then(|id| id.parse().ok());
        Some(match line.word.as_str() {
            "hello" => Self::Hello {
                root_hash: field("root-hash"),
                kernel: field("kernel"),
                boot_id: field("boot-id"),
                secure_boot: field("secure-boot"),
                uptime_ms: number("uptime-ms").unwrap_or(0),
            },
            "waiting" => Self::Waiting {
                state: field("state"),
                jobs: number("jobs").unwrap_or(0),
                job: field("job"),
                uptime_ms: number("uptime-ms").unwrap_or(0),
            },
            "alarm" => Self::Alarm,
            "unit-failed" => Self::UnitFailed {
                unit: field("unit"),
                result: field("result"),
            },
            "unit-said" => Self::UnitSaid {
                unit: field("unit"),
                text: field("text"),
            },
            "finding" => match id {
                Some(id) => Self::Finding {
                    id,
                    text: field("text"),
                },
                None => Self::Unknown(line),
            },
            "check" => Self::Check {
                id,
                holds: line.get("holds") == Some("true"),
                found: field("found"),
            },
            "done" => Self::Done {
                state: field("state"),
                root_hash: field("root-hash"),
                uptime_ms: number("uptime-ms").unwrap_or(0),
                memory_kib: number("memory-kib").unwrap_or(0),
            },
            _ => Self::Unknown(line),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_round_trip() {
        let reports = [
            Report::Hello {
                root_hash: "ab".into(),
                kernel: "6.12".into(),
                boot_id: "c".into(),
                secure_boot: "enabled".into(),
                uptime_ms: 1,
            },
            Report::Waiting {
                state: "starting".into(),
                jobs: 3,
                job: "a.service/start".into(),
                uptime_ms: 2,
            },
            Report::Alarm,
            Report::UnitFailed {
                unit: "x y".into(),
                result: "exit-code".into(),
            },
            Report::UnitSaid {
                unit: "x y".into(),
                text: "a=b\nc".into(),
            },
            Report::Finding {
                id: 4,
                text: "ünit: 50 %".into(),
            },
            Report::Check {
                id: None,
                holds: true,
                found: String::new(),
            },
            Report::Check {
                id: Some(0),
                holds: false,
                found: "y z".into(),
            },
            Report::Done {
                state: "running".into(),
                root_hash: String::new(),
                uptime_ms: 3,
                memory_kib: 4,
            },
        ];
        for report in reports {
            let text = report.to_line("n1").to_string();
            let line = Line::parse(&text).unwrap();
            assert_eq!(Report::from_line(line, "n1"), Some(report), "{text}");
        }
    }

    #[test]
    fn a_report_counts_only_with_this_runs_nonce() {
        let report = Report::Check {
            id: Some(1),
            holds: true,
            found: "y z".into(),
        };
        let line = report.to_line("n1");
        assert_eq!(Report::from_line(line.clone(), "n1"), Some(report));
        assert_eq!(Report::from_line(line.clone(), "n2"), None);
        assert_eq!(Report::from_line(line, ""), None);
    }

    #[test]
    fn unknown_words_survive() {
        let line = Line::new("future").with("k", "v").with("nonce", "n");
        assert_eq!(
            Report::from_line(line.clone(), "n"),
            Some(Report::Unknown(line))
        );
    }
}
