//! What a manifest claims, checked against itself.
//!
//! Takes a manifest, gives problems and warnings; opens nothing. Signing refuses on the same
//! problems that verification reports, so nothing is signed that would not verify.

use std::collections::BTreeSet;

use baker_model::Manifest;
use baker_model::manifest::{FileRole, TestFact};
use baker_model::plan::TestPlan;

use crate::names;
use crate::report::{Problem, Warning};

/// The `what` of a waiver that excuses missing and failed tests.
pub(crate) const TESTS_WAIVER: &str = "tests";

/// What the check of a manifest gives.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<Warning>,
}

/// Checks everything that can be known from the manifest alone.
pub(crate) fn check(manifest: &Manifest) -> Findings {
    let mut findings = Findings::default();
    check_names(manifest, &mut findings.problems);
    check_root_hash(manifest, &mut findings.problems);
    check_certificates(manifest, &mut findings.problems);
    check_waivers(manifest, &mut findings);
    check_tests(manifest, &mut findings);
    check_hygiene(manifest, &mut findings.problems);
    match &manifest.source {
        None => findings.warnings.push(Warning::NoSource),
        Some(source) if source.dirty => findings.warnings.push(Warning::DirtySource {
            commit: source.commit.clone(),
        }),
        Some(_) => {}
    }
    findings
}

fn check_names(manifest: &Manifest, problems: &mut Vec<Problem>) {
    // Both become one component of the folder's name; neither may be a path by itself.
    for text in [&manifest.name, &manifest.version] {
        if let Some(why) = names::objection_to_component(text) {
            problems.push(Problem::UnsafeName {
                name: text.clone(),
                why,
            });
        }
    }
    let mut seen = BTreeSet::new();
    for file in &manifest.files {
        let name = file.name.clone();
        if let Some(why) = names::objection_to(&name) {
            problems.push(Problem::UnsafeName { name, why });
        } else if !seen.insert(&file.name) {
            problems.push(Problem::DuplicateName { name });
        }
    }
}

/// Every root hash on the command line must be the manifest's; the kernel and init take the last
/// of several, a person reads the first.
fn check_root_hash(manifest: &Manifest, problems: &mut Vec<Problem>) {
    let expected = manifest.root_hash;
    let mut found = manifest
        .command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.split_once('='))
        .filter(|(key, _)| *key == baker_contract::ROOT_HASH_KEY)
        .map(|(_, value)| value)
        .peekable();
    if found.peek().is_none() {
        problems.push(Problem::RootHash {
            expected,
            found: None,
        });
    }
    let text = expected.to_string();
    for value in found.filter(|value| *value != text) {
        problems.push(Problem::RootHash {
            expected,
            found: Some(value.to_owned()),
        });
    }
}

/// Each certificate is a file of the release with that very digest.
fn check_certificates(manifest: &Manifest, problems: &mut Vec<Problem>) {
    let Some(keys) = &manifest.secure_boot else {
        return;
    };
    for fact in [&keys.platform_key, &keys.exchange_key, &keys.database] {
        let there = manifest.files.iter().any(|file| {
            (file.role, &file.name, file.sha256) == (FileRole::Certificate, &fact.file, fact.sha256)
        });
        if !there {
            let name = fact.file.clone();
            problems.push(Problem::NoCertificate { name });
        }
    }
}

fn check_waivers(manifest: &Manifest, findings: &mut Findings) {
    for waiver in &manifest.waivers {
        let what = waiver.what.clone();
        if waiver.reason.trim().is_empty() {
            findings
                .problems
                .push(Problem::WaiverWithoutReason { what });
        } else {
            findings.warnings.push(Warning::Waived {
                what,
                reason: waiver.reason.clone(),
            });
        }
    }
}

/// What the hygiene gate found and nobody waived.
fn check_hygiene(manifest: &Manifest, problems: &mut Vec<Problem>) {
    let open = manifest.hygiene.iter().flat_map(|fact| &fact.open);
    problems.extend(open.map(|finding| Problem::Unclean {
        rule: finding.rule.clone(),
        path: finding.path.clone(),
    }));
}

/// Every plan must have passed, on this disk, with its evidence in the release. A waiver excuses
/// what was not shown, never what was shown on another disk or without evidence.
fn check_tests(manifest: &Manifest, findings: &mut Findings) {
    for fact in &manifest.tests {
        check_fact(manifest, fact, &mut findings.problems);
        if !fact.warnings.is_empty() {
            findings.warnings.push(Warning::TestWarned {
                test: fact.name.clone(),
                warnings: fact.warnings.clone(),
            });
        }
    }
    let failed = manifest
        .tests
        .iter()
        .filter(|fact| !fact.verdict.is_passed());
    let mut unproven: Vec<_> = failed
        .map(|fact| Problem::TestFailed {
            test: fact.name.clone(),
            verdict: fact.verdict.clone(),
        })
        .collect();
    let has_run = |title: &str| manifest.tests.iter().any(|fact| fact.name == title);
    let not_run = manifest
        .plans
        .iter()
        .map(|plan| plan.title())
        .filter(|title| !has_run(title));
    unproven.extend(not_run.map(|title| Problem::TestNotRun {
        test: title.to_owned(),
    }));
    if manifest.plans.is_empty() && manifest.tests.is_empty() {
        unproven.push(Problem::NoTests);
    }
    if manifest
        .waivers
        .iter()
        .any(|waiver| waiver.what == TESTS_WAIVER)
    {
        let excused = unproven
            .into_iter()
            .map(|problem| Warning::Excused { problem });
        findings.warnings.extend(excused);
    } else {
        findings.problems.extend(unproven);
    }
}

fn check_fact(manifest: &Manifest, fact: &TestFact, problems: &mut Vec<Problem>) {
    let mut plans = manifest.plans.iter();
    let plan = plans.find(|plan| plan.title() == fact.name);
    let role = plan.map_or(FileRole::Disk, TestPlan::booted);
    let is_disk = |disk| manifest.file(role).is_some_and(|file| file.sha256 == disk);
    if !is_disk(fact.disk) {
        let test = fact.name.clone();
        problems.push(Problem::TestOfAnotherDisk {
            test,
            disk: fact.disk,
        });
    }
    let mut evidence = manifest
        .files
        .iter()
        .filter(|file| file.role == FileRole::Evidence);
    if !evidence.any(|file| file.name == fact.evidence) {
        let (test, name) = (fact.name.clone(), fact.evidence.clone());
        problems.push(Problem::NoEvidence { test, name });
    }
}
