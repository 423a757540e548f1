//! Questions about units of systemd.

use std::io;

use super::{Answer, failed};
use crate::systemd::{Systemd, UnitState};

/// The unit is active.
pub fn active(unit: &str) -> Result<Answer, String> {
    state(unit).map(|state| Answer::new(state.active == "active", describe(&state)))
}

/// systemd knows the unit and it has not failed.
pub fn not_failed(unit: &str) -> Result<Answer, String> {
    state(unit).map(|state| {
        let holds = state.load == "loaded" && state.active != "failed";
        Answer::new(holds, describe(&state))
    })
}

/// systemd finds no such unit.
pub fn absent(unit: &str) -> Result<Answer, String> {
    state(unit).map(|state| Answer::new(state.load == "not-found", describe(&state)))
}

/// The unit has become active; found is when, in milliseconds.
pub fn reached(unit: &str) -> Result<Answer, String> {
    let since = ask(unit, |systemd| systemd.active_since(unit))?;
    Ok(match since {
        Some(microseconds) => Answer::new(true, microseconds / 1000),
        None => Answer::no("never active"),
    })
}

fn state(unit: &str) -> Result<UnitState, String> {
    ask(unit, |systemd| systemd.unit(unit))
}

fn ask<T>(unit: &str, question: impl FnOnce(&mut Systemd) -> io::Result<T>) -> Result<T, String> {
    Systemd::connect()
        .and_then(|mut systemd| question(&mut systemd))
        .map_err(failed(format!("asking systemd about {unit}")))
}

fn describe(state: &UnitState) -> String {
    let UnitState { load, active, sub } = state;
    match load.as_str() {
        "loaded" => format!("{active} ({sub})"),
        _ => format!("{load}, {active} ({sub})"),
    }
}
