//! Hangs, slowness and prompts.

use super::*;

fn worked(seconds: u64) -> Observation<'static> {
    Observation::Worked(Duration::from_secs(seconds))
}

fn job(job: &str) -> Observation<'static> {
    Observation::Report(Report::Waiting {
        state: "starting".into(),
        jobs: 2,
        job: job.into(),
        uptime_ms: 1,
    })
}

/// A guest that repeats `sign` every second from 2 s on and whose CPUs want `share` percent.
fn repeating(sign: &Observation<'static>, share: u64) -> Vec<(u64, Observation<'static>)> {
    let begin = [(1000, line("[ 0.0] Linux version 6.12")), (1900, hello())];
    let rest = (2..150).flat_map(|second: u64| {
        let work = Observation::Worked(Duration::from_millis(second * share * 10));
        [(second * 1000, sign.clone()), (second * 1000, work)]
    });
    begin.into_iter().chain(rest).collect()
}

#[test]
fn a_guest_that_repeats_itself_is_hung_when_idle_and_slow_when_busy() {
    let waits = job("slow.service/start");
    let (at, verdict) = play(judge(&[], 0), repeating(&waits, 3));
    // 30 s after the last step forward, which was the first word of the job.
    assert_eq!(at, 32_000, "{verdict}");
    let said = verdict.to_string();
    assert!(
        said.starts_with("timed-out: slow.service/start has been running for 30 s"),
        "{said}"
    );
    let (at, _) = play(judge(&[], 0), repeating(&waits, 90));
    assert_eq!(at, 92_000, "three times as long");

    let on_console = line("[ ***  ] Job slow.service/start running (12s / no limit)");
    let (at, verdict) = play(judge(&[], 0), repeating(&on_console, 3));
    assert_eq!(at, 31_900, "{verdict}");
    assert!(
        verdict.to_string().contains("slow.service/start"),
        "{verdict}"
    );
}

#[test]
fn a_guest_that_falls_silent_is_not_one_that_repeats_itself() {
    // As under TCG, where silence is borne longer than repetition.
    let mut rules = rules();
    rules.patience.stall = Duration::from_secs(15);
    let kernel = (1000, line("[ 0.0] Linux version 6.12"));
    let once = (
        2000,
        line("[ ***  ] Job slow.service/start running (12s / no limit)"),
    );
    let judge = || judge_with(&[TestPlan::default()], rules);
    let (at, verdict) = play(judge(), vec![kernel.clone()]);
    assert_eq!(at, 21_000, "{verdict}");
    assert!(verdict.to_string().starts_with("guest-silent"), "{verdict}");
    let (at, verdict) = play(judge(), vec![kernel, once]);
    assert_eq!(at, 22_000, "{verdict}");
    assert!(verdict.to_string().starts_with("guest-silent"), "{verdict}");
}

#[test]
fn a_guest_that_moves_is_never_hung() {
    let seen = (1..99)
        .map(|second| (second * 1000, job(&format!("{second}.service/start"))))
        .chain([(99_000, done())]);
    let mut seen: Vec<_> = seen.collect();
    seen.insert(0, (500, hello()));
    let (at, verdict) = play(judge(&[], 0), seen);
    assert_eq!((at, verdict), (99_000, Verdict::Passed));
}

#[test]
fn silence_is_borne_longer_while_the_guest_works() {
    let begin = || vec![(1000, line("[ 0.0] Linux version 6.12"))];
    let works = (1..90).map(|second| (second * 1000, worked(second)));
    let (at, verdict) = play(judge(&[], 0), begin().into_iter().chain(works).collect());
    assert_eq!(at, 61_000, "{verdict}");
    let sleeps = (1..90).map(|second| (second * 1000, worked(1)));
    let (at, verdict) = play(judge(&[], 0), begin().into_iter().chain(sleeps).collect());
    assert_eq!(at, 21_000, "{verdict}");
    // Firmware that sleeps from the start decompresses nothing.
    let sleeps = (0..90).map(|second| (second * 1000, worked(1)));
    let (at, verdict) = play(judge(&[], 0), sleeps.collect());
    assert_eq!(at, 20_000, "{verdict}");
    assert!(verdict.to_string().starts_with("guest-silent"), "{verdict}");
}

#[test]
fn the_time_of_detection_counts_from_the_event() {
    let rows = [
        (
            vec![(1000, line("[ 1.0] Kernel panic - not syncing: x"))],
            600,
        ),
        (vec![(1000, gone())], 0),
        (vec![], 0),
    ];
    for (seen, expected) in rows {
        let ruling = play_all(&mut judge(&[], 0), seen).remove(0);
        let delay = milliseconds(ruling.at - ruling.event);
        assert_eq!(delay, expected, "{ruling:?}");
    }
    // What the console showed first is the event, not the probe's word about it.
    let seen = vec![
        (100, hello()),
        (2000, line("[FAILED] Failed to start a.service.")),
        (2300, unit_failed("a.service")),
    ];
    let mut judge = judge(&[], 0);
    judge.wishes();
    let ruling = play_all(&mut judge, seen).remove(0);
    assert_eq!(
        (milliseconds(ruling.event), milliseconds(ruling.at)),
        (2000, 2600)
    );
    assert_eq!(judge.wishes(), [Wish::Orders(vec![Order::Look])]);
}

#[test]
fn an_alarm_and_a_line_of_the_console_are_a_failed_unit() {
    let failed = || line("[FAILED] Failed to start a.service - A.");
    let alarm = || Observation::Report(Report::Alarm);
    for seen in [
        vec![(100, hello()), (2000, failed()), (2300, alarm())],
        vec![(100, hello()), (2000, alarm()), (2300, failed())],
    ] {
        let verdict = play(judge(&[], 0), seen);
        let detail = "a.service failed".to_owned();
        let failure = Failure::UnitFailed;
        assert_eq!(verdict, (2600, Verdict::Failed { failure, detail }));
    }
    // The name and the result that come before the verdict stand in it.
    let seen = vec![
        (100, hello()),
        (2000, failed()),
        (2100, alarm()),
        (2500, unit_failed("a.service")),
    ];
    let (at, verdict) = play(judge(&[], 0), seen);
    assert_eq!(at, 2600);
    assert!(verdict.to_string().contains("a.service failed (exit-code)"));
    // Neither says enough alone, nor both far apart, nor for a unit that may fail.
    let plan = TestPlan {
        units_may_fail: vec!["a.service".into()],
        ..TestPlan::default()
    };
    for (judge, seen) in [
        (judge(&[], 0), vec![(2000, failed())]),
        (judge(&[], 0), vec![(2000, alarm())]),
        (judge(&[], 0), vec![(2000, failed()), (5000, alarm())]),
        (judge_plan(plan), vec![(2000, failed()), (2100, alarm())]),
    ] {
        let seen = [vec![(100, hello())], seen, vec![(6000, done())]].concat();
        assert_eq!(play(judge, seen), (6000, Verdict::Passed));
    }
}

#[test]
fn the_last_words_of_a_failed_unit_are_waited_for() {
    let at = Duration::from_millis;
    let said = |unit: &str| {
        Observation::Report(Report::UnitSaid {
            unit: unit.into(),
            text: "no such file".into(),
        })
    };
    let failed = || {
        let mut judge = judge(&[], 0);
        judge.observe(at(100), hello());
        judge.observe(at(200), unit_failed("a.service"));
        assert!(!judge.observe(at(900), Observation::Tick));
        judge
    };
    let mut told = failed();
    assert!(!told.observe(at(1000), said("b.service")));
    assert!(told.observe(at(2000), said("a.service")));
    let boot = told.boots().last().unwrap();
    assert_eq!(boot.last_words["a.service"], "no such file");
    assert_eq!(boot.last_words.len(), 1);
    // One that is started again has not failed when systemd is asked: it is asked for by its name.
    let mut restarting = judge(&[], 0);
    restarting.observe(at(100), hello());
    restarting.observe(at(200), line("[FAILED] Failed to start a.service - A."));
    restarting.wishes();
    restarting.observe(at(300), Observation::Report(Report::Alarm));
    let unit = "a.service".to_owned();
    assert_eq!(
        restarting.wishes(),
        [Wish::Orders(vec![Order::Words { unit }])]
    );
    assert!(!restarting.observe(at(1000), Observation::Tick));
    assert!(restarting.observe(at(2000), said("a.service")));
    // So is one that should be active and is not.
    let mut inactive = judge(&["a.service"], 0);
    inactive.observe(at(100), hello());
    inactive.wishes();
    inactive.observe(at(200), unit_check(false));
    let unit = "a.service".to_owned();
    assert_eq!(
        inactive.wishes(),
        [Wish::Orders(vec![Order::Words { unit }])]
    );
    inactive.observe(at(300), done());
    assert!(!inactive.observe(at(1300), Observation::Tick));
    assert!(inactive.observe(at(2000), said("a.service")));
    // Neither for ever, nor from a machine that has ended; the verdict was given long before.
    let mut silent = failed();
    assert!(!silent.observe(at(20_700), Observation::Tick));
    assert!(silent.observe(at(20_900), Observation::Tick));
    assert_eq!(silent.cases()[0].ruling().unwrap().at, at(900));
    let mut ended = failed();
    assert!(ended.observe(at(1000), Observation::Exited("exit code 0".into())));
}

#[test]
fn what_the_console_must_show_may_come_a_little_late() {
    let plan = || TestPlan {
        console: vec!["login:".into()],
        ..TestPlan::default()
    };
    let begin = || vec![(100, hello()), (200, done())];
    let late = [begin(), vec![(5000, Observation::Prompt("host login:"))]].concat();
    assert_eq!(play(judge_plan(plan()), late), (5000, Verdict::Passed));
    let (at, verdict) = play(judge_plan(plan()), begin());
    let said = verdict.to_string();
    assert!(
        said.starts_with("assertion-failed: the console says `login:`"),
        "{said}"
    );
    assert!((10_200..11_000).contains(&at), "{at}");
}
