//! What the stages say while they work, and how they are asked to stop.

use std::sync::atomic::{AtomicBool, Ordering};

/// Something that happened in a stage. Stages never print; `cli/ui` turns events into bars,
/// lines or JSON.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A stage begins.
    Started {
        /// Stage name, as in DESIGN's table.
        stage: &'static str,
        /// Units of work expected (bytes, packages); none when unknown.
        total: Option<u64>,
        /// What the units are: `bytes`, `packages`, `files`.
        unit: &'static str,
    },
    /// More units are done.
    Advanced {
        /// Stage name.
        stage: &'static str,
        /// Units since the last such event.
        by: u64,
    },
    /// A line worth showing with the running stage: the package at hand, a mirror that is slow.
    Note {
        /// Stage name.
        stage: &'static str,
        /// One line, no full stop.
        text: String,
    },
    /// Something that does not stop the work but that a person should know.
    Warning {
        /// Stage name.
        stage: &'static str,
        /// One line that says what is odd and what mends it.
        text: String,
    },
    /// A stage has ended well.
    Finished {
        /// Stage name.
        stage: &'static str,
        /// How it came by its result.
        how: Outcome,
        /// One line about the result (`212 files, 48 MiB`).
        summary: String,
    },
}

/// How a stage came by its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The work was done now.
    Done,
    /// A stored result had the same inputs.
    Reused,
}

/// Takes events; called from any thread.
pub trait Listener: Sync {
    /// Takes one event; must return quickly and never fail.
    fn event(&self, event: Event);
}

/// Drops all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Listener for Silent {
    fn event(&self, _: Event) {}
}

/// Set once when a person asks to stop; long work looks at it and ends with an error.
#[derive(Debug, Default)]
pub struct Interrupt(AtomicBool);

impl Interrupt {
    /// Nobody has asked yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Asks all work that looks here to stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True when the work should stop.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
