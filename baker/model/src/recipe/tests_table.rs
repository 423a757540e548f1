//! What the `[[test]]` tables must be beyond their types.

use std::collections::BTreeSet;

use super::RecipeError;
use super::parse::{find_key, find_value};
use crate::plan::TestPlan;

/// Most CPUs, memory and network cards that a test machine may have.
const CPUS: u32 = 64;
const MEMORY_MIB: u32 = 1 << 20;
const NETWORKS: u32 = 8;

/// Checks tests that were parsed from `text`.
pub(crate) fn check_tests(tests: &[TestPlan], text: &str) -> Result<(), RecipeError> {
    let mut titles = BTreeSet::new();
    for test in tests {
        if !titles.insert(test.title()) {
            let offset = text.rfind("[[test]]").unwrap_or(0);
            let problem = format!("two tests are called `{}`", test.title());
            return Err(
                RecipeError::at(text, offset, problem).hint("give each [[test]] its own `name`")
            );
        }
        check_name(test.title(), text)?;
        check_machine(test, text)?;
        check_paths(test, text)?;
    }
    Ok(())
}

/// The name becomes a folder of the evidence.
fn check_name(title: &str, text: &str) -> Result<(), RecipeError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = (1..=64).contains(&title.len())
        && title.chars().all(plain)
        && title.starts_with(|c: char| c.is_ascii_alphanumeric());
    if good {
        return Ok(());
    }
    let problem = format!("`{title}` is no name for a test: use letters, digits, - _ and .");
    Err(RecipeError::at(text, find_value(text, title), problem))
}

fn check_machine(test: &TestPlan, text: &str) -> Result<(), RecipeError> {
    let rows = [
        ("cpus", test.cpus, 1, CPUS),
        ("memory-mib", test.memory_mib, 16, MEMORY_MIB),
        ("networks", test.networks, 0, NETWORKS),
        ("boot-seconds", test.boot_seconds, 1, 24 * 3600),
    ];
    for (key, value, least, most) in rows {
        if !(least..=most).contains(&value) {
            let problem = format!("{key} = {value} is outside {least} to {most}");
            return Err(RecipeError::at(text, find_key(text, key), problem));
        }
    }
    if test.networks == 0 && !test.http.is_empty() {
        let problem = "a test with `http` needs a network card; networks is 0".to_owned();
        return Err(RecipeError::at(text, find_key(text, "networks"), problem));
    }
    Ok(())
}

fn check_paths(test: &TestPlan, text: &str) -> Result<(), RecipeError> {
    let reboot = test.reboot.iter();
    let folders = reboot.flat_map(|reboot| reboot.survives.iter().chain(&reboot.vanishes));
    let paths = test
        .files
        .iter()
        .map(|file| &file.path)
        .chain(test.setuid.iter().flatten())
        .chain(folders);
    for path in paths {
        if !path.starts_with('/') {
            let problem = format!("`{path}` is no absolute path");
            return Err(RecipeError::at(text, find_value(text, path), problem));
        }
    }
    for command in &test.commands {
        let at = find_key(text, "run");
        match command.run.first() {
            None => {
                return Err(RecipeError::at(text, at, "`run` names no program"));
            }
            Some(program) if !program.starts_with('/') => {
                let problem =
                    format!("`{program}` is no absolute path; there is no shell to find it");
                return Err(RecipeError::at(text, find_value(text, program), problem));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
