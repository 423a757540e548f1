//! The answers to the host's questions.
//!
//! Takes a [`Check`]; gives whether it holds and what was found. Leaves the system as it is; only
//! [`Checks::mark`] writes, where the host says.

mod command;
mod files;
mod journal;
mod kernel;
mod marker;
mod names;
mod network;
mod root;
mod secure_boot;
mod survey;
mod units;

use std::fmt::Display;

use baker_contract::Check;

use survey::Survey;

pub use journal::last_words;
pub use secure_boot::secure_boot;

/// Told what a check that takes long has done so far.
pub type Progress<'a> = &'a dyn Fn(&str);

/// The longest text that is told of one thing, in bytes.
const TEXT_LIMIT: usize = 2048;

/// Offenders that are told by name.
const NAMED: usize = 32;

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub found: String,
    /// What the host judges one by one.
    pub findings: Vec<String>,
}

impl Answer {
    fn new(holds: bool, found: impl Display) -> Self {
        Self {
            holds,
            found: cut(&found.to_string(), TEXT_LIMIT),
            findings: Vec::new(),
        }
    }

    /// It does not hold, for this reason.
    fn no(found: impl Display) -> Self {
        Self::new(false, found)
    }

    /// Holds when there is nothing in the list.
    fn none_of(offenders: &[String], kind: &str) -> Self {
        if offenders.is_empty() {
            return Self::new(true, format!("no {kind}"));
        }
        let named = offenders[..offenders.len().min(NAMED)].join(" ");
        let more = match offenders.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Self::no(format!("{named}{more}"))
    }
}

impl From<Result<Answer, String>> for Answer {
    /// A question whose answer cannot be had does not hold.
    fn from(result: Result<Self, String>) -> Self {
        result.unwrap_or_else(Self::no)
    }
}

/// The answer to what this version does not know.
pub fn unknown(word: &str) -> Answer {
    Answer::no(format!("the probe does not know the order `{word}`"))
}

/// Answers questions; keeps what several of them need.
pub struct Checks {
    nonce: String,
    survey: Option<Survey>,
}

impl Checks {
    /// For the run with this nonce.
    pub fn new(nonce: String) -> Self {
        Self {
            nonce,
            survey: None,
        }
    }

    /// Writes the marker of this run.
    pub fn mark(&self, folder: &str) -> Answer {
        marker::write(folder, &self.nonce).into()
    }

    /// Answers one question.
    pub fn answer(&mut self, check: &Check, progress: Progress<'_>) -> Answer {
        match check {
            Check::UnitActive { unit } => units::active(unit).into(),
            Check::UnitNotFailed { unit } => units::not_failed(unit).into(),
            Check::UnitAbsent { unit } => units::absent(unit).into(),
            Check::Reached { unit } => units::reached(unit).into(),
            Check::Listening { protocol, port } => network::listening(protocol, *port).into(),
            Check::Command { .. } => command::check(check, progress).into(),
            Check::FilePresent { .. } => files::present(check).into(),
            Check::FileAbsent { path } => files::absent(path),
            Check::RootReadOnly => root::read_only().into(),
            Check::RootReadable => root::readable(progress).into(),
            Check::SecureBoot => secure_boot::check(),
            Check::NoShell => self.survey(progress).no_shell(),
            Check::NoPackageManager => self.survey(progress).no_package_manager(),
            Check::Setuid { allowed } => self.survey(progress).set_id(allowed),
            Check::CommandLine { word } => kernel::command_line(word).into(),
            Check::Module { name } => kernel::module(name),
            Check::Sysctl { name, value } => kernel::parameter(name, value).into(),
            Check::Journal => journal::errors(progress).into(),
            Check::Marker { folder, present } => {
                marker::check(folder, &self.nonce, *present).into()
            }
            Check::Unknown(line) => unknown(&line.word),
        }
    }

    /// One walk serves all questions about the files of the root.
    fn survey(&mut self, progress: Progress<'_>) -> &Survey {
        self.survey.get_or_insert_with(|| Survey::of_root(progress))
    }
}

/// At most `limit` bytes of a text, whole characters only; says so when it cuts.
fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{} ...", &text[..text.floor_char_boundary(limit)])
}

/// What was being done, and why it failed.
fn failed(what: impl Display) -> impl FnOnce(std::io::Error) -> String {
    move |error| format!("{what}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("aü", 3), "aü");
        assert_eq!(cut("aüb", 2), "a ...");
        let many: Vec<String> = (0..40).map(|number| format!("/{number}")).collect();
        let answer = Answer::none_of(&many, "shell");
        assert!(!answer.holds);
        assert!(answer.found.ends_with("/31 and 8 more"), "{}", answer.found);
        assert!(Answer::none_of(&[], "shell").holds);
    }

    #[test]
    fn what_is_not_known_does_not_hold() {
        let line = baker_contract::Line::new("future");
        let answer = Checks::new(String::new()).answer(&Check::Unknown(line), &|_| {});
        assert!(!answer.holds);
        assert!(answer.found.contains("`future`"));
    }
}
