//! A machine for a person: console on the terminal, Ctrl-A X to quit.
//!
//! Takes the same disk as a smoke test and boots it with the same care: never written to, gone
//! when baker is gone.

use std::io;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use baker_model::Interrupt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::arguments::shell_line;
use crate::child::die_with_parent;
use crate::machine::{Attachment, Machine};
use crate::qemu::Qemu;

/// How often the child and the wish to stop are looked at.
const TICK: Duration = Duration::from_millis(50);

/// QEMU puts the terminal back in order when asked to end; this long it may take.
const GRACE: Duration = Duration::from_secs(3);

/// Why a machine could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// QEMU could not be started or waited for.
    #[error("cannot run {command}")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A person asked to stop.
    #[error("the machine was stopped")]
    Interrupted,
}

/// Boots `machine` with its console on this process's terminal and waits for its end.
///
/// # Errors
/// QEMU cannot be started, or `interrupt` was raised; the machine is gone then.
pub fn run(qemu: &Qemu, machine: &Machine, interrupt: &Interrupt) -> Result<ExitStatus, RunError> {
    let argv = machine.argv(Attachment::Terminal);
    let failed = |source| RunError::Start {
        command: shell_line(&qemu.program, &argv),
        source,
    };
    let mut command = Command::new(&qemu.program);
    command.args(&argv);
    // The child stays in the terminal's foreground group: in a group of its own, reading the
    // terminal would stop it.
    let mut child = die_with_parent(&mut command).spawn().map_err(failed)?;
    let mut asked: Option<Instant> = None;
    loop {
        match child.try_wait().map_err(failed)? {
            Some(_) if asked.is_some() => return Err(RunError::Interrupted),
            Some(status) => return Ok(status),
            None => {}
        }
        match asked {
            None if interrupt.is_raised() => {
                if let Ok(id) = i32::try_from(child.id()) {
                    // The child has not been waited for, so its id is still its own.
                    kill(Pid::from_raw(id), Signal::SIGTERM).ok();
                }
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() >= GRACE => {
                child.kill().map_err(failed)?;
                child.wait().map_err(failed)?;
                return Err(RunError::Interrupted);
            }
            _ => std::thread::sleep(TICK),
        }
    }
}
