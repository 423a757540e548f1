//! Questions to a person. Without a person at a terminal nothing is asked.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use baker_model::Interrupt;

use super::Printer;
use crate::exit::{Exit, Failure};

/// How often the wish to stop is looked at while a person thinks.
const GLANCE: Duration = Duration::from_millis(50);

/// Asks, or takes the default for the answer.
pub struct Questions<'a> {
    printer: &'a Printer,
    interrupt: &'a Interrupt,
    person: bool,
}

impl<'a> Questions<'a> {
    /// Asks when standard input and standard error are a terminal.
    pub fn of_process(printer: &'a Printer, interrupt: &'a Interrupt) -> Self {
        Self {
            printer,
            interrupt,
            person: io::stdin().is_terminal() && io::stderr().is_terminal(),
        }
    }

    /// Asks nothing from here on.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.person = false;
        self
    }

    /// The answer to a question. It is asked again as long as `check` refuses what is written.
    pub fn ask(
        &self,
        question: &str,
        default: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<String, Failure> {
        if !self.person {
            return Ok(default.to_owned());
        }
        loop {
            let shown = if default.is_empty() { "none" } else { default };
            self.printer.prompt(&format!("{question} [{shown}]: "));
            let Some(line) = self.line()? else {
                return Ok(default.to_owned());
            };
            let answer = match line.trim() {
                "" => default,
                answer => answer,
            };
            match check(answer) {
                Ok(()) => return Ok(answer.to_owned()),
                Err(problem) => self.printer.prompt(&format!("{problem}\n")),
            }
        }
    }

    /// One line; none at the end of the input. Reading cannot be interrupted, so it happens
    /// elsewhere, and is left behind when a person asks to stop.
    fn line(&self) -> Result<Option<String>, Failure> {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = io::stdin()
                .read_line(&mut line)
                .map(|length| (length, line));
            // Nobody listens any more when a person has asked to stop.
            drop(sender.send(read));
        });
        loop {
            match receiver.recv_timeout(GLANCE) {
                Ok(Ok((0, _))) => return Ok(None),
                Ok(Ok((_, line))) => return Ok(Some(line)),
                Ok(Err(error)) => return Err(Failure::new(Exit::Internal, error)),
                Err(RecvTimeoutError::Timeout) if self.interrupt.is_raised() => {
                    return Err(Failure::message(Exit::Interrupted, "interrupted"));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
    }
}
