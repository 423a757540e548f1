//! The objects of `--json`: one per line, each with the key `event`.
//!
//! Events of stages are those of [`baker_model::Event`] as they come; `finished` also has
//! `seconds`. At the end stand `timings`, `explained` when it was asked for, and, when it went wrong, `failed`.

use baker_model::Event;
use baker_model::event::Outcome;
use serde::Serialize;

use crate::exit::{Exit, Failure};

/// An event of a stage.
#[derive(Debug, Serialize)]
pub(super) struct StageEvent<'a> {
    /// What happened.
    #[serde(flatten)]
    pub(super) event: &'a Event,
    /// Seconds since the stage started, when it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds: Option<f64>,
}

/// How long each stage took.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "timings")]
pub(super) struct Timings<'a> {
    /// The stages in the order in which they started.
    pub(super) stages: Vec<Timing<'a>>,
    /// Seconds since the program started.
    pub(super) seconds: f64,
}

/// How long one stage took.
#[derive(Debug, Serialize)]
pub(super) struct Timing<'a> {
    pub(super) stage: &'a str,
    /// None when the stage did not end.
    pub(super) how: Option<Outcome>,
    pub(super) seconds: f64,
    pub(super) summary: &'a str,
}

/// Why the stages were done or not.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "explained")]
pub(super) struct Explanation<'a> {
    /// What changed since the last bake; none when there was none.
    pub(super) changed: Option<&'a [String]>,
    pub(super) stages: Vec<Explained<'a>>,
}

/// Why one stage was done or not.
#[derive(Debug, Serialize)]
pub(super) struct Explained<'a> {
    #[serde(flatten)]
    pub(super) timing: Timing<'a>,
    pub(super) why: &'static str,
}

/// Why it went wrong.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "failed")]
pub(super) struct Failed<'a> {
    exit: u8,
    family: Exit,
    error: Vec<String>,
    help: Option<&'a str>,
}

pub(super) fn failed(failure: &Failure) -> Failed<'_> {
    Failed {
        exit: failure.exit.code(),
        family: failure.exit,
        error: failure.causes(),
        help: failure.help.as_deref(),
    }
}
