//! What the host can ask about the running system.

use crate::Line;

/// One question. It holds or it does not; [`crate::Report::Check`] answers with what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// This unit is active.
    UnitActive {
        /// Full unit name.
        unit: String,
    },
    /// systemd knows this unit and it has not failed.
    UnitNotFailed {
        /// Full unit name.
        unit: String,
    },
    /// systemd finds no such unit.
    UnitAbsent {
        /// Full unit name.
        unit: String,
    },
    /// Something listens on this port, on any address.
    Listening {
        /// `tcp` or `udp`.
        protocol: String,
        /// The port.
        port: u16,
    },
    /// A program, run as root without a shell, ends with this code and says this.
    Command {
        /// Absolute path and arguments.
        run: Vec<String>,
        /// Exit code wanted.
        exit_code: u8,
        /// Text that standard output contains.
        contains: Option<String>,
        /// Whole standard output, white space at both ends not counted.
        output: Option<String>,
        /// Seconds until it is killed and counts as failed.
        seconds: u32,
    },
    /// A file is there and is like this; what is none is not looked at.
    FilePresent {
        /// Absolute path.
        path: String,
        /// Whole content.
        content: Option<String>,
        /// Text in the content.
        contains: Option<String>,
        /// Permission bits with set-id and sticky, octal digits.
        mode: Option<String>,
        /// Owner, name or number.
        owner: Option<String>,
        /// Group, name or number.
        group: Option<String>,
    },
    /// Nothing is at this path.
    FileAbsent {
        /// Absolute path.
        path: String,
    },
    /// The root refuses writes.
    RootReadOnly,
    /// Every block of the device under `/` can be read: with dm-verity, every block is as built.
    /// Found is the number of bytes, or where it failed. A kernel that panics on corruption does
    /// so instead.
    RootReadable,
    /// The firmware enforces Secure Boot.
    SecureBoot,
    /// No file of the root is a shell.
    NoShell,
    /// No file of the root is a package manager.
    NoPackageManager,
    /// No file of the root beyond these has a set-user-id or set-group-id bit.
    Setuid {
        /// Absolute paths.
        allowed: Vec<String>,
    },
    /// `/proc/cmdline` holds this word.
    CommandLine {
        /// The word.
        word: String,
    },
    /// This module is loaded or built in.
    Module {
        /// Its name, `-` and `_` alike.
        name: String,
    },
    /// A kernel parameter has this value.
    Sysctl {
        /// Name with dots.
        name: String,
        /// Value, runs of white space alike.
        value: String,
    },
    /// The journal of this boot can be read; each entry at priority err or worse is told in a
    /// [`crate::Report::Finding`], as `UNIT: MESSAGE`. Whether one is excused is for the host to
    /// say. Does not hold when not all of them could be told.
    Journal,
    /// This unit has become active; found is the time in milliseconds since the kernel started,
    /// digits only.
    Reached {
        /// Full unit name.
        unit: String,
    },
    /// The marker of this run is in this folder, or is not.
    Marker {
        /// Absolute path of the folder.
        folder: String,
        /// Whether it must be there.
        present: bool,
    },
    /// A question that this version does not know.
    Unknown(Line),
}

impl Check {
    /// The words and fields on the wire, without the order's id.
    pub(crate) fn to_line(&self) -> Line {
        let unit = |word: &str, unit: &String| Line::new(word).with("unit", unit);
        match self {
            Self::UnitActive { unit: name } => unit("unit-active", name),
            Self::UnitNotFailed { unit: name } => unit("unit-not-failed", name),
            Self::UnitAbsent { unit: name } => unit("unit-absent", name),
            Self::Reached { unit: name } => unit("reached", name),
            Self::Listening { protocol, port } => Line::new("listening")
                .with("protocol", protocol)
                .with("port", port),
            Self::Command {
                run,
                exit_code,
                contains,
                output,
                seconds,
            } => all(Line::new("command"), "run", run)
                .with("exit-code", exit_code)
                .with("seconds", seconds)
                .with_some("contains", contains.as_deref())
                .with_some("output", output.as_deref()),
            Self::FilePresent {
                path,
                content,
                contains,
                mode,
                owner,
                group,
            } => Line::new("file-present")
                .with("path", path)
                .with_some("content", content.as_deref())
                .with_some("contains", contains.as_deref())
                .with_some("mode", mode.as_deref())
                .with_some("owner", owner.as_deref())
                .with_some("group", group.as_deref()),
            Self::FileAbsent { path } => Line::new("file-absent").with("path", path),
            Self::RootReadOnly => Line::new("root-read-only"),
            Self::RootReadable => Line::new("root-readable"),
            Self::SecureBoot => Line::new("secure-boot"),
            Self::NoShell => Line::new("no-shell"),
            Self::NoPackageManager => Line::new("no-package-manager"),
            Self::Setuid { allowed } => all(Line::new("setuid"), "allowed", allowed),
            Self::CommandLine { word } => Line::new("command-line").with("word", word),
            Self::Module { name } => Line::new("module").with("name", name),
            Self::Sysctl { name, value } => {
                Line::new("sysctl").with("name", name).with("value", value)
            }
            Self::Journal => Line::new("journal"),
            Self::Marker { folder, present } => Line::new("marker")
                .with("folder", folder)
                .with("present", present),
            Self::Unknown(line) => line.clone(),
        }
    }

    /// The meaning of a line whose word is that of a question; `Unknown` when it is not.
    pub(crate) fn from_line(line: Line) -> Self {
        let text = |key: &str| line.get(key).unwrap_or_default().to_owned();
        let some = |key: &str| line.get(key).map(str::to_owned);
        let number = |key: &str| line.get(key).and_then(|value| value.parse().ok());
        match line.word.as_str() {
            "unit-active" => Self::UnitActive { unit: text("unit") },
            "unit-not-failed" => Self::UnitNotFailed { unit: text("unit") },
            "unit-absent" => Self::UnitAbsent { unit: text("unit") },
            "reached" => Self::Reached { unit: text("unit") },
            "listening" => Self::Listening {
                protocol: text("protocol"),
                port: number("port").unwrap_or(0),
            },
            "command" => Self::Command {
                run: line.all("run"),
                exit_code: line
                    .get("exit-code")
                    .and_then(|code| code.parse().ok())
                    .unwrap_or(0),
                contains: some("contains"),
                output: some("output"),
                seconds: line
                    .get("seconds")
                    .and_then(|seconds| seconds.parse().ok())
                    .unwrap_or(30),
            },
            "file-present" => Self::FilePresent {
                path: text("path"),
                content: some("content"),
                contains: some("contains"),
                mode: some("mode"),
                owner: some("owner"),
                group: some("group"),
            },
            "file-absent" => Self::FileAbsent { path: text("path") },
            "root-read-only" => Self::RootReadOnly,
            "root-readable" => Self::RootReadable,
            "secure-boot" => Self::SecureBoot,
            "no-shell" => Self::NoShell,
            "no-package-manager" => Self::NoPackageManager,
            "setuid" => Self::Setuid {
                allowed: line.all("allowed"),
            },
            "command-line" => Self::CommandLine { word: text("word") },
            "module" => Self::Module { name: text("name") },
            "sysctl" => Self::Sysctl {
                name: text("name"),
                value: text("value"),
            },
            "journal" => Self::Journal,
            "marker" => Self::Marker {
                folder: text("folder"),
                present: line.get("present") == Some("true"),
            },
            _ => Self::Unknown(line),
        }
    }
}

fn all(mut line: Line, key: &str, values: &[String]) -> Line {
    for value in values {
        line = line.with(key, value);
    }
    line
}
