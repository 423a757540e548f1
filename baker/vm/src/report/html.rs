//! One page that holds everything a person wants to know of a run, and needs nothing else: no
//! script, no font, no picture from elsewhere. A policy inside it forbids browsers to load any.

use baker_model::Verdict;

use super::console::Lines;
use super::markup::Markup;
use super::phases::{Span, seconds, spans, ticks};
use super::sections;
use super::{RunReport, TestReport, meaning};

/// Scripts are forbidden altogether: nothing on the page needs one, a hostile console would.
const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
<meta name=\"color-scheme\" content=\"light dark\">\n\
<meta name=\"referrer\" content=\"no-referrer\">\n\
<link rel=\"icon\" href=\"data:,\">\n<title>";

const STYLE: &str = include_str!("style.css");

/// The report of a run as one self-contained HTML file.
#[must_use]
pub fn html(run: &RunReport<'_>) -> String {
    let tests: Vec<Test<'_>> = (1..)
        .zip(run.tests)
        .map(|(n, test)| Test::new(n, test))
        .collect();
    let mut page = Markup::default();
    page.raw(HEAD).text(if all_passed(&tests) {
        "passed"
    } else {
        "FAILED"
    });
    page.raw(": ")
        .text(run.image)
        .raw("</title>\n<style>\n")
        .raw(STYLE);
    page.raw("</style>\n</head>\n<body>\n");
    summary(&mut page, run.image, &tests);
    timeline(&mut page, &tests);
    for test in &tests {
        section(&mut page, test);
    }
    page.raw("</body>\n</html>\n");
    page.finish()
}

/// A test and what was worked out of it.
struct Test<'a> {
    report: &'a TestReport<'a>,
    spans: Vec<Span>,
    console: Lines,
    /// Ids on the page: of the test, and of the line that decided.
    anchor: String,
    line: String,
}

impl<'a> Test<'a> {
    fn new(number: usize, report: &'a TestReport<'a>) -> Self {
        let detail = match &report.evidence.verdict {
            Verdict::Passed => None,
            Verdict::Failed { detail, .. } => Some(detail.as_str()),
        };
        Self {
            report,
            spans: spans(report.evidence),
            console: Lines::new(report.console, detail),
            anchor: format!("test-{number}"),
            line: format!("test-{number}-line"),
        }
    }

    fn passed(&self) -> bool {
        self.report.evidence.verdict.is_passed()
    }
}

fn all_passed(tests: &[Test<'_>]) -> bool {
    !tests.is_empty() && tests.iter().all(Test::passed)
}

fn link(page: &mut Markup, anchor: &str, text: &str) {
    page.raw("<a").attribute("href", &format!("#{anchor}"));
    page.element(">", text, "</a>");
}

/// The verdict, and for each test that failed why.
fn summary(page: &mut Markup, image: &str, tests: &[Test<'_>]) {
    let good = all_passed(tests);
    page.raw(if good {
        "<header class=\"passed\">"
    } else {
        "<header class=\"failed\">"
    });
    page.raw("<p class=\"kicker\">Smoke test</p>");
    page.element("<h1>", image, "</h1>");
    page.raw("<p class=\"answer\"><strong>")
        .raw(if good { "Passed" } else { "Failed" });
    let passed = tests.iter().filter(|test| test.passed()).count();
    let total = tests.iter().fold(0_u64, |sum, test| {
        sum.saturating_add(test.report.evidence.milliseconds)
    });
    let count = match tests.len() {
        0 => "no test ran".to_owned(),
        1 => format!("one test, {}", seconds(total)),
        all => format!(
            "{passed} of {all} tests passed, {} of booting",
            seconds(total)
        ),
    };
    page.raw("</strong> <span>").text(&count).raw("</span></p>");
    let failed: Vec<_> = tests.iter().filter(|test| !test.passed()).collect();
    if !failed.is_empty() {
        page.raw("<ul class=\"failures\">");
        for test in failed {
            page.raw("<li>");
            link(page, &test.anchor, test.report.evidence.plan.title());
            page.raw(" ");
            reason(page, test);
            page.raw("</li>");
        }
        page.raw("</ul>");
    }
    page.raw("</header>\n");
}

/// The name of a failure, its detail, and the way to the line that decided.
fn reason(page: &mut Markup, test: &Test<'_>) {
    let Verdict::Failed { failure, detail } = &test.report.evidence.verdict else {
        return;
    };
    page.element("<b class=\"name\">", failure.name(), "</b> ");
    page.element("<code>", detail, "</code>");
    if let Some(line) = test.console.decisive() {
        page.raw(" ");
        link(page, &test.line, &format!("line {line} of the console"));
    }
}

/// All tests under one another on one scale.
fn timeline(page: &mut Markup, tests: &[Test<'_>]) {
    let longest = tests
        .iter()
        .map(|test| test.report.evidence.milliseconds)
        .max();
    let total = longest.unwrap_or(0).max(1);
    page.raw("<section class=\"card\"><h2>Timeline</h2><div class=\"chart\">");
    for test in tests {
        row(page, test, total);
    }
    page.raw("<div class=\"row axis\" aria-hidden=\"true\"><span></span><div class=\"bar\">");
    for tick in ticks(total) {
        let style = format!("left:{}%", share(tick, total));
        page.raw("<span").attribute("style", &style);
        page.element(">", &format!("{} s", tick / 1000), "</span>");
    }
    page.raw("</div><span></span></div></div><ul class=\"legend\">");
    for (name, mark) in PHASES {
        let is_known = |test: &Test<'_>| test.spans.iter().any(|span| span.phase == name);
        if tests.iter().any(is_known) {
            page.raw("<li>").raw(mark).text(name).raw("</li>");
        }
    }
    page.raw("</ul></section>\n");
}

fn row(page: &mut Markup, test: &Test<'_>, total: u64) {
    let evidence = test.report.evidence;
    page.raw("<div class=\"row\">");
    link(page, &test.anchor, evidence.plan.title());
    let spoken: Vec<String> = test
        .spans
        .iter()
        .map(|span| format!("{} {}", span.phase, seconds(span.length())))
        .collect();
    page.raw("<div class=\"bar\" role=\"img\"")
        .attribute("aria-label", &spoken.join(", "));
    page.raw(">");
    for (span, spoken) in test.spans.iter().zip(&spoken) {
        let (left, width) = (share(span.start, total), share(span.length(), total));
        page.raw("<span").attribute("class", class(&span.phase));
        page.attribute("style", &format!("left:{left}%;width:{width}%"));
        page.attribute("title", spoken).raw(">");
        // A label that does not fit says less than none; the list below has all numbers.
        if span.length().saturating_mul(12) >= total {
            page.element("<em>", &seconds(span.length()), "</em>");
        }
        page.raw("</span>");
    }
    let end = format!("left:{}%", share(evidence.milliseconds, total));
    page.raw("<i")
        .attribute("class", if test.passed() { "passed" } else { "failed" });
    page.attribute("style", &end).raw("></i></div>");
    page.element(
        "<span class=\"total\">",
        &seconds(evidence.milliseconds),
        "</span></div>",
    );
}

/// A short time: milliseconds while they are few.
fn brief(milliseconds: u64) -> String {
    if milliseconds < 1000 {
        format!("{milliseconds} ms")
    } else {
        seconds(milliseconds)
    }
}

/// Percent with three decimals.
fn share(part: u64, total: u64) -> String {
    let share = u128::from(part) * 100_000 / u128::from(total.max(1));
    format!("{}.{:03}", share / 1000, share % 1000)
}

/// Phases that have a colour, and the mark that shows it.
const PHASES: [(&str, &str); 7] = [
    ("firmware", "<i class=\"firmware\"></i>"),
    ("loader", "<i class=\"loader\"></i>"),
    ("kernel", "<i class=\"kernel\"></i>"),
    ("init", "<i class=\"init\"></i>"),
    ("userspace", "<i class=\"userspace\"></i>"),
    ("probe", "<i class=\"probe\"></i>"),
    ("done", "<i class=\"done\"></i>"),
];

fn class(phase: &str) -> &'static str {
    let known = PHASES.iter().find(|(name, _)| *name == phase);
    known.map_or("other", |(name, _)| name)
}

/// Everything about one test.
fn section(page: &mut Markup, test: &Test<'_>) {
    let evidence = test.report.evidence;
    page.raw("<section class=\"card test\"")
        .attribute("id", &test.anchor)
        .raw("><h2>");
    page.text(evidence.plan.title());
    page.raw(if test.passed() {
        " <b class=\"badge passed\">"
    } else {
        " <b class=\"badge failed\">"
    });
    match &evidence.verdict {
        Verdict::Passed => page.raw("passed"),
        Verdict::Failed { failure, .. } => page.raw(failure.name()),
    };
    page.raw("</b> <small>")
        .text(&seconds(evidence.milliseconds))
        .raw("</small></h2>");
    if let Verdict::Failed { failure, .. } = &evidence.verdict {
        page.raw("<div class=\"why\"><p>").raw(meaning(*failure));
        page.raw(" Noticed ")
            .text(&brief(evidence.detection_milliseconds));
        page.raw(" after the event that decided.</p><p>");
        reason(page, test);
        page.raw("</p></div>");
    }
    phases(page, &test.spans);
    sections::checks(page, evidence);
    sections::failed_units(page, evidence);
    sections::budgets(page, evidence);
    sections::notes(page, evidence);
    screenshot(page, test);
    console(page, test);
    sections::command(page, evidence);
    sections::facts(page, evidence);
    page.raw("</section>\n");
}

fn phases(page: &mut Markup, spans: &[Span]) {
    page.raw("<ol class=\"phases\">");
    for span in spans {
        page.raw("<li><i")
            .attribute("class", class(&span.phase))
            .raw("></i>");
        page.element("<span>", &span.phase, "</span> ");
        page.element("<b>", &seconds(span.length()), "</b> ");
        page.element("<small>from ", &seconds(span.start), "</small></li>");
    }
    page.raw("</ol>");
}

fn screenshot(page: &mut Markup, test: &Test<'_>) {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
    let Some(bytes) = test
        .report
        .screenshot
        .filter(|bytes| bytes.starts_with(PNG))
    else {
        return;
    };
    page.raw("<h3>Screen</h3><figure><img alt=\"the guest's screen\" src=\"data:image/png;base64,");
    page.base64(bytes).raw("\"><figcaption>The guest's screen ");
    page.raw(if test.passed() {
        "at the end"
    } else {
        "at the failure"
    });
    page.raw("</figcaption></figure>");
}

fn console(page: &mut Markup, test: &Test<'_>) {
    let evidence = test.report.evidence;
    page.raw("<h3>Console <small>")
        .number(test.console.count() as u64)
        .raw(" lines");
    if test.console.decisive().is_some() {
        page.raw(", ");
        link(page, &test.line, "to the line that decided");
    }
    page.raw("</small></h3>");
    test.console.write(page, &test.line, &evidence.serial_log);
    if test.report.qemu.bytes.is_empty() {
        return;
    }
    page.raw("<h3>What QEMU said</h3>");
    let lines = Lines::new(test.report.qemu, None);
    lines.write(page, "", &evidence.qemu_log);
}
