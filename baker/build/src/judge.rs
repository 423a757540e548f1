//! Foreign programs that judge what this crate makes; tests only.

use std::path::PathBuf;
use std::process::Command;

/// The command `program`; none with a loud line when it is missing, a failure under
/// `BAKER_STRICT=1`.
pub(crate) fn judge(program: &str) -> Option<Command> {
    let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = folders
        .split(':')
        .map(|folder| PathBuf::from(folder).join(program));
    if let Some(path) = found.into_iter().find(|path| path.is_file()) {
        return Some(Command::new(path));
    }
    assert!(
        std::env::var("BAKER_STRICT").as_deref() != Ok("1"),
        "{program} is not installed"
    );
    eprintln!("SKIPPED a check: {program} is not installed");
    None
}

/// Runs a judge that must be content; gives what it said on both streams.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").output().expect("a judge runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}
