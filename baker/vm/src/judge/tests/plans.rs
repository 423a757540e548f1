//! Plans: every item answered and holding, each plan for itself, restarts, and forged answers.

use baker_model::plan::{
    Budget, CommandCheck, JournalAllowance, JournalCheck, Listening, Protocol, Reboot,
};

use super::*;

fn answer(id: u32, holds: bool, found: &str) -> Observation<'static> {
    Observation::Report(Report::Check {
        id: Some(id),
        holds,
        found: found.to_owned(),
    })
}

fn finding(id: u32, text: &str) -> Observation<'static> {
    let text = text.to_owned();
    Observation::Report(Report::Finding { id, text })
}

fn hello_of(boot_id: &str) -> Observation<'static> {
    Observation::Report(Report::Hello {
        root_hash: root().to_string(),
        kernel: "6.12".into(),
        boot_id: boot_id.into(),
        secure_boot: String::new(),
        uptime_ms: 5,
    })
}

fn done_with_memory(memory_kib: u64) -> Observation<'static> {
    Observation::Report(Report::Done {
        state: "running".into(),
        root_hash: root().to_string(),
        uptime_ms: 9,
        memory_kib,
    })
}

/// The questions of the opening orders, by id.
fn questions(judge: &mut Judge) -> Vec<(u32, Check)> {
    let wishes = judge.wishes();
    let Some(Wish::Orders(orders)) = wishes.first() else {
        panic!("no orders: {wishes:?}")
    };
    assert!(matches!(orders.first(), Some(Order::Begin { nonce }) if nonce == "n"));
    assert_eq!(orders.last(), Some(&Order::End));
    let checks = orders.iter().filter_map(|order| match order {
        Order::Check { id, check } => Some((*id, check.clone())),
        _ => None,
    });
    checks.collect()
}

fn full_plan() -> TestPlan {
    TestPlan {
        units_active: vec!["a.service".into()],
        units_not_failed: vec!["b.service".into()],
        units_absent: vec!["c.service".into()],
        listening: vec![Listening {
            protocol: Protocol::Tcp,
            port: 22,
        }],
        commands: vec![CommandCheck {
            run: vec!["/bin/true".into()],
            exit_code: 0,
            contains: None,
            output: None,
            seconds: 3,
            after_restart: false,
        }],
        root_read_only: true,
        no_shell: true,
        no_package_manager: true,
        setuid: Some(vec!["/usr/bin/su".into()]),
        command_line: vec!["quiet".into()],
        modules_loaded: vec!["erofs".into()],
        sysctl: [("kernel.panic".to_owned(), "-1".to_owned())].into(),
        ..TestPlan::default()
    }
}

#[test]
fn every_question_must_be_answered_and_hold() {
    let count = questions(&mut judge_plan(full_plan())).len();
    assert_eq!(count, 12);
    let run = |broken: Option<(usize, bool)>| {
        let mut judge = judge_plan(full_plan());
        let mut seen = vec![(100, hello())];
        for (index, (id, _)) in questions(&mut judge).into_iter().enumerate() {
            match broken {
                Some((which, false)) if which == index => {}
                Some((which, true)) if which == index => seen.push((200, answer(id, false, "x"))),
                _ => seen.push((200, answer(id, true, "fine"))),
            }
        }
        seen.push((300, done()));
        let verdict = play_all(&mut judge, seen).remove(0).verdict;
        let facts = judge.cases()[0].facts(1);
        assert_eq!(facts.len(), count);
        let failed = facts.iter().filter(|fact| !fact.holds).count();
        assert_eq!(failed, usize::from(broken.is_some()), "{facts:?}");
        verdict
    };
    assert_eq!(run(None), Verdict::Passed);
    for index in 0..count {
        for answered in [false, true] {
            let Verdict::Failed { failure, detail } = run(Some((index, answered))) else {
                panic!("question {index} is worth nothing")
            };
            let unit = (1..=3).contains(&index);
            let expected = if unit {
                Failure::UnitFailed
            } else {
                Failure::AssertionFailed
            };
            assert_eq!(failure, expected, "{index}: {detail}");
            let found = if answered { ": x" } else { "did not answer" };
            assert!(detail.contains(found), "{detail}");
        }
    }
}

#[test]
fn nobody_but_the_probe_that_was_asked_brings_a_pass() {
    let good = answer(0, true, "active");
    let rows: [(&str, Vec<Observation<'static>>, &str); 8] = [
        (
            "an id never asked",
            vec![hello(), good.clone(), answer(9, true, "x")],
            "not asked",
        ),
        (
            "two different answers",
            vec![hello(), good.clone(), answer(0, true, "activating")],
            "two different answers",
        ),
        (
            "no, then yes",
            vec![hello(), answer(0, false, "dead"), good.clone()],
            "is active: dead",
        ),
        (
            "a second hello",
            vec![hello(), hello(), good.clone()],
            "a second hello",
        ),
        (
            "an answer before hello",
            vec![good.clone(), hello()],
            "before its hello",
        ),
        (
            "a finding that nobody asked for",
            vec![hello(), finding(0, "x"), good.clone()],
            "a finding for question 0",
        ),
        (
            "a line without the nonce",
            vec![hello(), Observation::Stranger, good.clone()],
            "1 lines on the probe's port",
        ),
        (
            "a second done",
            vec![hello(), good.clone(), done(), done()],
            "",
        ),
    ];
    for (name, mut seen, expected) in rows {
        if name == "a second done" {
            // The first one has ended a run without requests: ask for one.
            let mut judge = judge(&[UNIT], 1);
            let seen = (1..).map(|n| n * 100).zip(seen).collect();
            let verdict = play_all(&mut judge, seen).remove(0).verdict;
            assert!(verdict.to_string().contains("a second done"), "{verdict}");
            continue;
        }
        seen.push(done());
        let seen = (1..).map(|n| n * 100).zip(seen).collect();
        let verdict = play(judge(&[UNIT], 0), seen).1;
        let said = verdict.to_string();
        assert!(
            !verdict.is_passed() && said.contains(expected),
            "{name}: {said}"
        );
    }
    let twice = vec![(1, hello()), (2, good.clone()), (3, good), (4, done())];
    assert_eq!(play(judge(&[UNIT], 0), twice).1, Verdict::Passed);
}

/// The journal has nothing of a unit.
fn nothing_said(unit: &str) -> Observation<'static> {
    Observation::Report(Report::UnitSaid {
        unit: unit.into(),
        text: String::new(),
    })
}

#[test]
fn a_verdict_comes_at_once_and_its_evidence_a_little_later() {
    let seen = vec![
        (100, hello()),
        (200, answer(0, false, "dead")),
        (700, answer(1, false, "gone")),
        (1200, answer(2, true, "active")),
        (1300, done()),
    ];
    let mut judge = judge(&["a", "b", "c"], 0);
    let ruling = play_all(&mut judge, seen).remove(0);
    assert_eq!(ruling.at, Duration::from_millis(800));
    let said = ruling.verdict.to_string();
    assert!(said.contains("unit a is active: dead; 1 more"), "{said}");
    assert!(judge.cases()[0].facts(1)[2].holds);

    // The third answer takes too long to be waited for.
    let seen = vec![
        (100, hello()),
        (200, answer(0, false, "dead")),
        (300, nothing_said("a")),
        (700, answer(1, true, "active")),
        (9000, done()),
    ];
    let mut judge = super::judge(&["a", "b", "c"], 0);
    let ruling = play_all(&mut judge, seen).remove(0);
    assert_eq!(ruling.at, Duration::from_millis(800));
    let found = &judge.cases()[0].facts(1)[2].found;
    assert_eq!(found, "not answered before the verdict");
}

#[test]
fn excused_units_may_fail_and_no_others() {
    let plan = || TestPlan {
        units_may_fail: vec!["a.service".into()],
        ..TestPlan::default()
    };
    let degraded = || done_with("degraded", root().to_string());
    let excused = vec![(1, hello()), (2, unit_failed("a.service")), (3, degraded())];
    assert_eq!(play(judge_plan(plan()), excused).1, Verdict::Passed);
    let other = vec![
        (1, hello()),
        (2, unit_failed("a.service")),
        (2, unit_failed("b.service")),
        (3, degraded()),
    ];
    let expected = (Failure::UnitFailed, "b.service failed");
    check("another unit", judge_plan(plan()), other, expected);
    let unexplained = vec![(1, hello()), (3, degraded())];
    let expected = (Failure::UnitFailed, "systemd says degraded");
    check("no unit told", judge_plan(plan()), unexplained, expected);
}

#[test]
fn the_journal_is_judged_by_the_list_and_the_day() {
    let allow = |contains: &str, until| JournalAllowance {
        contains: contains.into(),
        reason: "known".into(),
        until: day(until),
    };
    let allowed = vec![allow("floppy", "2026-11-22"), allow("tpm", "2026-11-21")];
    let plan = || TestPlan {
        journal: Some(JournalCheck {
            allowed: allowed.clone(),
        }),
        ..TestPlan::default()
    };
    let run = |entries: &[&str], readable| {
        let mut seen = vec![(1, hello())];
        seen.extend(entries.iter().map(|entry| (2, finding(0, entry))));
        seen.extend([(3, answer(0, readable, "read")), (4, done())]);
        play(judge_plan(plan()), seen).1.to_string()
    };
    assert_eq!(run(&[], true), "passed");
    assert_eq!(run(&["kernel: floppy: error"], true), "passed");
    assert!(run(&["kernel: tpm: error"], true).contains("until 2026-11-21, which is over"));
    assert!(run(&["x"], true).starts_with("assertion-failed: the journal"));
    assert!(run(&[], false).starts_with("assertion-failed: the journal"));
}

#[test]
fn budgets_have_a_name_of_their_own() {
    let budget = Budget {
        guest_seconds: Some(10),
        host_seconds: Some(20),
        memory_mib: Some(64),
        disk_mib: Some(3),
        ..Budget::default()
    };
    let plan = |budget: &Budget| TestPlan {
        budget: budget.clone(),
        ..TestPlan::default()
    };
    let run = |budget: &Budget, reached: &'static str, memory, end| {
        let seen = vec![
            (100, hello()),
            (end - 10, answer(0, true, reached)),
            (end, done_with_memory(memory)),
        ];
        play(judge_plan(plan(budget)), seen)
    };
    assert_eq!(run(&budget, "10000", 64 << 10, 20_000).1, Verdict::Passed);
    let small = Budget {
        disk_mib: Some(2),
        ..budget.clone()
    };
    let rows = [
        (
            run(&budget, "10001", 64 << 10, 20_000),
            "multi-user.target is reached",
        ),
        (run(&budget, "9000", (64 << 10) + 1, 20_000), "65 MiB"),
        (
            run(&small, "9000", 0, 20_000),
            "the data of the disk is at most 2 MiB: 3 MiB",
        ),
    ];
    for ((_, verdict), expected) in rows {
        let said = verdict.to_string();
        assert!(
            said.starts_with("budget-exceeded: ") && said.contains(expected),
            "{said}"
        );
    }
    // The host's clock needs no answer to run out.
    let (at, verdict) = run(&budget, "9000", 0, 30_000);
    assert!(
        verdict
            .to_string()
            .contains("not all was said after 20.0 s"),
        "{verdict}"
    );
    assert!((20_000..21_000).contains(&at), "{at}");
    let unknown = run(&budget, "soon", 0, 20_000).1.to_string();
    assert!(unknown.contains("`soon` is no time"), "{unknown}");
}

#[test]
fn plans_that_share_a_boot_are_judged_apart() {
    let plan = |unit: &str| TestPlan {
        units_active: vec!["both".into(), unit.to_owned()],
        ..TestPlan::default()
    };
    let mut judge = judge_with(&[plan("one"), plan("two")], rules());
    let asked = questions(&mut judge);
    assert_eq!(asked.len(), 3, "the same question is asked once: {asked:?}");
    let mut seen = vec![(100, hello())];
    for (id, check) in asked {
        let bad = matches!(&check, Check::UnitActive { unit } if unit == "two");
        seen.push((200, answer(id, !bad, "x")));
    }
    seen.push((300, done()));
    let rulings = play_all(&mut judge, seen);
    assert_eq!(rulings[0].verdict, Verdict::Passed);
    assert!(
        rulings[1]
            .verdict
            .to_string()
            .starts_with("unit-failed: unit two")
    );

    let mut both = judge_with(&[plan("one"), plan("two")], rules());
    let panic = line("[ 3.0] Kernel panic - not syncing: no root");
    for ruling in play_all(&mut both, vec![(100, panic)]) {
        assert!(ruling.verdict.to_string().starts_with("kernel-panic"));
    }
}

fn reboot_plan() -> TestPlan {
    TestPlan {
        reboot: Some(Reboot {
            survives: vec!["/var".into()],
            vanishes: vec!["/run".into()],
        }),
        units_active: vec![UNIT.into()],
        commands: vec![CommandCheck {
            run: vec!["/bin/rows".into()],
            exit_code: 0,
            contains: None,
            output: None,
            seconds: 3,
            after_restart: true,
        }],
        ..TestPlan::default()
    }
}

/// Answers every question of the opening orders at hand.
fn answer_all(judge: &mut Judge, at: u64, hello: Observation<'static>) {
    let at = Duration::from_millis(at);
    let asked = questions(judge);
    judge.observe(at, hello);
    for (id, _) in asked {
        judge.observe(at, answer(id, true, "fine"));
    }
    judge.observe(at, done());
}

#[test]
fn a_restart_is_ordered_once_all_holds_and_all_is_asked_again() {
    let mut judge = judge_plan(reboot_plan());
    let at = Duration::from_millis;
    answer_all(&mut judge, 1000, hello_of("1"));
    let wishes = judge.wishes();
    let Some(Wish::Orders(marks)) = wishes.last() else {
        panic!("{wishes:?}")
    };
    assert_eq!(marks.len(), 2, "{marks:?}");
    for order in marks.clone() {
        let Order::Mark { id, .. } = order else {
            panic!("{order:?}")
        };
        assert!(!judge.observe(at(1100), answer(id, true, "written")));
    }
    assert_eq!(judge.wishes(), [Wish::Orders(vec![Order::Restart])]);
    assert!(!judge.observe(at(1500), Observation::Machine(MachineEvent::Reset)));
    answer_all(&mut judge, 2000, hello_of("2"));
    assert_eq!(judge.cases()[0].ruling().unwrap().verdict, Verdict::Passed);
    let facts = judge.cases()[0].facts(2);
    let told: Vec<_> = facts
        .iter()
        .map(|fact| (fact.boot, fact.what.as_str()))
        .collect();
    let expected = [
        (1, "unit nginx.service is active"),
        (1, "a marker can be written into /var"),
        (1, "a marker can be written into /run"),
        (2, "unit nginx.service is active"),
        (2, "`/bin/rows` ends with 0"),
        (2, "what is in /var survives a restart"),
        (2, "what is in /run vanishes with a restart"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_restart_that_was_not_ordered_or_is_none_is_no_pass() {
    let at = Duration::from_millis;
    let reset = || Observation::Machine(MachineEvent::Reset);
    let mut early = judge_plan(reboot_plan());
    early.observe(at(900), hello_of("1"));
    early.observe(at(1000), reset());
    assert!(early.observe(at(2000), Observation::Tick));
    let said = early.cases()[0].ruling().unwrap().verdict.to_string();
    assert!(said.starts_with("guest-reset"), "{said}");

    let mut stale = judge_plan(reboot_plan());
    answer_all(&mut stale, 1000, hello_of("1"));
    for wish in stale.wishes() {
        let Wish::Orders(orders) = wish else { continue };
        for order in orders {
            if let Order::Mark { id, .. } = order {
                stale.observe(at(1100), answer(id, true, "written"));
            }
        }
    }
    assert_eq!(stale.wishes(), [Wish::Orders(vec![Order::Restart])]);
    stale.observe(at(1500), reset());
    answer_all(&mut stale, 2000, hello_of("1"));
    stale.observe(at(3000), Observation::Tick);
    let said = stale.cases()[0].ruling().unwrap().verdict.to_string();
    assert!(said.contains("a second hello"), "{said}");
}

#[test]
fn resets_that_are_allowed_end_attempts() {
    let allowed = Rules {
        resets: 2,
        ..rules()
    };
    let reset = || Observation::Machine(MachineEvent::Reset);
    let panic = || line("[ 3.0] Kernel panic - not syncing: no root");
    let good = vec![
        (1000, panic()),
        (5000, reset()),
        // The firmware's own; it is no attempt.
        (5100, reset()),
        (8000, reset()),
        (9000, hello_of("3")),
        (9500, done()),
    ];
    let mut judge = judge_with(&[TestPlan::default()], allowed);
    assert_eq!(play_all(&mut judge, good)[0].verdict, Verdict::Passed);
    let attempts = judge
        .attempts()
        .iter()
        .map(|attempt| attempt.verdict.to_string());
    let attempts: Vec<_> = attempts.collect();
    assert!(attempts[0].starts_with("kernel-panic"), "{attempts:?}");
    assert!(attempts[1].starts_with("guest-reset"), "{attempts:?}");

    let endless = (1..10).map(|n| (n * 1000, reset())).collect();
    let mut judge = judge_with(&[TestPlan::default()], allowed);
    let said = play_all(&mut judge, endless)[0].verdict.to_string();
    assert!(said.starts_with("guest-reset"), "{said}");

    // A failure that no reset follows is one all the same, when its time is over.
    let mut judge = judge_with(&[TestPlan::default()], allowed);
    let ruling = play_all(&mut judge, vec![(1000, panic())]).remove(0);
    assert_eq!(ruling.at, Duration::from_secs(16));
    assert!(ruling.verdict.to_string().starts_with("kernel-panic"));
}

#[test]
fn from_outside_only_what_shows_outside_is_a_pass() {
    let outside = Rules {
        way: ProbeWay::Outside,
        root_hash: None,
        ..rules()
    };
    let plan = || TestPlan {
        console: vec!["login:".into(), "nginx".into()],
        http: vec![request(80)],
        ..TestPlan::default()
    };
    let asked = Outside::Http(request(80));
    let http = |result| (6000, Observation::Outside(&asked, result));
    let fine = || http(Ok("status 200".to_owned()));
    let console = || {
        vec![
            (100, line("Started nginx")),
            (200, Observation::Prompt("debian login:")),
        ]
    };
    let mut judge = judge_with(&[plan()], outside);
    let wishes = judge.wishes();
    assert!(matches!(wishes[..], [Wish::Requests(_)]), "{wishes:?}");
    let ruling = play_all(&mut judge, [console(), vec![fine()]].concat()).remove(0);
    assert_eq!(ruling.verdict, Verdict::Passed);

    let verdict = |seen| play(judge_with(&[plan()], outside), seen).1.to_string();
    let wrong = verdict([console(), vec![http(Err("status 500".into()))]].concat());
    assert!(
        wrong.starts_with("assertion-failed: GET / on port 80"),
        "{wrong}"
    );
    let silent = verdict(vec![(100, line("Started nginx")), fine()]);
    assert!(silent.starts_with("guest-silent"), "{silent}");
    assert!(
        silent.contains("still missing: the console says `login:`"),
        "{silent}"
    );
    // A quiet console is no sin while an answer is waited for.
    let late = [console(), vec![(70_000, fine().1)]].concat();
    assert_eq!(verdict(late), "passed");
}
