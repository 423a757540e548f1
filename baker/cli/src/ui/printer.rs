//! Writes to standard output and standard error; nobody else does.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use baker_vm::Evidence;
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;
use terminal_size::{Width, terminal_size_of};

use super::{errors, json, timeline};
use crate::exit::{Exit, Failure};

/// How answers and events are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Answer {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// How much is said on standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Talk {
    /// Stages, warnings, failures.
    #[default]
    Normal,
    /// Failures only.
    Quiet,
}

/// When talk is coloured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set or the terminal is dumb.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What the command line says about talking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// How answers are given.
    pub answer: Answer,
    /// How much is said.
    pub talk: Talk,
    /// When talk is coloured.
    pub colour: Colour,
}

/// What the process finds around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Surroundings {
    /// Standard error is a terminal that can move its cursor.
    terminal: bool,
    /// `NO_COLOR` is set and not empty (no-color.org).
    no_color: bool,
}

/// Whether labels are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// No escape sequences.
    Plain,
    /// ANSI colours.
    Coloured,
}

impl Paint {
    fn settle(colour: Colour, surroundings: Surroundings) -> Self {
        match colour {
            Colour::Always => Self::Coloured,
            Colour::Auto if surroundings.terminal && !surroundings.no_color => Self::Coloured,
            Colour::Auto | Colour::Never => Self::Plain,
        }
    }

    pub(super) fn error(self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn warning(self, text: &str) -> String {
        self.with("1;33", text)
    }

    pub(super) fn help(self, text: &str) -> String {
        self.with("36", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with("1;32", text)
    }

    pub(super) fn with(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// The two streams of the process, safe to use from any thread and beside progress bars.
pub struct Printer {
    data: Mutex<Box<dyn Write + Send>>,
    talk: Mutex<Box<dyn Write + Send>>,
    bars: Option<MultiProgress>,
    settings: Settings,
    paint: Paint,
    terminal: bool,
    reader_gone: AtomicBool,
}

impl Printer {
    /// A printer on the streams of this process.
    pub fn of_process(settings: Settings) -> Self {
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let surroundings = Surroundings {
            terminal: io::stderr().is_terminal() && !dumb,
            no_color: env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        };
        let (data, talk) = (Box::new(io::stdout()), Box::new(io::stderr()));
        Self::new(data, talk, settings, surroundings)
    }

    fn new(
        data: Box<dyn Write + Send>,
        talk: Box<dyn Write + Send>,
        settings: Settings,
        surroundings: Surroundings,
    ) -> Self {
        let has_bars = surroundings.terminal
            && settings.talk == Talk::Normal
            && settings.answer == Answer::Text;
        let target = has_bars.then(ProgressDrawTarget::stderr);
        Self {
            data: Mutex::new(data),
            talk: Mutex::new(talk),
            bars: target.map(MultiProgress::with_draw_target),
            settings,
            paint: Paint::settle(settings.colour, surroundings),
            terminal: surroundings.terminal,
            reader_gone: AtomicBool::new(false),
        }
    }

    /// How answers are to be given.
    pub fn answer(&self) -> Answer {
        self.settings.answer
    }

    /// Where bars are drawn; none when there are to be none.
    pub(super) fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_ref()
    }

    /// Writes a line of data. When nobody reads any more (`baker ... | head`), that is no error
    /// and further data is dropped.
    ///
    /// # Errors
    /// Standard output cannot be written for another reason: the answer would be lost.
    pub fn data(&self, line: &str) -> Result<(), Failure> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Writes bytes of data as they are.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        if self.reader_gone.load(Ordering::Relaxed) {
            return Ok(());
        }
        let write = || {
            let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
            data.write_all(bytes).and_then(|()| data.flush())
        };
        match self.beside_bars(write) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.reader_gone.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(Failure::new(Exit::Internal, error)
                .context("cannot write the answer to standard output")),
            Ok(()) => Ok(()),
        }
    }

    /// Writes one JSON object as a line of data.
    ///
    /// # Errors
    /// As [`Printer::data`], or the value has no JSON form.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(value).map_err(|error| {
            Failure::new(Exit::Internal, error).context("cannot write the answer as JSON")
        })?;
        self.data(&line)
    }

    /// Says a line, unless quiet.
    pub fn say(&self, line: &str) {
        if self.settings.talk == Talk::Normal {
            self.talk(&format!("{}\n", printable(line)));
        }
    }

    /// Writes a question and leaves the cursor behind it; said also when quiet, as an answer is
    /// waited for.
    pub(super) fn prompt(&self, text: &str) {
        self.talk(text);
    }

    /// Says how a test went, unless quiet: a chart on a terminal, lines elsewhere.
    pub fn test(&self, evidence: &Evidence) {
        if self.settings.talk == Talk::Normal && self.settings.answer == Answer::Text {
            let size = terminal_size_of(io::stderr()).filter(|_| self.terminal);
            let width = size.map(|(Width(width), _)| usize::from(width));
            self.talk(&timeline::render(evidence, width, self.paint));
        }
    }

    /// Says a warning, unless quiet.
    pub fn warn(&self, text: &str) {
        if self.settings.talk == Talk::Normal {
            self.talk(&format!(
                "{}: {}\n",
                self.paint.warning("warning"),
                printable(text)
            ));
        }
    }

    /// Tells a failure: always on standard error, and as an object on standard output when
    /// answers are JSON.
    pub fn failure(&self, failure: &Failure) {
        if self.settings.answer == Answer::Json {
            // The failure at hand is the one to exit with, not that it could not be told twice.
            drop(self.json(&json::failed(failure)));
        }
        self.talk(&errors::render(failure, self.paint));
    }

    /// Talk that cannot be written is dropped: there is nowhere left to say so.
    fn talk(&self, text: &str) {
        self.beside_bars(|| {
            let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
            drop(talk.write_all(text.as_bytes()).and_then(|()| talk.flush()));
        });
    }

    /// Takes the bars off the screen while something else is written to it.
    fn beside_bars<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

/// Control characters made visible: names from archives, manifests and consoles must not steer
/// the terminal of whoever reads about them.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;

    /// What was written to a stream of [`printer`].
    #[derive(Clone, Default)]
    pub(in crate::ui) struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        pub(in crate::ui) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Fails every write in one way.
    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const NOWHERE: Surroundings = Surroundings {
        terminal: false,
        no_color: false,
    };

    /// A printer on pages, away from any terminal.
    pub(in crate::ui) fn printer(settings: Settings) -> (Arc<Printer>, Page, Page) {
        let (data, talk) = (Page::default(), Page::default());
        let streams = (Box::new(data.clone()), Box::new(talk.clone()));
        (
            Arc::new(Printer::new(streams.0, streams.1, settings, NOWHERE)),
            data,
            talk,
        )
    }

    #[test]
    fn data_and_talk_go_their_own_ways() {
        let (printer, data, talk) = printer(Settings::default());
        printer.data("answer").unwrap();
        printer.say("hello \u{7}");
        printer.warn("odd");
        printer.failure(&Failure::message(Exit::Build, "broken"));
        assert_eq!(data.text(), "answer\n");
        assert_eq!(talk.text(), "hello \\u{7}\nwarning: odd\nerror: broken\n");
    }

    #[test]
    fn quiet_still_tells_failures_and_answers() {
        let settings = Settings {
            talk: Talk::Quiet,
            ..Settings::default()
        };
        let (printer, data, talk) = printer(settings);
        printer.say("hello");
        printer.warn("odd");
        printer.data("answer").unwrap();
        printer.failure(&Failure::message(Exit::Build, "broken"));
        assert_eq!(
            (data.text().as_str(), talk.text().as_str()),
            ("answer\n", "error: broken\n")
        );
    }

    #[test]
    fn a_failure_is_an_object_too_when_answers_are_json() {
        let settings = Settings {
            answer: Answer::Json,
            ..Settings::default()
        };
        let (printer, data, talk) = printer(settings);
        let failure = Failure::message(Exit::Fetch, "no mirror").context("cannot fetch");
        printer.failure(&failure.help("give one"));
        assert_eq!(
            data.text(),
            "{\"event\":\"failed\",\"exit\":4,\"family\":\"fetch\",\
             \"error\":[\"cannot fetch\",\"no mirror\"],\"help\":\"give one\"}\n"
        );
        assert!(talk.text().starts_with("error: cannot fetch\n"));
    }

    #[test]
    fn a_reader_that_left_is_no_error_but_a_full_disk_is() {
        let broken = |kind| {
            let talk = Box::new(Broken(kind));
            Printer::new(Box::new(Broken(kind)), talk, Settings::default(), NOWHERE)
        };
        let pipe = broken(io::ErrorKind::BrokenPipe);
        pipe.data("one").unwrap();
        pipe.data("two").unwrap();
        pipe.say("nobody hears");
        let full = broken(io::ErrorKind::StorageFull).data("one").unwrap_err();
        assert_eq!(full.exit, Exit::Internal);
    }

    #[test]
    fn colour_follows_flag_then_environment_then_terminal() {
        let at = |terminal, no_color| Surroundings { terminal, no_color };
        for (colour, surroundings, expected) in [
            (Colour::Auto, at(true, false), Paint::Coloured),
            (Colour::Auto, at(true, true), Paint::Plain),
            (Colour::Auto, at(false, false), Paint::Plain),
            (Colour::Always, at(false, true), Paint::Coloured),
            (Colour::Never, at(true, false), Paint::Plain),
        ] {
            assert_eq!(
                Paint::settle(colour, surroundings),
                expected,
                "{colour:?} {surroundings:?}"
            );
        }
    }
}
