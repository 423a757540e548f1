//! Bakes where nothing is given but a processor and some memory: no capability, no namespace, no
//! `/dev/kvm`, no network, nobody's user id, and nothing to write to but a small file system in
//! memory.

use baker_tests::bakery::{minimal, minimal_draft, seated};
use baker_tests::confined::Confined;

use crate::sandbox;

/// What must be so inside, or the rest proves nothing.
const CONFINED: &str = r#"
refused() { if "$@" 2>/dev/null; then echo "$* is possible" >&2; exit 99; fi }
[ "$(id -u):$(id -g)" = 65534:65534 ]
[ "$(grep -c '^Cap[IPEA].*:.0000000000000000$' /proc/self/status)" = 4 ]
grep -q '^NoNewPrivs:.1$' /proc/self/status
refused unshare --user true
refused unshare --mount true
refused touch /here
refused touch /usr/here
refused [ -e /dev/kvm ]
[ "$(grep -c : /proc/net/dev)" = 1 ]
[ -z "${HOME:-}${TMPDIR:-}" ]
"#;

#[test]
fn without_privileges_a_bake_gives_the_same_disk() {
    let name = "without_privileges_a_bake_gives_the_same_disk";
    let Some(confined) = Confined::new(name, 384) else {
        return;
    };
    confined.bring(&minimal().recipe, minimal().baker.store());
    let said = confined.sh(&format!(
        "{CONFINED}\nbaker bake recipe --to drafts >draft\nsha256sum $(cat draft)/*.raw"
    ));
    said.assert(0, &[]);
    let digest = sandbox::digest(minimal_draft(), ".raw").to_string();
    assert!(said.stdout.starts_with(&digest), "{said:#?}");
}

#[test]
fn without_privileges_scripts_run_in_a_machine_and_give_the_same_disk() {
    let name = "without_privileges_scripts_run_in_a_machine_and_give_the_same_disk";
    let locked = sandbox::small();
    let Some(confined) = Confined::new(name, 1024) else {
        return;
    };
    confined.bring(&locked.recipe, locked.baker.store());
    let (host, _) = sandbox::bake_anew(locked, "namespaces");
    let said = seated(|| {
        confined.sh(&format!(
            "{CONFINED}\nbaker bake recipe --to drafts >draft\nsha256sum $(cat draft)/*.raw\n\
             cat $(cat draft)/*.scripts.json"
        ))
    });
    said.assert(0, &["scripts run in a throwaway machine", "ran in machine"]);
    let (digest, rest) = said.stdout.split_once(' ').unwrap();
    let (_, record) = rest.split_once('\n').unwrap();
    assert_eq!(digest, sandbox::digest(&host, ".raw").to_string());
    let record = serde_json::from_str(record).unwrap();
    assert_eq!(sandbox::ran(&record), sandbox::ran(&sandbox::record(&host)));
}
