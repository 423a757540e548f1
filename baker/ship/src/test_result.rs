//! What the tests of a release said, as an in-toto test-result statement
//! (<https://in-toto.io/attestation/test-result/v0.1>).
//!
//! The statement follows from the manifest and nothing else: signing writes it, verification makes
//! it again and compares. It lies beside the manifest's signatures and not among the files that
//! the manifest names, so that keys can sign later, or elsewhere, without changing the manifest.
//!
//! Keys that begin with `baker_` are extensions, which the specification allows
//! (`spec/v1/README.md`, "Parsing rules"); leaving them out never makes a result look better.

use baker_model::manifest::{FileRole, TestFact};
use baker_model::plan::TestPlan;
use baker_model::{Digest, Manifest};
use serde::{Deserialize, Serialize};

use crate::dsse::{Answer, Envelope, IN_TOTO};
use crate::report::{Problem, Report, chain};
use crate::statement::{Resource, Statement};
use crate::trust::Trust;

/// The type of the predicate.
pub const TEST_RESULT_TYPE: &str = "https://in-toto.io/attestation/test-result/v0.1";

/// The predicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestResult {
    /// The result of all tests together.
    pub result: Outcome,
    /// What the run was configured by: recipe and lock.
    pub configuration: Vec<Resource>,
    /// Tests that passed without warnings.
    #[serde(default)]
    pub passed_tests: Vec<String>,
    /// Tests that passed with warnings.
    #[serde(default)]
    pub warned_tests: Vec<String>,
    /// Tests that failed.
    #[serde(default)]
    pub failed_tests: Vec<String>,
    /// Tests of the plan that did not run.
    #[serde(rename = "baker_missingTests", default)]
    pub missing_tests: Vec<String>,
    /// Why tests were waived.
    #[serde(rename = "baker_waivers", default)]
    pub waivers: Vec<String>,
    /// dm-verity root hash that each guest had to show.
    #[serde(rename = "baker_rootHash", default)]
    pub root_hash: Option<Digest>,
    /// The evidence of the tests.
    #[serde(rename = "baker_evidence", default)]
    pub evidence: Vec<Resource>,
}

/// The result of a run of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// Every test of the plan ran and passed without warnings.
    Passed,
    /// None failed, but some had warnings or did not run.
    Warned,
    /// Some failed.
    Failed,
}

/// The statement that a release with this manifest carries.
#[must_use]
pub fn statement(manifest: &Manifest) -> Statement<TestResult> {
    let files = |wanted: &dyn Fn(FileRole) -> bool| -> Vec<Resource> {
        let files = manifest.files.iter().filter(|file| wanted(file.role));
        files.map(Resource::of_file).collect()
    };
    let tests = |wanted: fn(&TestFact) -> bool| -> Vec<String> {
        let facts = manifest.tests.iter().filter(|fact| wanted(fact));
        facts.map(|fact| fact.name.clone()).collect()
    };
    let failed_tests = tests(|fact| !fact.verdict.is_passed());
    let warned_tests = tests(|fact| fact.verdict.is_passed() && !fact.warnings.is_empty());
    let passed_tests = tests(|fact| fact.verdict.is_passed() && fact.warnings.is_empty());
    let has_run = |title: &str| manifest.tests.iter().any(|fact| fact.name == title);
    let titles = manifest.plans.iter().map(|plan| plan.title());
    let missing_tests: Vec<String> = titles
        .filter(|title| !has_run(title))
        .map(str::to_owned)
        .collect();
    let result = if !failed_tests.is_empty() {
        Outcome::Failed
    } else if warned_tests.is_empty() && missing_tests.is_empty() && !passed_tests.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Warned
    };
    let waivers = manifest.waivers.iter();
    let waivers = waivers
        .filter(|waiver| waiver.what == crate::claims::TESTS_WAIVER)
        .map(|waiver| waiver.reason.clone());
    let predicate = TestResult {
        result,
        configuration: files(&|role| matches!(role, FileRole::Recipe | FileRole::Lock)),
        passed_tests,
        warned_tests,
        failed_tests,
        missing_tests,
        waivers: waivers.collect(),
        root_hash: Some(manifest.root_hash),
        evidence: files(&|role| role == FileRole::Evidence),
    };
    // Other forms of the disk count only when a test boots them.
    let formats: Vec<FileRole> = manifest.plans.iter().map(TestPlan::booted).collect();
    let subjects = files(&|role| is_booted(role) || formats.contains(&role));
    Statement::new(subjects, TEST_RESULT_TYPE, predicate)
}

/// True for what a test boots: the disk, and what is in it when it also stands alone.
const fn is_booted(role: FileRole) -> bool {
    matches!(
        role,
        FileRole::Disk
            | FileRole::Uki
            | FileRole::Root
            | FileRole::RootVerity
            | FileRole::Kernel
            | FileRole::Initrd
    )
}

/// The statement of a release, not yet signed.
pub(crate) fn envelope(manifest: &Manifest) -> Envelope {
    Envelope::new(IN_TOTO, statement(manifest).to_bytes())
}

/// Checks the bytes of the statement's file against the manifest and whom we trust.
pub(crate) fn check(bytes: &[u8], manifest: &Manifest, trust: &Trust, report: &mut Report) {
    let unusable = |cause: String| Problem::BadTestResult { cause };
    let envelope = match Envelope::parse(bytes) {
        Ok(envelope) => envelope,
        Err(error) => return report.problems.push(unusable(chain(&error))),
    };
    if envelope.to_bytes() != bytes {
        let cause = "it is not written as baker writes it; the file was changed";
        report.problems.push(unusable(cause.to_owned()));
    }
    check_signers(&envelope, trust, &mut report.problems);
    if envelope.payload_type() != IN_TOTO {
        let cause = format!("its payload is of type `{}`", envelope.payload_type());
        report.problems.push(unusable(cause));
    }
    let expected = statement(manifest);
    if envelope.payload() == expected.to_bytes() {
        return;
    }
    match serde_json::from_slice(envelope.payload()) {
        Ok(found) => report.problems.push(Problem::OtherTestResult {
            what: difference(&expected, &found),
        }),
        Err(error) => report.problems.push(unusable(chain(&error))),
    }
}

fn check_signers(envelope: &Envelope, trust: &Trust, problems: &mut Vec<Problem>) {
    let (mut good, mut unknown, mut forged) = (0, Vec::new(), false);
    for answer in envelope.answers(trust) {
        match answer {
            Answer::Good { named: true, .. } => good += 1,
            Answer::Good { signer, .. } => problems.push(Problem::BadTestResult {
                cause: format!("a signature of `{}` names another key", signer.name),
            }),
            Answer::Forged(signer) => {
                forged = true;
                problems.push(Problem::ForgedTestResult {
                    name: signer.name,
                    key_id: signer.key_id,
                });
            }
            Answer::Unknown(key_id) => unknown.push(key_id),
        }
    }
    if good < trust.threshold().get() && !forged && !trust.is_empty() {
        problems.push(Problem::TestResultNotTrusted { key_ids: unknown });
    }
}

/// The first thing that two statements say differently.
fn difference(expected: &Statement<TestResult>, found: &Statement<TestResult>) -> &'static str {
    let tests = |of: &TestResult| {
        let TestResult {
            passed_tests,
            warned_tests,
            failed_tests,
            missing_tests,
            ..
        } = of.clone();
        [passed_tests, warned_tests, failed_tests, missing_tests]
    };
    let (was, is) = (&expected.predicate, &found.predicate);
    if expected.subject != found.subject {
        "disk"
    } else if expected.kind != found.kind || expected.predicate_type != found.predicate_type {
        "type"
    } else if was.result != is.result {
        "result"
    } else if tests(was) != tests(is) {
        "list of tests"
    } else if was.configuration != is.configuration {
        "configuration"
    } else if was.evidence != is.evidence {
        "evidence"
    } else {
        "detail"
    }
}
