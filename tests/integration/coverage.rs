//! A sample of what `scripts/coverage` measures: server packages of the real archive, their scripts
//! run, booted until their unit is active.

use std::fs;
use std::process::Command;

use baker_tests::program::{Baker, program, said};
use baker_tests::workspace;
use serde_json::Value;

#[test]
fn packages_of_the_list_run_as_services_once_their_scripts_have_run() {
    let baker = Baker::new().with_kept_store();
    let out = baker.home().join("coverage");
    // One asks questions and makes accounts; the other is content with an account.
    let sample = ["exim4-daemon-light", "memcached"];
    let mut command = Command::new(workspace().join("scripts/coverage"));
    command
        .args(["--lanes", "1"])
        .args(sample)
        .env("BAKER", program())
        .env("BAKER_STORE", baker.store())
        .env("BAKER_OUT", &out);
    let said = said(&command.output().unwrap());
    assert_eq!(said.code, Some(0), "{said:#?}");
    let text = fs::read_to_string(out.join("results.jsonl")).unwrap();
    let results: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let outcome = |package: &str, mode: &str| {
        let of = |line: &&Value| line["package"] == package && line["mode"] == mode;
        results.iter().find(of).unwrap()["outcome"].clone()
    };
    for package in sample {
        assert_eq!(outcome(package, "sandbox"), "passed", "{text}");
    }
    // Whose scripts are not known is refused, not baked without them.
    assert_eq!(outcome("exim4-daemon-light", "builtin"), "bake", "{text}");
    assert!(text.contains("exim4-base"), "{text}");
}
