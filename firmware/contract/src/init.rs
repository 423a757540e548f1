//! What `/init` says on the console.

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
        assert_eq!(InitFailure::from_name("future"), InitFailure::Unknown);
    }
}
