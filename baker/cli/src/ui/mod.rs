//! The only part of baker that talks to a person or a program at the terminal.
//!
//! Standard output is data, standard error is talk. Stages send events, commands return values
//! and failures; how they look is decided here.

mod errors;
mod json;
mod printer;
mod progress;
mod timeline;

use std::process::ExitCode;

pub use printer::{Answer, Colour, Printer, Settings, Talk};
pub use progress::Progress;

use crate::exit::Failure;

/// Reports a failure that came before the printer was set up, and gives the exit code.
pub fn report_without_context(failure: &Failure) -> ExitCode {
    Printer::of_process(Settings::default()).failure(failure);
    failure.exit.into()
}
