//! The messages that lines carry.

use crate::Line;

/// Why init gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitFailure {
    /// The command line lacks the root hash, or it is malformed.
    CommandLine,
    /// A module could not be loaded.
    Module,
    /// The root or hash partition did not appear.
    NoRoot,
    /// dm-verity refused the root hash, the superblock or a block.
    Verity,
    /// The root could not be mounted.
    Mount,
    /// The init of the root could not be started.
    Handover,
    /// A failure that this version does not know.
    Unknown,
}

impl InitFailure {
    const NAMES: [(Self, &'static str); 6] = [
        (Self::CommandLine, "command-line"),
        (Self::Module, "module"),
        (Self::NoRoot, "no-root"),
        (Self::Verity, "verity"),
        (Self::Mount, "mount"),
        (Self::Handover, "handover"),
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(code, _)| *code == self)
            .map_or("unknown", |(_, name)| name)
    }

    /// The code with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::NAMES
            .iter()
            .find(|(_, n)| *n == name)
            .map_or(Self::Unknown, |(code, _)| *code)
    }
}

/// What `/init` says on the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// It runs.
    Started,
    /// The verified root is mounted and systemd is about to be started.
    Handover,
    /// It gave up, and will power off or reboot.
    Failed {
        /// Why.
        code: InitFailure,
        /// One line for people.
        detail: String,
    },
    /// A word that this version does not know.
    Unknown(Line),
}

impl Init {
    /// The line to write.
    #[must_use]
    pub fn to_line(&self) -> Line {
        match self {
            Self::Started => Line::new("init-started"),
            Self::Handover => Line::new("init-handover"),
            Self::Failed { code, detail } => Line::new("init-failed")
                .with("code", code.name())
                .with("detail", detail),
            Self::Unknown(line) => line.clone(),
        }
    }

    /// The meaning of a line.
    #[must_use]
    pub fn from_line(line: Line) -> Self {
        match line.word.as_str() {
            "init-started" => Self::Started,
            "init-handover" => Self::Handover,
            "init-failed" => Self::Failed {
                code: InitFailure::from_name(line.get("code").unwrap_or_default()),
                detail: line.get("detail").unwrap_or_default().to_owned(),
            },
            _ => Self::Unknown(line),
        }
    }
}

/// What the host asks of the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// First line: the nonce that every answer must carry.
    Begin {
        /// Hex digits, new for every run.
        nonce: String,
    },
    /// This unit must be active once the system has settled.
    UnitActive {
        /// Full unit name.
        unit: String,
    },
    /// Last line: no more orders.
    End,
    /// Shut the guest down cleanly; sent after [`Report::Done`].
    PowerOff,
    /// A word that this version does not know: the probe must answer with a failed check.
    Unknown(Line),
}

impl Order {
    /// The line to write.
    #[must_use]
    pub fn to_line(&self) -> Line {
        match self {
            Self::Begin { nonce } => Line::new("begin").with("nonce", nonce),
            Self::UnitActive { unit } => Line::new("unit-active").with("unit", unit),
            Self::End => Line::new("end"),
            Self::PowerOff => Line::new("power-off"),
            Self::Unknown(line) => line.clone(),
        }
    }

    /// The meaning of a line.
    #[must_use]
    pub fn from_line(line: Line) -> Self {
        let field = |key| line.get(key).unwrap_or_default().to_owned();
        match line.word.as_str() {
            "begin" => Self::Begin {
                nonce: field("nonce"),
            },
            "unit-active" => Self::UnitActive {
                unit: field("unit"),
            },
            "end" => Self::End,
            "power-off" => Self::PowerOff,
            _ => Self::Unknown(line),
        }
    }
}

/// What the probe reports; every line also carries `nonce`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The probe runs: systemd has started it.
    Hello {
        /// Root hash of the active dm-verity table under `/`, hex; empty when there is none.
        root_hash: String,
        /// `uname -r`.
        kernel: String,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// Sent at least every second while the system has not settled: the guest makes progress.
    Waiting {
        /// What systemd says of itself (`starting`, `running` ...).
        state: String,
        /// Jobs still queued.
        jobs: u64,
        /// Milliseconds since the kernel started.
        uptime_ms: u64,
    },
    /// A unit has failed.
    UnitFailed {
        /// Full unit name.
        unit: String,
        /// systemd's `Result` (`exit-code`, `timeout` ...).
        result: String,
    },
    /// A check of the plan, done.
    Check {
        /// What was checked.
        what: String,
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
                uptime_ms,
            } => Line::new("hello")
                .with("root-hash", root_hash)
                .with("kernel", kernel)
                .with("uptime-ms", uptime_ms),
            Self::Waiting {
                state,
                jobs,
                uptime_ms,
            } => Line::new("waiting")
                .with("state", state)
                .with("jobs", jobs)
                .with("uptime-ms", uptime_ms),
            Self::UnitFailed { unit, result } => Line::new("unit-failed")
                .with("unit", unit)
                .with("result", result),
            Self::Check { what, holds, found } => Line::new("check")
                .with("what", what)
                .with("holds", holds)
                .with("found", found),
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
        let number = |key| {
            line.get(key)
                .and_then(|value| value.parse().ok())
                .unwrap_or(0)
        };
        Some(match line.word.as_str() {
            "hello" => Self::Hello {
                root_hash: field("root-hash"),
                kernel: field("kernel"),
                uptime_ms: number("uptime-ms"),
            },
            "waiting" => Self::Waiting {
                state: field("state"),
                jobs: number("jobs"),
                uptime_ms: number("uptime-ms"),
            },
            "unit-failed" => Self::UnitFailed {
                unit: field("unit"),
                result: field("result"),
            },
            "check" => Self::Check {
                what: field("what"),
                holds: line.get("holds") == Some("true"),
                found: field("found"),
            },
            "done" => Self::Done {
                state: field("state"),
                root_hash: field("root-hash"),
                uptime_ms: number("uptime-ms"),
                memory_kib: number("memory-kib"),
            },
            _ => Self::Unknown(line),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let inits = [
            Init::Started,
            Init::Handover,
            Init::Failed {
                code: InitFailure::Verity,
                detail: "root hash differs".into(),
            },
        ];
        for init in inits {
            assert_eq!(Init::from_line(init.to_line()), init);
        }
        let orders = [
            Order::Begin { nonce: "ab".into() },
            Order::UnitActive {
                unit: "a b.service".into(),
            },
            Order::End,
            Order::PowerOff,
        ];
        for order in orders {
            assert_eq!(Order::from_line(order.to_line()), order);
        }
    }

    #[test]
    fn a_report_counts_only_with_this_runs_nonce() {
        let report = Report::Check {
            what: "x".into(),
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
            Some(Report::Unknown(line.clone()))
        );
        assert_eq!(InitFailure::from_name("future"), InitFailure::Unknown);
    }
}
