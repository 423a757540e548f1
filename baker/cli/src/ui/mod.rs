//! The only part of baker that talks to a person or a program at the terminal.
//!
//! Standard output is data, standard error is talk. Stages send events, commands return values
//! and failures; how they look is decided here.

pub mod changes;
mod difference;
mod errors;
mod gantt;
mod json;
mod printer;
mod progress;
mod question;
mod survey;
mod timeline;
mod why;

use std::process::ExitCode;

pub use difference::difference_text;
pub use printer::{Answer, Colour, Printer, Settings, Talk, printable};
pub use progress::Progress;
pub use question::Questions;
pub use survey::survey_text;

use crate::exit::Failure;

/// Reports a failure that came before the printer was set up, and gives the exit code.
pub fn report_without_context(failure: &Failure) -> ExitCode {
    Printer::of_process(Settings::default()).failure(failure);
    failure.exit.into()
}
