//! A TPM for one run, emulated by swtpm. It has never been used before and is gone afterwards.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::process::Child;
use tokio::time::{Instant, sleep};

use crate::child::die_with_parent;

/// How long swtpm may take to listen, and how often that is looked at.
const START: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);

/// Starts it, with its state in `folder`; it listens on `socket` when this returns.
pub(crate) async fn start(socket: &Path, folder: &Path) -> io::Result<Child> {
    let state = folder.join("tpm-state");
    fs::create_dir_all(&state)?;
    let mut command = Command::new("swtpm");
    command.args(["socket", "--tpm2", "--flags", "startup-clear"]);
    command
        .arg("--tpmstate")
        .arg(format!("dir={}", state.display()));
    command
        .arg("--ctrl")
        .arg(format!("type=unixio,path={}", socket.display()));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    die_with_parent(&mut command);
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            let text = format!(
                "the test wants a TPM; cannot start swtpm (Debian's package swtpm): {error}"
            );
            io::Error::new(error.kind(), text)
        })?;
    let deadline = Instant::now() + START;
    while !socket.exists() {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!(
                "swtpm ended by itself ({status})"
            )));
        }
        if Instant::now() >= deadline {
            return Err(io::Error::other("swtpm does not listen"));
        }
        sleep(PAUSE).await;
    }
    Ok(child)
}
