//! JUnit XML: a suite per test, a case for the boot and one per assertion.
//!
//! There is no standard; this keeps to what the readers of Jenkins, GitLab and GitHub's actions
//! have in common: `testsuites`, `testsuite`, `properties`, `testcase` with `failure` or `skipped`
//! and `system-out`, in the order of Jenkins' schema. Names of cases are unique within their
//! class, because GitLab compares runs by class and name.

use std::collections::BTreeMap;

use baker_model::{Failure, Verdict};

use super::console::plain_tail;
use super::markup::Markup;
use super::phases::{seconds, spans};
use super::{RunReport, TestReport, meaning};
use crate::evidence::{CheckFact, Evidence};

/// Bytes of the console that go with a boot.
const CONSOLE: usize = 64 * 1024;

/// The report of a run as JUnit XML.
#[must_use]
pub fn junit(run: &RunReport<'_>) -> String {
    let suites: Vec<Suite<'_>> = run.tests.iter().map(Suite::new).collect();
    let mut page = Markup::default();
    page.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites");
    page.attribute("name", run.image);
    let cases: Vec<&Case> = suites.iter().flat_map(|suite| &suite.cases).collect();
    let milliseconds = run.tests.iter().fold(0_u64, |sum, test| {
        sum.saturating_add(test.evidence.milliseconds)
    });
    counts(&mut page, &cases, milliseconds);
    page.raw(">\n");
    for suite in &suites {
        suite.write(&mut page, run.image);
    }
    page.raw("</testsuites>\n");
    page.finish()
}

fn counts(page: &mut Markup, cases: &[&Case], milliseconds: u64) {
    let count = |wanted: fn(&Outcome) -> bool| {
        let found = cases.iter().filter(|case| wanted(&case.outcome)).count();
        found.to_string()
    };
    page.attribute("tests", &cases.len().to_string());
    page.attribute("failures", &count(|o| matches!(o, Outcome::Failed { .. })));
    page.attribute("errors", "0");
    page.attribute("skipped", &count(|o| matches!(o, Outcome::Skipped(_))));
    page.raw(" time=\"").thousandths(milliseconds).raw("\"");
}

struct Suite<'a> {
    report: &'a TestReport<'a>,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    milliseconds: u64,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    Failed { failure: Failure, message: String },
    Skipped(String),
}

impl<'a> Suite<'a> {
    fn new(report: &'a TestReport<'a>) -> Self {
        let evidence = report.evidence;
        let mut cases = vec![Case {
            name: "boot".to_owned(),
            milliseconds: evidence.milliseconds,
            outcome: boot(evidence),
        }];
        let mut used = BTreeMap::from([("boot".to_owned(), 1)]);
        for check in &evidence.checks {
            cases.push(Case {
                name: unique(check, &mut used),
                milliseconds: 0,
                outcome: judged(check, &evidence.verdict),
            });
        }
        Self { report, cases }
    }

    fn write(&self, page: &mut Markup, image: &str) {
        let evidence = self.report.evidence;
        let title = evidence.plan.title();
        page.raw("  <testsuite").attribute("name", title);
        let cases: Vec<&Case> = self.cases.iter().collect();
        counts(page, &cases, evidence.milliseconds);
        page.raw(">\n    <properties>\n");
        for (name, value) in properties(evidence) {
            page.raw("      <property").attribute("name", &name);
            page.attribute("value", &value).raw("/>\n");
        }
        page.raw("    </properties>\n");
        for (index, case) in self.cases.iter().enumerate() {
            page.raw("    <testcase")
                .attribute("classname", &format!("{image}.{title}"));
            page.attribute("name", &case.name);
            page.raw(" time=\"")
                .thousandths(case.milliseconds)
                .raw("\">");
            self.outcome(page, &case.outcome);
            if index == 0 {
                let console = plain_tail(self.report.console, CONSOLE);
                page.element("\n      <system-out>", &console, "</system-out>\n    ");
            }
            page.raw("</testcase>\n");
        }
        page.raw("  </testsuite>\n");
    }

    fn outcome(&self, page: &mut Markup, outcome: &Outcome) {
        match outcome {
            Outcome::Passed => {}
            Outcome::Skipped(why) => {
                page.raw("\n      <skipped")
                    .attribute("message", why)
                    .raw("/>\n    ");
            }
            Outcome::Failed { failure, message } => {
                page.raw("\n      <failure")
                    .attribute("type", failure.name());
                page.attribute("message", message).raw(">");
                page.raw(meaning(*failure)).raw("\n").text(message);
                let command = &self.report.evidence.command;
                page.element("\n\nRepeat it by hand:\n", command, "</failure>\n    ");
            }
        }
    }
}

/// True when a failure of this kind is about single assertions: the boot itself went well.
fn is_of_checks(failure: Failure) -> bool {
    matches!(failure, Failure::AssertionFailed | Failure::BudgetExceeded)
}

/// The boot fails with the verdict, unless an assertion that does not hold says the same.
fn boot(evidence: &Evidence) -> Outcome {
    match &evidence.verdict {
        Verdict::Passed => Outcome::Passed,
        Verdict::Failed { failure, .. }
            if is_of_checks(*failure) && evidence.checks.iter().any(|check| !check.holds) =>
        {
            Outcome::Passed
        }
        Verdict::Failed { failure, detail } => Outcome::Failed {
            failure: *failure,
            message: detail.clone(),
        },
    }
}

/// An assertion that a failed boot left unanswered was skipped; it did not fail by itself.
fn judged(check: &CheckFact, verdict: &Verdict) -> Outcome {
    match verdict {
        _ if check.holds => Outcome::Passed,
        Verdict::Failed { failure, .. } if !is_of_checks(*failure) => {
            Outcome::Skipped(check.found.clone())
        }
        Verdict::Failed { failure, .. } => Outcome::Failed {
            failure: *failure,
            message: format!("{}: found {}", check.what, check.found),
        },
        Verdict::Passed => Outcome::Failed {
            failure: Failure::AssertionFailed,
            message: format!("{}: found {}", check.what, check.found),
        },
    }
}

fn unique(check: &CheckFact, used: &mut BTreeMap<String, u32>) -> String {
    let mut name = check.what.clone();
    if check.boot > 1 {
        name.push_str(&format!(" (boot {})", check.boot));
    }
    let count = used.entry(name.clone()).or_insert(0);
    *count += 1;
    match *count {
        1 => name,
        count => format!("{name} #{count}"),
    }
}

fn properties(evidence: &Evidence) -> Vec<(String, String)> {
    let accelerator = format!("{:?}", evidence.accelerator.accelerator).to_lowercase();
    let mut properties = vec![
        ("verdict".to_owned(), evidence.verdict.to_string()),
        (
            "firmware".to_owned(),
            evidence.plan.firmware.name().to_owned(),
        ),
        ("accelerator".to_owned(), accelerator),
        ("qemu-version".to_owned(), evidence.qemu_version.clone()),
        ("disk-sha256".to_owned(), evidence.disk_before.to_string()),
        ("nonce".to_owned(), evidence.nonce.clone()),
        ("probe".to_owned(), evidence.probe.name().to_owned()),
    ];
    if let Some(hash) = evidence.root_hash {
        properties.push(("root-hash".to_owned(), hash.to_string()));
    }
    for span in spans(evidence) {
        properties.push((format!("phase-{}", span.phase), seconds(span.length())));
    }
    for warning in &evidence.warnings {
        properties.push(("warning".to_owned(), warning.clone()));
    }
    properties
}
