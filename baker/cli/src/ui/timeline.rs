//! How a test went, on the terminal.
//!
//! ```text
//! uefi
//!   firmware     5.2 s  =======
//!   loader       4.4 s         ======
//!   userspace    9.1 s               ============
//!   passed      18.7 s                           | settled
//! ```
//!
//! Away from a terminal it is a line: `uefi: firmware 5.2 s | loader 4.4 | settled after 9.6 s`.
//! Why a test failed is not repeated here: the stage has just said it.

use baker_model::Verdict;
use baker_vm::Evidence;
use baker_vm::report::{Span, seconds, spans};

use super::printer::{Paint, printable};

/// The longest bar; wider says no more.
const WIDEST: usize = 72;
/// A bar shorter than this shows nothing.
const NARROWEST: usize = 12;
/// Columns before a bar: indent, name, time and the gaps between them.
const BEFORE: usize = 2 + 9 + 2 + 12 + 2;

/// The lines about one test, ending in a newline; `width` is that of the terminal, if it is one.
pub(super) fn render(evidence: &Evidence, width: Option<usize>, paint: Paint) -> String {
    let spans = spans(evidence);
    let end = match &evidence.verdict {
        Verdict::Passed => end_word(&spans),
        Verdict::Failed { failure, .. } => failure.name(),
    };
    // The mark and one free column, which some terminals need.
    let room = width.and_then(|width| width.checked_sub(BEFORE + end.len() + 3));
    let mut text = match room.filter(|room| *room >= NARROWEST) {
        Some(room) => chart(evidence, &spans, room.min(WIDEST), end, paint),
        None => line(evidence, &spans, end, paint),
    };
    for check in evidence.checks.iter().filter(|check| !check.holds) {
        let (what, found) = (one_line(&check.what), one_line(&check.found));
        let boot = match check.boot {
            0 | 1 => String::new(),
            boot => format!(" (boot {boot})"),
        };
        text.push_str(&format!(
            "  {} {what}{boot}\n",
            paint.error("does not hold:")
        ));
        text.push_str(&format!("    found: {found}\n"));
    }
    for unit in evidence
        .failed_units
        .iter()
        .filter(|it| !it.said.is_empty())
    {
        text.push_str(&format!("  {} said last:\n", one_line(&unit.unit)));
        for line in &unit.said {
            text.push_str(&format!("    {}\n", one_line(line)));
        }
    }
    text
}

/// What the last mark says of a test that passed.
fn end_word(spans: &[Span]) -> &'static str {
    match spans.last() {
        Some(span) if span.phase == "done" => "settled",
        _ => "passed",
    }
}

/// Spans worth showing: settling takes no time of its own unless checks from outside follow.
fn shown(spans: &[Span]) -> impl Iterator<Item = &Span> {
    spans
        .iter()
        .filter(|span| span.phase != "done" || span.length() >= 100)
}

/// The end in the colour of the verdict.
fn painted(evidence: &Evidence, end: &str, paint: Paint) -> String {
    match evidence.verdict {
        Verdict::Passed => paint.good(end),
        Verdict::Failed { .. } => paint.error(end),
    }
}

fn line(evidence: &Evidence, spans: &[Span], end: &str, paint: Paint) -> String {
    let mut parts: Vec<String> = Vec::new();
    for span in shown(spans) {
        let took = seconds(span.length());
        // The unit once, at the first.
        let plain = match took.strip_suffix(" s") {
            Some(number) if !parts.is_empty() && !number.contains("min") => number,
            _ => &took,
        };
        parts.push(format!("{} {plain}", printable(&span.phase)));
    }
    let (end, took) = (
        painted(evidence, end, paint),
        seconds(evidence.milliseconds),
    );
    parts.push(format!("{end} after {took}"));
    format!(
        "{}: {}\n",
        one_line(evidence.plan.title()),
        parts.join(" | ")
    )
}

fn chart(evidence: &Evidence, spans: &[Span], room: usize, end: &str, paint: Paint) -> String {
    let total = evidence.milliseconds.max(1);
    let place = |at: u64| {
        let place = u128::from(at.min(total)) * room as u128 / u128::from(total);
        usize::try_from(place).unwrap_or(room)
    };
    let mut text = format!("{}\n", one_line(evidence.plan.title()));
    for span in shown(spans) {
        // A phase that happened is seen, however short it was.
        let (from, to) = (place(span.start).min(room - 1), place(span.end));
        let bar = "=".repeat(to.saturating_sub(from).max(1));
        let gap = " ".repeat(from);
        let (phase, took) = (printable(&span.phase), seconds(span.length()));
        text.push_str(&format!("  {phase:9}  {took:>12}  {gap}{bar}\n"));
    }
    let answer = if evidence.verdict.is_passed() {
        "passed"
    } else {
        "failed"
    };
    let (gap, took) = (" ".repeat(room), seconds(evidence.milliseconds));
    let end = painted(evidence, end, paint);
    text.push_str(&format!("  {answer:9}  {took:>12}  {gap}| {end}\n"));
    text
}

/// Guests choose these texts; each keeps to its line.
fn one_line(text: &str) -> String {
    printable(&text.replace(['\n', '\t'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(verdict: &str, checks: &str) -> Evidence {
        with_units(verdict, checks, "[]")
    }

    fn with_units(verdict: &str, checks: &str, units: &str) -> Evidence {
        let digest = "0".repeat(64);
        let text = format!(
            r#"{{"evidence-version":2,"plan":{{"name":"ue\u001bfi"}},"verdict":{verdict},
            "milliseconds":20000,"timeline":[{{"phase":"firmware","milliseconds":0}},
            {{"phase":"loader","milliseconds":5000}},{{"phase":"userspace","milliseconds":5040}},
            {{"phase":"done","milliseconds":20000}}],
            "accelerator":{{"accelerator":"kvm","reason":""}},"qemu-version":"10.0","argv":[],
            "command":"","nonce":"","root-hash":null,"probe":"outside","guest":null,
            "checks":{checks},"failed-units":{units},"detection-milliseconds":0,"screenshot":null,
            "shared-with":[],"disk-before":"{digest}","disk-after":"{digest}",
            "shutdown":{{"how":"killed"}},"serial-log":"s","qemu-log":"q","retries":[],
            "warnings":[]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    const PASSED: &str = r#"{"verdict":"passed"}"#;
    const FAILED: &str = r#"{"verdict":"failed","failure":"assertion-failed","detail":"a\nb"}"#;

    #[test]
    fn away_from_a_terminal_phases_stand_in_a_line() {
        assert_eq!(
            render(&evidence(PASSED, "[]"), None, Paint::Plain),
            "ue\\u{1b}fi: firmware 5.0 s | loader 0.0 | userspace 15.0 | settled after 20.0 s\n"
        );
        let narrow = render(&evidence(PASSED, "[]"), Some(40), Paint::Plain);
        assert_eq!(narrow.lines().count(), 1, "{narrow}");
    }

    #[test]
    fn a_chart_fits_its_terminal() {
        let text = render(&evidence(PASSED, "[]"), Some(58), Paint::Coloured);
        assert_eq!(
            text,
            "ue\\u{1b}fi\n\
            \x20 firmware          5.0 s  =====\n\
            \x20 loader            0.0 s       =\n\
            \x20 userspace        15.0 s       ================\n\
            \x20 passed           20.0 s                       | \u{1b}[1;32msettled\u{1b}[0m\n"
        );
        for width in [50, 58, 80, 100, 1000] {
            let text = render(&evidence(PASSED, "[]"), Some(width), Paint::Plain);
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest < Some(width), "{width}: {text}");
        }
    }

    #[test]
    fn what_does_not_hold_is_told_with_what_was_found() {
        let checks = r#"[{"what":"unit a is active","holds":false,"found":"x\u001b[2J","boot":2},
            {"what":"b","holds":true,"found":"","boot":1}]"#;
        assert_eq!(
            render(&evidence(FAILED, checks), None, Paint::Plain),
            "ue\\u{1b}fi: firmware 5.0 s | loader 0.0 | userspace 15.0 | assertion-failed after \
             20.0 s\n  does not hold: unit a is active (boot 2)\n    found: x\\u{1b}[2J\n"
        );
        let units = r#"[{"unit":"a","result":"exit-code","said":["no such file","y\u001bz"]},
            {"unit":"b","result":"timeout"}]"#;
        let text = render(&with_units(FAILED, "[]", units), None, Paint::Plain);
        let words = "  a said last:\n    no such file\n    y\\u{1b}z\n";
        assert!(text.ends_with(words), "{text}");
    }
}
