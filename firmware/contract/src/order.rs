//! What the host asks of the probe.

use crate::{Check, Line};

/// One line from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// First line: the nonce that every answer must carry. Also the first line after a restart
    /// of the guest, with the same nonce.
    Begin {
        /// Hex digits, new for every run.
        nonce: String,
    },
    /// A question, to be answered once the system has settled.
    Check {
        /// The answer's id.
        id: u32,
        /// The question.
        check: Check,
    },
    /// No more questions.
    End,
    /// Look for failed units now instead of when it is next due.
    Look,
    /// Tell what a unit said last, as [`crate::Report::UnitSaid`].
    Words {
        /// Full unit name.
        unit: String,
    },
    /// Write the marker of this run into this folder, making it when missing; answered by a
    /// [`crate::Report::Check`].
    Mark {
        /// The answer's id.
        id: u32,
        /// Absolute path of the folder.
        folder: String,
    },
    /// Restart the guest cleanly; sent after [`crate::Report::Done`].
    Restart,
    /// Shut the guest down cleanly; sent after [`crate::Report::Done`].
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
            Self::Check { id, check } => check.to_line().with("id", id),
            Self::End => Line::new("end"),
            Self::Look => Line::new("look"),
            Self::Words { unit } => Line::new("words").with("unit", unit),
            Self::Mark { id, folder } => Line::new("mark").with("folder", folder).with("id", id),
            Self::Restart => Line::new("restart"),
            Self::PowerOff => Line::new("power-off"),
            Self::Unknown(line) => line.clone(),
        }
    }

    /// The meaning of a line.
    #[must_use]
    pub fn from_line(line: Line) -> Self {
        let id = line.get("id").and_then(|id| id.parse().ok());
        match line.word.as_str() {
            "begin" => Self::Begin {
                nonce: line.get("nonce").unwrap_or_default().to_owned(),
            },
            "end" => Self::End,
            "look" => Self::Look,
            "words" => Self::Words {
                unit: line.get("unit").unwrap_or_default().to_owned(),
            },
            "mark" => Self::Mark {
                id: id.unwrap_or(0),
                folder: line.get("folder").unwrap_or_default().to_owned(),
            },
            "restart" => Self::Restart,
            "power-off" => Self::PowerOff,
            _ => match (id, Check::from_line(line.clone())) {
                (Some(id), check) => Self::Check { id, check },
                (None, _) => Self::Unknown(line),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_round_trip() {
        let some = |text: &str| Some(text.to_owned());
        let checks = [
            Check::UnitActive {
                unit: "a b.service".into(),
            },
            Check::UnitAbsent { unit: "x".into() },
            Check::UnitNotFailed { unit: "x".into() },
            Check::Reached { unit: "x".into() },
            Check::Listening {
                protocol: "tcp".into(),
                port: 22,
            },
            Check::Command {
                run: vec!["/usr/bin/true".into(), "a b".into(), String::new()],
                exit_code: 3,
                contains: some("x=y"),
                output: None,
                seconds: 7,
            },
            Check::FilePresent {
                path: "/etc/motd".into(),
                content: some("baked,\nnot patched\n"),
                contains: None,
                mode: some("0644"),
                owner: some("root"),
                group: None,
            },
            Check::FileAbsent { path: "/x".into() },
            Check::RootReadOnly,
            Check::RootReadable,
            Check::SecureBoot,
            Check::NoShell,
            Check::NoPackageManager,
            Check::Setuid {
                allowed: vec!["/usr/bin/su".into(), "/b".into()],
            },
            Check::CommandLine { word: "a=b".into() },
            Check::Module { name: "x".into() },
            Check::Sysctl {
                name: "kernel.x".into(),
                value: "1 2".into(),
            },
            Check::Journal,
            Check::Marker {
                folder: "/var".into(),
                present: true,
            },
        ];
        let orders = checks
            .into_iter()
            .enumerate()
            .map(|(id, check)| Order::Check {
                id: u32::try_from(id).unwrap(),
                check,
            })
            .chain([
                Order::Begin { nonce: "ab".into() },
                Order::End,
                Order::Look,
                Order::Words {
                    unit: "a b.service".into(),
                },
                Order::Mark {
                    id: 4,
                    folder: "/var".into(),
                },
                Order::Restart,
                Order::PowerOff,
            ]);
        for order in orders {
            let text = order.to_line().to_string();
            let read = Line::parse(&text).map(Order::from_line);
            assert_eq!(read, Some(order), "{text}");
        }
    }

    #[test]
    fn unknown_questions_keep_their_id() {
        let line = Line::new("future").with("k", "v").with("id", 7);
        let order = Order::from_line(line.clone());
        assert_eq!(
            order,
            Order::Check {
                id: 7,
                check: Check::Unknown(line)
            }
        );
        let line = Line::new("future");
        assert_eq!(Order::from_line(line.clone()), Order::Unknown(line));
    }
}
