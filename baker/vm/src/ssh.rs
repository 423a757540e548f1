//! One login by SSH, by OpenSSH's own client: what people will use is what judges.
//!
//! The client reads nothing of whoever runs the test: no configuration, no agent, no known hosts.
//! Whose host it is, is proven by the probe and not by the host's key.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use baker_model::plan::SshCheck;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::arguments::quote_word;
use crate::http::Window;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// A single try may take this long: an emulated guest computes on its keys for seconds.
const TRY: Duration = Duration::from_secs(40);

/// What ssh ends with when it did not get as far as the command.
const FAILED: i32 = 255;

/// How one try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    /// The server let the key in; status and output of the command.
    In { status: i32, output: String },
    /// The server refused the key.
    Refused,
    /// Nobody to talk to; the client's words.
    Unreached(String),
}

/// Logs in until it goes as planned or the time is up; says what was found, or what was wrong
/// last.
pub(crate) async fn check(
    check: &SshCheck,
    host_port: u16,
    window: Window,
    identity: &Path,
) -> Result<String, String> {
    let mut deadline = Instant::now() + window.any;
    let mut answered = false;
    loop {
        let ending = match timeout(TRY, attempt(check, host_port, identity)).await {
            Err(_) => Ending::Unreached(format!("no end within {} s", TRY.as_secs())),
            Ok(Err(error)) => return Err(format!("cannot run ssh, OpenSSH's client: {error}")),
            Ok(Ok(ending)) => ending,
        };
        if !answered && !matches!(ending, Ending::Unreached(_)) {
            answered = true;
            deadline = deadline.min(Instant::now() + window.right);
        }
        let problem = match judge(check, &ending) {
            Ok(found) => return Ok(found),
            Err(problem) => problem,
        };
        if Instant::now() + PAUSE >= deadline {
            return Err(problem);
        }
        sleep(PAUSE).await;
    }
}

async fn attempt(check: &SshCheck, port: u16, identity: &Path) -> std::io::Result<Ending> {
    let mut command = Command::new("ssh");
    command.args(["-F", "none", "-T", "-n", "-p", &port.to_string(), "-i"]);
    command.arg(identity);
    for option in [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "PreferredAuthentications=publickey",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "GlobalKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "ConnectTimeout=30",
    ] {
        command.args(["-o", option]);
    }
    command.args(["-l", &check.user, "127.0.0.1", "--"]);
    // The words go through the shell of the user; without any it has nothing to do.
    let words: Vec<String> = check
        .run
        .iter()
        .map(|word| quote_word(word.as_ref()))
        .collect();
    command.arg(if words.is_empty() {
        "exit 0".to_owned()
    } else {
        words.join(" ")
    });
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    let status = output.status.code().unwrap_or(FAILED);
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
    Ok(match last {
        Some(line) if status == FAILED && line.contains("Permission denied (") => Ending::Refused,
        line if status == FAILED => Ending::Unreached(line.unwrap_or("no reason given").to_owned()),
        _ => Ending::In {
            status,
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
        },
    })
}

fn judge(check: &SshCheck, ending: &Ending) -> Result<String, String> {
    match ending {
        Ending::Unreached(problem) => Err(problem.clone()),
        Ending::Refused if check.refused => Ok("refused".to_owned()),
        Ending::Refused => Err("the server refuses the key".to_owned()),
        Ending::In { .. } if check.refused => Err("the server lets the key in".to_owned()),
        Ending::In { status, output } if *status != 0 => {
            let ends = format!("the command ends with {status}");
            // What it said last is most often why.
            Err(match output.trim_end().lines().next_back() {
                Some(last) => format!("{ends} and `{}`", last.trim()),
                None => ends,
            })
        }
        Ending::In { output, .. } => match &check.contains {
            Some(text) if !output.contains(text.as_str()) => {
                Err(format!("`{}` does not contain `{text}`", output.trim()))
            }
            _ => Ok(format!("logged in, {} bytes of output", output.len())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_judged_by_what_was_planned() {
        let plan = |refused, contains: Option<&str>| SshCheck {
            port: 22,
            user: "root".to_owned(),
            key: "operator".to_owned(),
            run: Vec::new(),
            contains: contains.map(str::to_owned),
            refused,
        };
        let inside = |status, output: &str| Ending::In {
            status,
            output: output.to_owned(),
        };
        let rows = [
            (plan(false, None), inside(0, ""), true),
            (plan(false, Some("up")), inside(0, "it is up\n"), true),
            (plan(false, Some("up")), inside(0, "it is down\n"), false),
            (plan(false, None), inside(1, ""), false),
            (plan(false, None), Ending::Refused, false),
            (plan(true, None), Ending::Refused, true),
            (plan(true, None), inside(0, ""), false),
            (plan(true, None), Ending::Unreached("x".to_owned()), false),
        ];
        for (plan, ending, good) in rows {
            assert_eq!(judge(&plan, &ending).is_ok(), good, "{plan:?} {ending:?}");
        }
    }
}
