//! Foreign programs that judge what this crate writes; tests only.

use std::process::Command;

/// The command `program`, or none with a loud line when it is not installed.
///
/// With `BAKER_STRICT=1` a missing judge is a failure.
pub(crate) fn judge(program: &str) -> Option<Command> {
    let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = folders
        .split(':')
        .map(|folder| format!("{folder}/{program}"));
    if let Some(path) = found
        .into_iter()
        .find(|path| std::path::Path::new(path).is_file())
    {
        return Some(Command::new(path));
    }
    assert!(
        std::env::var("BAKER_STRICT").as_deref() != Ok("1"),
        "{program} is not installed"
    );
    eprintln!("SKIPPED a check: {program} is not installed");
    None
}

/// Runs a judge to its end; gives what it said on both streams and whether it was content.
pub(crate) fn run(command: &mut Command) -> (bool, String) {
    let output = command
        .env("LC_ALL", "C")
        .output()
        .expect("a judge that is there can run");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}
