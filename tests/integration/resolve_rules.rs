//! Debian's rules of dependency, one by one, and the resolver against brute force.

use std::collections::BTreeSet;

use baker_fetch::ResolveError;
use baker_fetch::debian::index;
use baker_fetch::debian::records::Records;
use baker_fetch::resolve::{self, Policy, Request, Universe};
use proptest::prelude::*;

/// Records from lines of `name version; Field: value; ...`.
fn records(lines: &str) -> Records {
    let mut text = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut parts = line.split(';').map(str::trim);
        let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
        let digest = "00".repeat(32);
        text.push_str(&format!(
            "Package: {name}\nVersion: {version}\nFilename: pool/{name}.deb\n"
        ));
        text.push_str(&format!("Size: 1\nSHA256: {digest}\n"));
        let fields: Vec<&str> = parts.collect();
        if !fields.iter().any(|field| field.starts_with("Architecture")) {
            text.push_str("Architecture: amd64\n");
        }
        text.push_str(&format!("{}\n\n", fields.join("\n")));
    }
    index::read(text.as_bytes(), 0).unwrap()
}

#[derive(Default)]
struct Rules {
    assumed: &'static [&'static str],
    recommends: bool,
    essential: bool,
}

fn resolve_with(lines: &str, asked: &str, rules: &Rules) -> Result<String, ResolveError> {
    let records = records(lines);
    let suites = ["trixie".to_owned()];
    let requests: Result<Vec<_>, _> = asked
        .split_whitespace()
        .map(|text| Request::parse(text, "amd64"))
        .collect();
    let requests = requests?;
    let policy = Policy {
        architecture: "amd64",
        suites: &suites,
        assumed: rules.assumed.iter().copied().collect::<BTreeSet<_>>(),
        recommends: rules.recommends,
    };
    let universe = Universe::new(&records, policy, &requests)?;
    let mut ids: Vec<_> = requests
        .iter()
        .filter_map(|r| universe.candidate(r.name))
        .collect();
    if rules.essential {
        ids.extend(universe.essential());
    }
    let resolution = resolve::resolve(&universe, &ids)?;
    let text = |id| format!("{}={}", universe.name(id), universe.record(id).version);
    Ok(resolution
        .packages
        .into_iter()
        .map(text)
        .collect::<Vec<_>>()
        .join(" "))
}

fn check(lines: &str, asked: &str, expected: &str) {
    let found = resolve_with(lines, asked, &Rules::default());
    assert_eq!(
        found.unwrap_or_else(|error| panic!("{lines}\n{error}")),
        expected,
        "{lines}"
    );
}

fn refused(lines: &str, asked: &str) -> String {
    resolve_with(lines, asked, &Rules::default())
        .expect_err("this cannot be resolved")
        .to_string()
}

#[test]
fn dependencies_and_alternatives() {
    check(
        "a 1; Depends: b\nb 1; Pre-Depends: c\nc 1\nd 1",
        "a",
        "a=1 b=1 c=1",
    );
    check("a 1; Depends: b | c\nb 1\nc 1", "a", "a=1 b=1");
    check("a 1; Depends: b | c\nc 1", "a", "a=1 c=1");
    check("a 1; Depends: b | c\nb 1\nc 1", "a c", "a=1 c=1");
    check("a 1; Depends: b (>= 2) | c\nb 1\nc 1", "a", "a=1 c=1");
    check("a 1; Depends: b\nb 1; Depends: a", "a", "a=1 b=1");
    check("a 1; Recommends: b\nb 1", "a", "a=1");
}

#[test]
fn versions_and_pins() {
    check("a 1\na 2\na 2~rc1", "a", "a=2");
    check("a 1\na 2", "a=1", "a=1");
    check("a 1; Architecture: all\na 1", "a:amd64", "a=1");
    check("a 1; Depends: b (= 1)\nb 1\nb 2", "a b=1", "a=1 b=1");
    let text = refused("a 1; Depends: b (= 1)\nb 1\nb 2", "a");
    assert!(
        text.contains("a (asked for) needs b (= 1), but only b 2 in trixie is there"),
        "{text}"
    );
    let text = refused("a 1\na 3", "a=2");
    assert!(
        text.contains("no version 2; there is 3 in trixie, 1 in trixie"),
        "{text}"
    );
}

#[test]
fn virtual_packages() {
    check("a 1; Depends: v\nb 1; Provides: v", "a", "a=1 b=1");
    check("a 1; Depends: v\nb 1; Provides: v\nv 1", "a", "a=1 v=1");
    check(
        "a 1; Depends: v (>= 2) | x\nb 1; Provides: v\nx 1",
        "a",
        "a=1 x=1",
    );
    check(
        "a 1; Depends: v (>= 2)\nb 1; Provides: v (= 2.1)",
        "a",
        "a=1 b=1",
    );
    check(
        "a 1; Depends: v\nb 1; Provides: v; Priority: optional\nc 1; Provides: v; Priority: important",
        "a",
        "a=1 c=1",
    );
    check(
        "a 1; Depends: v\nb 1; Provides: v\nc 1; Provides: v",
        "a c",
        "a=1 c=1",
    );
    let text = refused("b 1; Provides: v", "v1");
    assert!(text.contains("`v1` is not in trixie"), "{text}");
    let text = refused("bb 1; Provides: vv", "vv");
    assert!(
        text.contains("virtual package") && text.contains("bb"),
        "{text}"
    );
}

#[test]
fn conflicts_and_breaks() {
    check(
        "a 1; Depends: b | c\nb 1; Conflicts: d\nc 1\nd 1",
        "a d",
        "a=1 c=1 d=1",
    );
    check(
        "a 1; Depends: b | c\nb 1\nc 1\nd 1; Breaks: b (<< 2)",
        "a d",
        "a=1 c=1 d=1",
    );
    check(
        "a 1; Depends: b\nb 2\nd 1; Breaks: b (<< 2)",
        "a d",
        "a=1 b=2 d=1",
    );
    // Conflicting with what one provides means all other providers.
    check(
        "a 1; Provides: m; Conflicts: m\nx 1; Depends: a | m",
        "x",
        "a=1 x=1",
    );
    let text = refused(
        "aa 1; Provides: m; Conflicts: m\nbb 1; Provides: m",
        "aa bb",
    );
    assert!(
        text.contains("aa conflicts with bb (Conflicts: m)"),
        "{text}"
    );
    assert!(text.contains("aa is asked for; bb is asked for"), "{text}");
    // The first choices do not hold: only a search finds the way.
    check(
        "a 1; Depends: b | c, e\nb 1; Depends: x\nc 1\ne 1; Conflicts: x\nx 1",
        "a",
        "a=1 c=1 e=1",
    );
}

#[test]
fn architecture_qualifiers() {
    check(
        "a 1; Depends: p:any\np 1; Multi-Arch: allowed",
        "a",
        "a=1 p=1",
    );
    check("a 1; Depends: p:native\np 1", "a", "a=1 p=1");
    let text = refused("a 1; Depends: p:any\np 1", "a");
    assert!(text.contains("a (asked for) needs p:any"), "{text}");
    assert!(
        refused("a 1", "a:i386").contains("another architecture"),
        "one image, one architecture"
    );
    assert!(refused("a 1; Depends: p:i386\np 1", "a").contains("p:i386"));
}

#[test]
fn the_recipes_own_rules() {
    let assumed = Rules {
        assumed: &["perl"],
        ..Rules::default()
    };
    let lines = "a 1; Depends: perl, b | perl\nb 1\nperl 5";
    assert_eq!(resolve_with(lines, "a", &assumed).unwrap(), "a=1");
    assert!(matches!(
        resolve_with(lines, "perl", &assumed),
        Err(ResolveError::Assumed { .. })
    ));
    let recommends = Rules {
        recommends: true,
        ..Rules::default()
    };
    let lines = "a 1; Recommends: b, c, nothing\nb 1\nc 1; Conflicts: a";
    assert_eq!(resolve_with(lines, "a", &recommends).unwrap(), "a=1 b=1");
    let essential = Rules {
        essential: true,
        ..Rules::default()
    };
    let lines = "a 1\nb 1; Essential: yes; Depends: c\nc 1\nb 0";
    assert_eq!(resolve_with(lines, "a", &essential).unwrap(), "a=1 b=1 c=1");
}

#[test]
fn what_cannot_be_is_told_in_packages() {
    let text = refused("nginx 1; Depends: libfoo (>= 2)\nlibfoo 1.9", "nginx");
    assert!(
        text.contains("nginx (asked for) needs libfoo (>= 2), but only libfoo 1.9 in trixie"),
        "{text}"
    );
    let text = refused(
        "a 1; Depends: b\nb 1; Depends: c\nc 1; Depends: gone | away",
        "a",
    );
    let chain = "c (needed by b (needed by a (asked for))) needs gone | away";
    assert!(text.contains(chain), "{text}");
    assert!(
        text.contains("gone is not in trixie, and away is not in trixie"),
        "{text}"
    );
    let text = refused("aa 1; Depends: xx\nbb 1; Conflicts: xx\nxx 1", "aa bb");
    let wanted = "aa (asked for) needs xx, but bb (asked for) conflicts with xx";
    assert!(text.contains(wanted), "{text}");
    let text = refused(
        "aa 1; Depends: xx\nbb 1; Depends: yy\nxx 1\nyy 1; Breaks: xx (<< 2)",
        "aa bb",
    );
    let wanted = "yy breaks xx (Breaks: xx (<< 2)): yy is needed by bb (asked for) (as yy); \
        xx is needed by aa (asked for) (as xx)";
    assert!(text.contains(wanted), "{text}");
    let both = "a 1; Depends: b | c\nb 1; Depends: nob\nc 1; Depends: noc";
    let text = refused(both, "a");
    assert!(text.contains("no way to meet that works"), "{text}");
    assert!(
        text.contains("needs nob") && text.contains("needs noc"),
        "{text}"
    );
    let text = refused("nginx 1\nnginx-core 1", "ngnix");
    assert!(text.contains("did you mean nginx?"), "{text}");
    assert!(refused("a 1", "A!").contains("is no package"));
    assert!(refused("a 1; Depends: ((", "a").contains("cannot read Depends of package a"));
}

/// Up to seven packages with random needs and conflicts.
fn world() -> impl Strategy<Value = Vec<(Vec<Vec<usize>>, Vec<usize>)>> {
    let groups = prop::collection::vec(prop::collection::vec(0..8_usize, 1..3), 0..3);
    let conflicts = prop::collection::vec(0..8_usize, 0..2);
    prop::collection::vec((groups, conflicts), 3..8)
}

/// True when a set has all it needs and no conflict; packages are bits.
fn holds(world: &[(Vec<Vec<usize>>, Vec<usize>)], set: u32) -> bool {
    let has = |number: usize| set >> number & 1 == 1 && number < world.len();
    world
        .iter()
        .enumerate()
        .filter(|(number, _)| has(*number))
        .all(|(number, (groups, against))| {
            groups
                .iter()
                .all(|group| group.iter().any(|option| has(*option)))
                && against.iter().all(|other| *other == number || !has(*other))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn finds_a_set_exactly_when_there_is_one(world in world()) {
        let mut lines = String::new();
        for (number, (groups, against)) in world.iter().enumerate() {
            let group = |group: &Vec<usize>| {
                group.iter().map(|option| format!("p{option}")).collect::<Vec<_>>().join(" | ")
            };
            let groups: Vec<String> = groups.iter().map(group).collect();
            let against: Vec<String> = against.iter().map(|other| format!("p{other}")).collect();
            let (groups, against) = (groups.join(", "), against.join(", "));
            lines.push_str(&format!("p{number} 1; Depends: {groups}; Conflicts: {against}\n"));
        }
        let possible = (0..1_u32 << world.len()).any(|set| set & 3 == 3 && holds(&world, set));
        match resolve_with(&lines, "p0 p1", &Rules::default()) {
            Ok(found) => {
                let numbers = found.split(' ').map(|name| name[1..2].parse::<u32>().unwrap());
                let set = numbers.fold(0, |set, number| set | 1 << number);
                prop_assert!(set & 3 == 3 && holds(&world, set), "{lines}\n{found}");
                prop_assert_eq!(resolve_with(&lines, "p0 p1", &Rules::default()).unwrap(), found);
            }
            Err(ResolveError::Unsolvable { reasons }) => {
                prop_assert!(!possible, "{lines}\n{reasons:?}");
                prop_assert!(!reasons.is_empty());
            }
            Err(other) => prop_assert!(false, "{lines}\n{other}"),
        }
    }
}
