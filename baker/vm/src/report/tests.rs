//! Whole reports, from evidence that has every field set.

use baker_model::plan::{Budget, ProbeWay, TestPlan};
use baker_model::{Digest, Failure, Verdict};

use super::{Log, RunReport, TestReport, html, junit};
use crate::evidence::{CheckFact, Evidence, GuestFacts, Mark, Retry, Shutdown, UnitFact};

const HOSTILE: &str =
    "</pre><script>alert(1)</script><img src=x onerror=alert(2)> \u{0}\u{202e}]]>";

fn check(what: &str, holds: bool, found: &str, boot: u32) -> CheckFact {
    CheckFact {
        what: what.to_owned(),
        holds,
        found: found.to_owned(),
        boot,
    }
}

/// Evidence with nothing in it that could be left out.
fn base() -> Evidence {
    let template = r#"{"evidence-version":2,"plan":{"name":"direct"},
        "verdict":{"verdict":"passed"},"milliseconds":8200,"timeline":[
        {"phase":"firmware","milliseconds":0},{"phase":"userspace","milliseconds":7000}],
        "accelerator":{"accelerator":"kvm","reason":"it ran"},"qemu-version":"10.0",
        "argv":["qemu"],"command":"qemu","nonce":"00","root-hash":null,"probe":"outside",
        "guest":null,"checks":[],"failed-units":[],"detection-milliseconds":700,
        "screenshot":null,"shared-with":[],"disk-before":"D","disk-after":"D",
        "shutdown":{"how":"killed"},"serial-log":"serial.log","qemu-log":"qemu.log",
        "retries":[],"warnings":[]}"#;
    let digest = Digest::of(b"disk").to_string();
    serde_json::from_str(&template.replace("\"D\"", &format!("\"{digest}\""))).unwrap()
}

/// Evidence of a boot that came up, with every field set.
fn passed() -> Evidence {
    let marks = [
        ("firmware", 0),
        ("loader", 3600),
        ("kernel", 4000),
        ("init", 5200),
        ("userspace", 5800),
        ("probe", 14_900),
        ("done", 15_100),
    ];
    let mark = |(phase, milliseconds): (&str, u64)| Mark {
        phase: phase.to_owned(),
        milliseconds,
        boot: 1,
    };
    let budget = Budget {
        host_seconds: Some(60),
        memory_mib: Some(64),
        guest_seconds: Some(20),
        packages: Some(60),
        ..Budget::default()
    };
    Evidence {
        plan: TestPlan {
            budget,
            ..TestPlan::default()
        },
        milliseconds: 15_400,
        timeline: marks.map(mark).to_vec(),
        root_hash: Some(Digest::of(b"root")),
        probe: ProbeWay::Carried,
        guest: Some(GuestFacts {
            kernel: "6.12.117-cloud-amd64".to_owned(),
            secure_boot: "disabled".to_owned(),
            root_hash: Digest::of(b"root").to_string(),
            state: "running".to_owned(),
            memory_kib: 62_000,
            settled_ms: 11_300,
        }),
        checks: vec![
            check("unit dbus.socket is active", true, "active", 1),
            check("unit dbus.socket is active", true, "active", 2),
        ],
        attempts: Vec::new(),
        shared_with: vec!["web".to_owned()],
        shutdown: Shutdown::Clean { milliseconds: 785 },
        retries: vec![Retry {
            cause: "a fault of QEMU 7.2".to_owned(),
            verdict: verdict(Failure::KernelPanic, "oops"),
            milliseconds: 4100,
            serial_log: "serial-1.log".to_owned(),
        }],
        warnings: vec!["the guest did not power off within 10 s".to_owned()],
        ..base()
    }
}

fn verdict(failure: Failure, detail: &str) -> Verdict {
    Verdict::Failed {
        failure,
        detail: detail.to_owned(),
    }
}

fn failed(failure: Failure, detail: &str) -> Evidence {
    Evidence {
        verdict: verdict(failure, detail),
        ..base()
    }
}

fn report<'a>(evidence: &'a Evidence, console: &'a str) -> TestReport<'a> {
    let bytes = console.as_bytes();
    TestReport {
        evidence,
        console: Log { bytes, skipped: 0 },
        qemu: Log::default(),
        screenshot: None,
    }
}

fn page(tests: &[TestReport<'_>]) -> String {
    html(&RunReport {
        image: "minimal-1.0.0",
        tests,
    })
}

fn xml(tests: &[TestReport<'_>]) -> String {
    junit(&RunReport {
        image: "minimal-1.0.0",
        tests,
    })
}

#[test]
fn the_page_tells_all_that_the_evidence_holds() {
    let good = passed();
    let bad = failed(Failure::KernelPanic, "Kernel panic - not syncing: x");
    let console = "a\nKernel panic - not syncing: x\n";
    let png = b"\x89PNG\r\n\x1a\nrest";
    let shot = TestReport {
        screenshot: Some(png),
        ..report(&bad, console)
    };
    let text = page(&[report(&good, "fine\n"), shot]);
    let root = Digest::of(b"root").to_string();
    let expected = [
        "<title>FAILED: minimal-1.0.0</title>",
        "1 of 2 tests passed, 23.6 s of booting",
        "<a href=\"#test-2\">direct</a> <b class=\"name\">kernel-panic</b>",
        "<a href=\"#test-2-line\">line 2 of the console</a>",
        "<mark id=\"test-2-line\"><b>2</b>Kernel panic",
        "style=\"left:23.376%;width:2.597%\" title=\"loader 0.4 s\"",
        "firmware 3.6 s, loader 0.4 s, kernel 1.2 s, init 0.6 s, userspace 9.1 s",
        "2 of 2 hold",
        "61 MiB<span class=\"gauge\"><i style=\"width:94%\">",
        "15.1 s<span class=\"gauge\"><i style=\"width:25%\">",
        "a fault of QEMU 7.2",
        "did not power off within 10 s",
        "data:image/png;base64,iVBORw0KGgpyZXN0\"",
        "at the failure",
        "KVM: it ran",
        "clean, within 0.8 s",
        "never spoke",
        "Boot shared with</dt><dd>web",
        &root,
    ];
    for expected in expected {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
}

#[test]
fn the_page_needs_and_runs_nothing() {
    let good = passed();
    let text = page(&[report(&good, HOSTILE)]);
    assert!(text.contains("default-src 'none'"));
    for forbidden in [
        "<script",
        "http://",
        "https://",
        "onerror=alert(2)>",
        "@import",
        "url(",
    ] {
        assert!(!text.contains(forbidden), "{forbidden} is in the page");
    }
}

/// Every text that a guest or a recipe can choose, hostile.
fn hostile() -> Evidence {
    let evil = || HOSTILE.to_owned();
    let mut evidence = Evidence {
        verdict: verdict(Failure::AssertionFailed, HOSTILE),
        checks: vec![check(HOSTILE, false, HOSTILE, 1)],
        failed_units: vec![UnitFact {
            unit: evil(),
            result: evil(),
            said: vec![evil()],
        }],
        warnings: vec![evil()],
        command: evil(),
        argv: vec![evil()],
        qemu_version: evil(),
        nonce: evil(),
        serial_log: evil(),
        ..passed()
    };
    evidence.plan.name = Some(evil());
    evidence.timeline[1].phase = evil();
    if let Some(guest) = &mut evidence.guest {
        (guest.kernel, guest.state, guest.root_hash) = (evil(), evil(), evil());
    }
    evidence
}

#[test]
fn hostile_words_stay_words() {
    let evidence = hostile();
    let tests = [TestReport {
        screenshot: Some(b"<svg onload=alert(1)>"),
        ..report(&evidence, HOSTILE)
    }];
    for text in [page(&tests), xml(&tests)] {
        for forbidden in ["<script", "<img src=x", "<svg", "\u{0}", "\u{202e}", "]]>"] {
            assert!(!text.contains(forbidden), "{forbidden:?} is in {text}");
        }
        assert!(text.contains("&lt;script&gt;alert(1)"));
    }
}

#[test]
fn no_test_is_no_pass() {
    let text = page(&[]);
    assert!(text.contains("<title>FAILED") && text.contains("no test ran"));
}

#[test]
fn failures_of_assertions_are_told_where_they_are() {
    let evidence = Evidence {
        checks: vec![
            check("a", true, "yes", 1),
            check("b", false, "no", 1),
            check("b", false, "no", 1),
            check("boot", true, "yes", 1),
        ],
        ..failed(Failure::AssertionFailed, "b: found no")
    };
    let text = xml(&[report(&evidence, "console\n")]);
    let expected = [
        "<testsuites name=\"minimal-1.0.0\" tests=\"5\" failures=\"2\" errors=\"0\" \
         skipped=\"0\" time=\"8.200\">",
        "name=\"boot\" time=\"8.200\">\n      <system-out>console</system-out>",
        "classname=\"minimal-1.0.0.direct\" name=\"b\" time=\"0.000\">\n      \
         <failure type=\"assertion-failed\" message=\"b: found no\">",
        "name=\"b #2\"",
        "name=\"boot #2\"",
        "<property name=\"phase-firmware\" value=\"7.0 s\"/>",
    ];
    for expected in expected {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
}

#[test]
fn what_a_failed_boot_left_open_was_skipped() {
    let evidence = Evidence {
        checks: vec![check("a", false, "not answered", 2)],
        ..failed(Failure::KernelPanic, "panic \u{1b}[31m")
    };
    let text = xml(&[report(&evidence, "\u{1b}[31mconsole\u{1b}[0m\n")]);
    assert!(
        text.contains("failures=\"1\" errors=\"0\" skipped=\"1\""),
        "{text}"
    );
    assert!(text.contains("<failure type=\"kernel-panic\" message=\"panic \\u{1b}[31m\">"));
    assert!(text.contains("<skipped message=\"not answered\"/>"));
    assert!(text.contains("name=\"a (boot 2)\""));
    assert!(text.contains("<system-out>console</system-out>"));
}
