//! How baker ends: the documented exit codes, and the failure that leads to one.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

/// Exit codes, one per family of failure. They are part of the command line's promise: a code
/// never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// 0: everything asked for was done.
    Success = 0,
    /// 1: a fault of baker itself, or of the system below it.
    Internal = 1,
    /// 2: the command line or the config file is wrong.
    Usage = 2,
    /// 3: the recipe is wrong.
    Recipe = 3,
    /// 4: the lock is missing or old, or an input cannot be had or is not what the lock says.
    Fetch = 4,
    /// 5: the image cannot be built.
    Build = 5,
    /// 6: the image was booted and failed its test.
    Smoke = 6,
    /// 7: a release is not what it says, or nobody trusted signed it.
    Verify = 7,
    /// 8: the release cannot be signed, published or deployed.
    Publish = 8,
    /// 9: something that baker needs is missing on this machine: QEMU, firmware, a tool.
    Environment = 9,
    /// 10: a drill damaged a release and nobody noticed.
    Drill = 10,
    /// 11: something is in the image that must not be there, and nobody waived it.
    Hygiene = 11,
    /// 12: `baker diff --exit-code` found differences. Not 1 as of diff(1): that is a fault here,
    /// and a script must be able to tell the two apart.
    Different = 12,
    /// 130: interrupted by a person (128 + SIGINT, as shells count).
    Interrupted = 130,
}

impl Exit {
    /// The number that the process ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What a command returns when it cannot do what was asked: how to exit, why, and what mends it.
#[derive(Debug)]
pub struct Failure {
    /// The family of the failure.
    pub exit: Exit,
    /// What was being done, and below it the causes.
    pub error: anyhow::Error,
    /// What a person can do about it, best with the very command.
    pub help: Option<String>,
}

impl Failure {
    /// A failure because of `error`.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
            help: None,
        }
    }

    /// A failure that has no deeper cause than what is said here.
    pub fn message(exit: Exit, text: impl fmt::Display) -> Self {
        Self::new(exit, anyhow::Error::msg(text.to_string()))
    }

    /// The same failure while doing something larger.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.error = self.error.context(doing.to_string());
        self
    }

    /// The same failure with its mend.
    #[must_use]
    pub fn help(mut self, mend: impl Into<String>) -> Self {
        self.help = Some(mend.into());
        self
    }

    /// The same failure, with its mend when there is one.
    #[must_use]
    pub fn help_if(self, mend: Option<impl Into<String>>) -> Self {
        match mend {
            Some(mend) => self.help(mend),
            None => self,
        }
    }

    /// What was being done and the causes, outermost first. A layer that only repeats the one
    /// above it is left out.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        for layer in self.error.chain() {
            let text = layer.to_string().trim_end().to_owned();
            if causes.last() != Some(&text) {
                causes.push(text);
            }
        }
        causes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let codes = [
            (Exit::Success, 0),
            (Exit::Internal, 1),
            (Exit::Usage, 2),
            (Exit::Recipe, 3),
            (Exit::Fetch, 4),
            (Exit::Build, 5),
            (Exit::Smoke, 6),
            (Exit::Verify, 7),
            (Exit::Publish, 8),
            (Exit::Environment, 9),
            (Exit::Drill, 10),
            (Exit::Hygiene, 11),
            (Exit::Different, 12),
            (Exit::Interrupted, 130),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn a_failure_tells_the_act_first_and_repeats_nothing() {
        let inner = std::io::Error::other("disk on fire");
        let failure = Failure::new(Exit::Build, inner)
            .context("disk on fire")
            .context("cannot write the disk")
            .help("buy another");
        assert_eq!(failure.causes(), ["cannot write the disk", "disk on fire"]);
        assert_eq!(failure.help.as_deref(), Some("buy another"));
        let plain = Failure::message(Exit::Usage, "no such recipe");
        assert_eq!(plain.causes(), ["no such recipe"]);
    }
}
