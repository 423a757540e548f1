//! Runs told as tables: what was seen when, and the verdict that must follow.

use baker_contract::Report;
use baker_model::plan::{Day, HttpCheck, TestPlan};
use baker_model::{Digest, Failure, Verdict};

use super::*;
use crate::subject::{Sizes, Subject};

mod plans;
mod time;

const UNIT: &str = "nginx.service";

fn root() -> Digest {
    Digest::of(b"root")
}

fn day(text: &str) -> Day {
    Day::try_from(text.to_owned()).unwrap()
}

fn patience() -> Patience {
    let seconds = Duration::from_secs;
    Patience {
        total: seconds(100),
        silence: seconds(20),
        first_sign: seconds(40),
        stall: seconds(30),
        outside: seconds(10),
        power_off: Duration::ZERO,
        reset: seconds(15),
    }
}

fn rules() -> Rules {
    Rules {
        way: ProbeWay::Carried,
        root_hash: Some(root()),
        fallback: None,
        patience: patience(),
        resets: 0,
    }
}

fn judge_with(plans: &[TestPlan], rules: Rules) -> Judge {
    let subject = Subject {
        medium: None,
        digest: Digest::of(b"disk"),
        root_hash: rules.root_hash,
        sizes: Sizes {
            disk: Some(3 << 20),
            ..Sizes::default()
        },
        carries_probe: false,
        probe_disk: None,
    };
    let case = |plan| Case::new(plan, &subject, rules.way, day("2026-11-22")).unwrap();
    Judge::new(plans.iter().map(case).collect(), rules, "n")
}

fn judge_plan(plan: TestPlan) -> Judge {
    judge_with(&[plan], rules())
}

fn judge(units: &[&str], http: u16) -> Judge {
    judge_plan(TestPlan {
        units_active: units.iter().map(|unit| (*unit).to_owned()).collect(),
        http: (0..http).map(request).collect(),
        ..TestPlan::default()
    })
}

fn request(port: u16) -> HttpCheck {
    HttpCheck {
        port,
        path: "/".into(),
        status: 200,
        contains: None,
        tls: None,
    }
}

fn hello() -> Observation<'static> {
    let root_hash = root().to_string();
    Observation::Report(Report::Hello {
        root_hash,
        kernel: "6.12".into(),
        boot_id: String::new(),
        secure_boot: String::new(),
        uptime_ms: 5,
    })
}

fn done_with(state: &str, root_hash: String) -> Observation<'static> {
    let state = state.to_owned();
    Observation::Report(Report::Done {
        state,
        root_hash,
        uptime_ms: 9,
        memory_kib: 1,
    })
}

fn done() -> Observation<'static> {
    done_with("running", root().to_string())
}

fn unit_check(holds: bool) -> Observation<'static> {
    Observation::Report(Report::Check {
        id: Some(0),
        holds,
        found: "inactive (dead)".into(),
    })
}

fn unit_failed(unit: &str) -> Observation<'static> {
    Observation::Report(Report::UnitFailed {
        unit: unit.into(),
        result: "exit-code".into(),
    })
}

fn waiting() -> Observation<'static> {
    waiting_for(2)
}

fn waiting_for(jobs: u64) -> Observation<'static> {
    Observation::Report(Report::Waiting {
        state: "starting".into(),
        jobs,
        job: String::new(),
        uptime_ms: 1,
    })
}

/// The cause that a panic's verdict tells too.
#[test]
fn what_led_to_a_panic_is_told_with_it() {
    let seen = vec![
        (100, line("[ 0.9] Initramfs unpacking failed: write error")),
        (
            200,
            line("[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs"),
        ),
    ];
    let expected = (
        Failure::KernelPanic,
        "before it: Initramfs unpacking failed: write error",
    );
    check("too little memory", judge(&[], 0), seen, expected);
}

fn line(text: &'static str) -> Observation<'static> {
    Observation::Console(text)
}

fn shutdown(cause: ShutdownCause) -> Observation<'static> {
    Observation::Machine(MachineEvent::Shutdown(cause))
}

fn gone() -> Observation<'static> {
    Observation::Exited("QEMU ended by itself (exit status: 0)".into())
}

fn reset() -> Observation<'static> {
    shutdown(ShutdownCause::GuestReset)
}

/// Plays `seen` at the given milliseconds, then lets time pass; gives the verdicts and their times.
fn play_all(judge: &mut Judge, seen: Vec<(u64, Observation<'_>)>) -> Vec<Ruling> {
    let mut seen = seen.into_iter().peekable();
    for at in (0..200_000).step_by(50) {
        let now = Duration::from_millis(at);
        let mut over = false;
        while let Some((_, observation)) = seen.next_if(|(when, _)| !over && *when <= at) {
            over = judge.observe(now, observation);
        }
        if over || judge.observe(now, Observation::Tick) {
            let rulings = judge.cases().iter().map(|case| case.ruling().cloned());
            return rulings.map(Option::unwrap).collect();
        }
    }
    panic!("no verdict");
}

fn play(mut judge: Judge, seen: Vec<(u64, Observation<'_>)>) -> (u64, Verdict) {
    let ruling = play_all(&mut judge, seen).remove(0);
    (milliseconds(ruling.at), ruling.verdict)
}

/// The row must fail in this way, within a second of its last event, with this in its detail.
fn check(name: &str, judge: Judge, seen: Vec<(u64, Observation<'_>)>, expected: (Failure, &str)) {
    let last = seen.last().map_or(0, |(at, _)| *at);
    let (at, verdict) = play(judge, seen);
    let Verdict::Failed { failure, detail } = verdict else {
        panic!("{name} passed")
    };
    assert_eq!(failure, expected.0, "{name}: {detail}");
    assert!(detail.contains(expected.1), "{name}: {detail}");
    assert!(at <= last + 1000, "{name}: reported {} ms late", at - last);
}

#[test]
fn a_pass_needs_every_sign() {
    let good = || {
        vec![
            (100, line("Linux version 6.12")),
            (900, hello()),
            (5000, waiting()),
        ]
    };
    let (at, verdict) = play(judge(&[], 0), [good(), vec![(6000, done())]].concat());
    assert_eq!((at, verdict), (6000, Verdict::Passed));

    let with_unit = [good(), vec![(6000, unit_check(true)), (6100, done())]].concat();
    assert_eq!(play(judge(&[UNIT], 0), with_unit).1, Verdict::Passed);

    let requests = [request(0), request(1)].map(Outside::Http);
    let http = |check| (6500, Observation::Outside(check, Ok("status 200".into())));
    let seen = vec![(6000, done()), http(&requests[1]), http(&requests[0])];
    let with_http = [good(), seen].concat();
    assert_eq!(play(judge(&[], 2), with_http), (6500, Verdict::Passed));
}

#[test]
fn a_pass_is_refused_when_one_sign_is_wrong() {
    let other = || Digest::of(b"other").to_string();
    let wrong_hello = Observation::Report(Report::Hello {
        root_hash: other(),
        kernel: String::new(),
        boot_id: String::new(),
        secure_boot: String::new(),
        uptime_ms: 1,
    });
    let rows = [
        (
            "no hello",
            vec![(100, done())],
            (Failure::AssertionFailed, "done before its hello"),
        ),
        (
            "other root at the start",
            vec![(100, wrong_hello)],
            (Failure::AssertionFailed, "expected"),
        ),
        (
            "other root at the end",
            vec![(100, hello()), (200, done_with("running", other()))],
            (Failure::AssertionFailed, "expected"),
        ),
        (
            "no verity",
            vec![(100, hello()), (200, done_with("running", String::new()))],
            (Failure::AssertionFailed, "no verity device"),
        ),
        (
            "degraded",
            vec![
                (100, hello()),
                (200, done_with("degraded", root().to_string())),
            ],
            (Failure::UnitFailed, "degraded"),
        ),
        (
            "oops on the way",
            vec![
                (50, line("[ 1.0] Oops: 0000 [#1] SMP")),
                (100, hello()),
                (200, done()),
            ],
            (Failure::KernelOops, "Oops"),
        ),
        (
            "a failed unit",
            vec![
                (100, hello()),
                (150, unit_failed("a.service")),
                (200, done()),
            ],
            (Failure::UnitFailed, "a.service failed (exit-code)"),
        ),
    ];
    for (name, seen, expected) in rows {
        check(name, judge(&[], 0), seen, expected);
    }
}

#[test]
fn what_the_plan_asks_must_be_answered() {
    let silent = vec![(100, hello()), (200, done())];
    check(
        "unit not answered for",
        judge(&[UNIT], 0),
        silent,
        (Failure::UnitFailed, UNIT),
    );
    let inactive = vec![(100, hello()), (150, unit_check(false)), (200, done())];
    check(
        "unit inactive",
        judge(&[UNIT], 0),
        inactive,
        (Failure::UnitFailed, "inactive (dead)"),
    );
    let asked = Outside::Http(request(0));
    let http = Observation::Outside(&asked, Err("status 500".into()));
    let answered = vec![(100, hello()), (200, done()), (300, http)];
    check(
        "http",
        judge(&[], 1),
        answered,
        (Failure::AssertionFailed, "status 500"),
    );
    let unknown = Observation::Report(Report::Check {
        id: Some(77),
        holds: false,
        found: "the probe does not know this order".into(),
    });
    let seen = vec![(100, hello()), (150, unknown)];
    check(
        "unknown order",
        judge(&[], 0),
        seen,
        (Failure::AssertionFailed, "not asked"),
    );
}

#[test]
fn the_sign_nearest_to_the_cause_names_the_failure() {
    let corrupt = "[ 2.0] device-mapper: verity: 254:0: metadata block 1 is corrupted";
    let panic = "[ 3.0] Kernel panic - not syncing: Attempted to kill init!";
    let rows = [
        (
            "corrupt block, failed mount, reset",
            vec![
                (100, line(corrupt)),
                (200, line("baker1 init-failed code=mount detail=EIO")),
                (300, reset()),
                (310, gone()),
            ],
            (Failure::VerityCorruption, "metadata block 1"),
        ),
        (
            "init gives up, kernel panics",
            vec![
                (100, line("baker1 init-failed code=no-root detail=x")),
                (150, line(panic)),
            ],
            (Failure::InitFailed, "no-root: x"),
        ),
        (
            "panic device before the text",
            vec![
                (100, Observation::Machine(MachineEvent::Panicked)),
                (200, line(panic)),
            ],
            (Failure::KernelPanic, "panic device"),
        ),
        (
            "oops, then panic, then reset",
            vec![
                (
                    100,
                    line("[ 1.0] BUG: kernel NULL pointer dereference, address: 0"),
                ),
                (200, line(panic)),
                (300, reset()),
            ],
            (Failure::KernelPanic, "Attempted to kill init"),
        ),
    ];
    for (name, seen, expected) in rows {
        check(name, judge(&[], 0), seen, expected);
    }
}

#[test]
fn the_end_of_the_machine_is_told_by_who_ended_it() {
    let rows = [
        (
            "only a reset",
            vec![(100, reset()), (110, gone())],
            (Failure::GuestReset, "restarted"),
        ),
        (
            "power-off by itself",
            vec![(100, shutdown(ShutdownCause::Guest)), (110, gone())],
            (Failure::GuestSilent, "powered off"),
        ),
        (
            "QEMU gone",
            vec![(100, gone())],
            (Failure::QemuDied, "exit status: 0"),
        ),
        (
            "QEMU gone, its line first",
            vec![
                (100, Observation::Lost("line closed".into())),
                (110, gone()),
            ],
            (Failure::QemuDied, "exit status: 0"),
        ),
        (
            "QEMU paused",
            vec![(
                100,
                Observation::Lost("QEMU stopped the guest (internal-error)".into()),
            )],
            (Failure::QemuDied, "internal-error"),
        ),
    ];
    for (name, seen, expected) in rows {
        check(name, judge(&[], 0), seen, expected);
    }
}

#[test]
fn firmware_loader_and_systemd_are_told_apart() {
    let rows = [
        (
            "refused by Secure Boot",
            vec![
                (
                    100,
                    line("BdsDxe: failed to load Boot0001 \"x\": Access Denied"),
                ),
                (200, line("BdsDxe: No bootable option or device was found.")),
            ],
            (Failure::FirmwareRefused, "Access Denied"),
        ),
        (
            "loader lost its kernel",
            vec![
                (100, line("Error loading \\EFI\\Linux\\a.efi: Not found")),
                (200, line("BdsDxe: No bootable option or device was found.")),
            ],
            (Failure::LoaderFailed, "Not found"),
        ),
        (
            "emergency mode names the unit",
            vec![
                (100, line("[FAILED] Failed to mount srv.mount - /srv.")),
                (900, line("You are in emergency mode.")),
            ],
            (Failure::UnitFailed, "srv.mount"),
        ),
    ];
    for (name, seen, expected) in rows {
        check(name, judge(&[], 0), seen, expected);
    }
}

#[test]
fn silence_and_endless_work_are_told_apart() {
    let (at, verdict) = play(judge(&[], 0), vec![]);
    assert_eq!(at, 40_000, "{verdict}");
    assert!(
        verdict
            .to_string()
            .starts_with("guest-silent: no sign of life for 40 s in firmware")
    );

    let hang = vec![
        (100, line("[ 0.0] Linux version 6.12")),
        (1000, line("[ 1.0] last words")),
    ];
    let (at, verdict) = play(judge(&[], 0), hang);
    assert_eq!(at, 21_000, "{verdict}");
    assert!(
        verdict
            .to_string()
            .contains("in kernel; last console line: [ 1.0] last words")
    );

    let busy = (1..150)
        .map(|second| (second * 1000, waiting_for(second)))
        .collect();
    let (at, verdict) = play(judge(&[], 0), busy);
    assert_eq!(at, 100_000, "{verdict}");
    assert!(
        verdict
            .to_string()
            .starts_with("timed-out: no verdict after 100 s"),
        "{verdict}"
    );
    assert!(
        verdict
            .to_string()
            .contains("systemd says starting, 100 jobs"),
        "{verdict}"
    );
}

#[test]
fn lines_without_the_nonce_are_counted_and_worth_nothing() {
    let forged = (1..150)
        .map(|second| (second * 1000, Observation::Stranger))
        .collect();
    let (at, verdict) = play(judge(&[], 0), forged);
    assert_eq!(at, 40_000, "{verdict}");
    assert!(
        verdict
            .to_string()
            .contains("40 lines without this run's nonce"),
        "{verdict}"
    );
}

#[test]
fn known_faults_of_the_host_are_marked() {
    let mut judge = judge(&[], 0);
    let seen = [
        "[ 1.0] Oops: 0000 [#1] SMP",
        "[ 1.0] RSP: 0018:ffffc90000013e58 EFLAGS: ffff888003c01246",
        "[ 1.1] Kernel panic - not syncing: Fatal exception",
    ];
    for text in seen {
        assert!(!judge.observe(Duration::from_secs(1), Observation::Console(text)));
    }
    assert!(judge.flake().is_some());
    assert!(judge.observe(Duration::from_secs(2), Observation::Tick));
    let verdict = &judge.cases()[0].ruling().unwrap().verdict;
    assert!(verdict.to_string().starts_with("kernel-panic"), "{verdict}");
}
