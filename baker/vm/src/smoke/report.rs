//! From a run to the evidence of each plan.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use baker_contract::Report;
use baker_model::plan::{Neighbour, ProbeWay};
use baker_model::{Digest, Verdict};

use super::prepare::cpu;
use super::{Run, SmokeError, SmokeRequest, unless_changed};
use crate::arguments::shell_line;
use crate::evidence::{
    EVIDENCE_VERSION, Evidence, GuestFacts, Mark, Retry, UnitFact, milliseconds,
};
use crate::judge::{Judge, Ruling};
use crate::machine::{Attachment, Machine};
use crate::neighbour::log_name;
use crate::session::Outcome;

/// Titles of all plans of a request.
pub(super) fn titles(request: &SmokeRequest<'_>) -> String {
    let titles: Vec<&str> = request.tests.iter().map(|test| test.plan.title()).collect();
    titles.join(", ")
}

/// One line about all verdicts.
pub(super) fn summary(evidence: &[Evidence]) -> String {
    let parts = evidence.iter().map(|evidence| {
        let seconds = Duration::from_millis(evidence.milliseconds).as_secs_f64();
        let title = evidence.plan.title();
        format!("{title}: {} after {seconds:.1} s", evidence.verdict)
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// A failed plan of the run, if there is one.
pub(super) fn worst(outcome: &Outcome) -> Option<&Ruling> {
    let rulings = outcome
        .judge
        .cases()
        .iter()
        .filter_map(|case| case.ruling());
    let mut failed = rulings.filter(|ruling| ruling.verdict != Verdict::Passed);
    failed.next()
}

/// Copies the logs into the folder of every plan, so that each can be read by itself.
pub(super) fn share_logs(
    works: &[PathBuf],
    neighbours: &[Neighbour],
    run: &Run,
    retries: &[Retry],
) -> Result<(), SmokeError> {
    let [first, others @ ..] = works else {
        return Ok(());
    };
    let earlier = retries.iter().map(|retry| &retry.serial_log);
    let names = [&run.logs.serial, &run.logs.qemu];
    let picture = run.outcome.pictured.then_some(&run.logs.screenshot);
    let neighbours: Vec<String> = neighbours.iter().map(|it| log_name(&it.name)).collect();
    let names = names.into_iter().chain(picture).chain(earlier);
    for name in names.chain(&neighbours) {
        for work in others {
            let path = work.join(name);
            fs::copy(first.join(name), &path)
                .map_err(|source| SmokeError::Copy { path, source })?;
        }
    }
    Ok(())
}

/// The evidence of each plan, in their order.
pub(super) fn evidence(
    request: &SmokeRequest<'_>,
    machine: &Machine,
    way: ProbeWay,
    run: &Run,
    retries: &[Retry],
    [before, after]: [Digest; 2],
) -> Vec<Evidence> {
    let outcome = &run.outcome;
    let judge = &outcome.judge;
    let program = request.qemu.program.as_os_str();
    let words = std::iter::once(program).chain(outcome.argv.iter().map(|word| word.as_os_str()));
    let argv: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let number = judge.boots().count().try_into().unwrap_or(u32::MAX);
    let pairs = request.tests.iter().zip(judge.cases()).enumerate();
    let evidence = pairs.filter_map(|(place, (test, case))| {
        let ruling = case.ruling()?;
        Some(Evidence {
            evidence_version: EVIDENCE_VERSION,
            plan: test.plan.clone(),
            verdict: unless_changed(&ruling.verdict, before, after),
            milliseconds: milliseconds(ruling.at),
            timeline: timeline(judge),
            accelerator: request.accelerator.clone(),
            qemu_version: request.qemu.version.to_string(),
            argv: argv.clone(),
            command: shell_line(&request.qemu.program, &machine.argv(Attachment::Terminal)),
            nonce: run.nonce.clone(),
            root_hash: request.subject.root_hash,
            probe: way,
            guest: guest(judge),
            checks: case.facts(number),
            failed_units: failed_units(judge),
            detection_milliseconds: milliseconds(ruling.at.saturating_sub(ruling.event)),
            screenshot: outcome.pictured.then(|| run.logs.screenshot.clone()),
            attempts: judge.attempts().to_vec(),
            shared_with: others(request, place),
            disk_before: before,
            disk_after: after,
            shutdown: outcome.shutdown,
            serial_log: run.logs.serial.clone(),
            qemu_log: run.logs.qemu.clone(),
            retries: retries.to_vec(),
            warnings: warnings(request, outcome),
        })
    });
    evidence.collect()
}

fn others(request: &SmokeRequest<'_>, place: usize) -> Vec<String> {
    let tests = request.tests.iter().enumerate();
    let others = tests.filter(|(other, _)| *other != place);
    others
        .map(|(_, test)| test.plan.title().to_owned())
        .collect()
}

fn timeline(judge: &Judge) -> Vec<Mark> {
    let marks = judge.boots().flat_map(|boot| {
        boot.phases.iter().map(|(phase, at)| Mark {
            phase: phase.name().to_owned(),
            milliseconds: milliseconds(*at),
            boot: boot.number,
        })
    });
    marks.collect()
}

/// What the guest said in the last boot in which it spoke.
fn guest(judge: &Judge) -> Option<GuestFacts> {
    let boot = judge.boots().filter(|boot| boot.hello.is_some()).last()?;
    let Some(Report::Hello {
        root_hash,
        kernel,
        secure_boot,
        ..
    }) = &boot.hello
    else {
        return None;
    };
    let (state, memory_kib, settled_ms) = match &boot.done {
        Some(Report::Done {
            state,
            memory_kib,
            uptime_ms,
            ..
        }) => (state.clone(), *memory_kib, *uptime_ms),
        _ => (String::new(), 0, 0),
    };
    Some(GuestFacts {
        kernel: kernel.clone(),
        secure_boot: secure_boot.clone(),
        root_hash: root_hash.clone(),
        state,
        memory_kib,
        settled_ms,
    })
}

fn failed_units(judge: &Judge) -> Vec<UnitFact> {
    let units = judge.boots().flat_map(|boot| {
        let known = |unit: &String| !boot.failed_units.contains_key(unit);
        let doubtful = boot.doubtful.iter().filter(move |(unit, _)| known(unit));
        let doubtful = doubtful.map(|(unit, &state)| (unit, state));
        let failed = boot.failed_units.iter();
        let failed = failed.map(|(unit, result)| (unit, result.as_str()));
        let units = failed.chain(doubtful);
        units.map(|(unit, result)| (unit, result, boot.last_words.get(unit)))
    });
    let mut facts: Vec<UnitFact> = units
        .map(|(unit, result, said)| UnitFact {
            unit: unit.clone(),
            result: result.to_owned(),
            said: said.map_or_else(Vec::new, |text| text.lines().map(str::to_owned).collect()),
        })
        .collect();
    facts.sort_by(|left, right| left.unit.cmp(&right.unit));
    facts.dedup();
    facts
}

fn warnings(request: &SmokeRequest<'_>, outcome: &Outcome) -> Vec<String> {
    let mut warnings = outcome.warnings.clone();
    warnings.extend(cpu(request).warning);
    let strangers = outcome.judge.strangers();
    if strangers > 0 {
        let text = format!("{strangers} lines on the probe's port did not carry this run's nonce");
        warnings.push(text);
    }
    warnings
}
