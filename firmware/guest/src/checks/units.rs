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
    let mut text = match state.load.as_str() {
        "loaded" => String::new(),
        load => format!("{load}, "),
    };
    text.push_str(&format!("{} ({})", state.active, state.sub));
    if state.active != "inactive" {
        return text;
    }
    // Why nothing has started it.
    if matches!(state.file.as_str(), "disabled" | "masked" | "indirect") {
        text.push_str(&format!(", {}", state.file));
    }
    for condition in &state.unmet {
        text.push_str(&format!(", {condition} does not hold"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_nothing_started_tells_why() {
        let state = |active: &str, file: &str, unmet: &[&str]| UnitState {
            load: "loaded".into(),
            active: active.into(),
            sub: "dead".into(),
            file: file.into(),
            unmet: unmet.iter().map(|&it| it.into()).collect(),
        };
        let condition = "ConditionPathExists=/etc/a";
        assert_eq!(
            describe(&state("inactive", "enabled", &[])),
            "inactive (dead)"
        );
        assert_eq!(
            describe(&state("inactive", "disabled", &[condition])),
            "inactive (dead), disabled, ConditionPathExists=/etc/a does not hold"
        );
        assert_eq!(
            describe(&state("failed", "disabled", &[condition])),
            "failed (dead)"
        );
        let gone = UnitState {
            load: "not-found".into(),
            ..state("inactive", "", &[])
        };
        assert_eq!(describe(&gone), "not-found, inactive (dead)");
    }
}
