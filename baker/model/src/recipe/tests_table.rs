//! What the `[[test]]` tables must be beyond their types.

use std::collections::BTreeSet;

use super::RecipeError;
use super::credential::is_name as is_credential;
use super::parse::{find_key, find_value};
use crate::plan::{TestPlan, neighbour};

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
        check_outside(test, text)?;
        check_neighbours(test, text)?;
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
    if test.networks == 0 && !(test.http.is_empty() && test.ssh.is_empty()) {
        let problem = "a test with `http` or `ssh` needs a network card; networks is 0".to_owned();
        return Err(RecipeError::at(text, find_key(text, "networks"), problem));
    }
    Ok(())
}

/// Credentials, and what is asked from outside with them.
fn check_outside(test: &TestPlan, text: &str) -> Result<(), RecipeError> {
    let refuse =
        |value: &str, problem| Err(RecipeError::at(text, find_value(text, value), problem));
    for (place, given) in test.credentials.iter().enumerate() {
        let name = &given.name;
        if !is_credential(name) {
            return refuse(name, format!("`{name}` is no name of a credential"));
        }
        if test.credentials[..place]
            .iter()
            .any(|other| other.name == *name)
        {
            return refuse(name, format!("the credential `{name}` is given twice"));
        }
        if given.source().is_none() {
            let problem = format!(
                "the credential `{name}` needs one of value, ssh-key, certificate, private-key"
            );
            return refuse(name, problem);
        }
    }
    for http in &test.http {
        let served = |name: &String| {
            let mut all = test.credentials.iter();
            all.any(|given| given.certificate.as_ref() == Some(name))
        };
        if let Some(name) = http.tls.as_ref().filter(|name| !served(name)) {
            let problem =
                format!("no [[test.credential]] gives the machine a certificate `{name}`");
            return refuse(name, problem);
        }
    }
    for ssh in &test.ssh {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let name = |name: &str| name.starts_with(|c: char| c != '-') && name.chars().all(plain);
        for word in [&ssh.user, &ssh.key] {
            if !name(word) {
                return refuse(
                    word,
                    format!("`{word}` is no name: use letters, digits, - and _"),
                );
            }
        }
        if ssh.refused && !(ssh.run.is_empty() && ssh.contains.is_none()) {
            let problem = "a login that must be `refused` runs nothing".to_owned();
            return refuse(&ssh.key, problem);
        }
    }
    Ok(())
}

/// Other machines in the test.
fn check_neighbours(test: &TestPlan, text: &str) -> Result<(), RecipeError> {
    let count = u32::try_from(test.neighbours.len()).unwrap_or(u32::MAX);
    if count > NETWORKS {
        let problem = format!("{count} neighbours are more than {NETWORKS}");
        let at = text.find("[[test.neighbour]]").unwrap_or(0);
        return Err(RecipeError::at(text, at, problem));
    }
    match neighbour::problem(&test.neighbours) {
        Some((name, problem)) => Err(RecipeError::at(text, find_value(text, name), problem)),
        None => Ok(()),
    }
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
        if command.after_restart && test.reboot.is_none() {
            let problem = "a command `after-restart` is never run: the test has no restart";
            let at = find_key(text, "after-restart");
            return Err(RecipeError::at(text, at, problem).hint("add [test.reboot]"));
        }
    }
    Ok(())
}
