//! Tests with other machines: `recipes/router` between two neighbours, and what is said when its
//! rules are not what they should be.

use baker_tests::bakery::{Locked, seated};
use serde_json::Value;

/// The rule, what stands there instead, and the neighbour's words about it.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// Each row boots three machines: only with `BAKER_FIXTURES=all`.
fn rows() -> Vec<Row> {
    let all = [
        ("", "", &[][..]),
        (
            "hook forward priority filter; policy drop;",
            "hook forward priority filter; policy accept;",
            &[
                "assertion-failed",
                "left hears nothing of 10.2.0.2:8080: right answers and sees 10.2.0.1",
            ],
        ),
        (
            "oifname \"wan\" masquerade",
            "",
            &[
                "assertion-failed",
                "left reaches 10.2.0.2:80, where right answers and sees 10.2.0.1: right answers \
                 and sees 10.1.0.2",
            ],
        ),
    ];
    match std::env::var("BAKER_FIXTURES").as_deref() {
        Ok("all") => all.to_vec(),
        _ => Vec::new(),
    }
}

/// A rule that is missing is found by those whom it should have held up; their names and what they
/// saw are the verdict.
#[test]
fn a_router_is_judged_by_its_neighbours() {
    for (rule, instead, words) in rows() {
        let rules = include_str!("../../recipes/router/files/nftables.conf");
        assert!(rules.contains(rule), "{rule}");
        let changed = rules.replacen(rule, instead, 1);
        let file = ("files/nftables.conf", changed.as_bytes());
        let locked = Locked::with_file("router", file, |text| text);
        let draft = locked.bake(&locked.baker.home().join("drafts"));
        let evidence = locked.baker.home().join("evidence");
        let test = ["test".as_ref(), draft.as_os_str(), "--evidence".as_ref()];
        let said = seated(|| {
            let all = test.into_iter().chain([evidence.as_os_str()]);
            locked.baker.run(all)
        });
        let folder = evidence.join("router-1.0.0/direct");
        let report = std::fs::read_to_string(folder.join("report.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        let held = |words: &str| {
            let mut checks = report["checks"].as_array().unwrap().iter();
            let check = checks.find(|check| check["what"] == words);
            check.unwrap_or_else(|| panic!("{words}: {report:#}"))["holds"] == true
        };
        assert!(held("the neighbour left is up"), "{}", said.stderr);
        assert!(held("the neighbour right is up"), "{}", said.stderr);
        if words.is_empty() {
            assert_eq!(report["verdict"]["verdict"], "passed", "{report:#}");
        } else {
            said.assert(6, words);
        }
        let log = std::fs::read_to_string(folder.join("neighbour-left.log")).unwrap();
        assert!(
            log.contains("baker1 reached id=1 end=answered by=right"),
            "{log}"
        );
    }
}
