//! The steps of a job, one after the other.

use std::fs::OpenOptions;
use std::io::{self, PipeReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use baker_contract::sandbox::{Frame, Job, Step};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::frames::Frames;
use crate::{Fault, doing};

/// Code of a step whose program cannot be started, as shells have it.
const NOT_STARTED: i32 = 127;

/// Bytes read of a step at a time.
const BUFFER: usize = 16 << 10;

/// Where a person is.
const TERMINAL: &str = "/dev/tty";

/// How the job went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every step ended with 0.
    Good,
    /// One did not; those behind it did not run.
    Bad,
}

/// Runs the steps.
pub fn run(job: &Job, frames: &Frames) -> Result<Outcome, Fault> {
    let mut outcome = Outcome::Good;
    for (number, step) in job.steps.iter().enumerate() {
        if outcome == Outcome::Bad && !step.runs_after_failure {
            continue;
        }
        let number = u32::try_from(number).map_err(doing("count steps"))?;
        frames.send(&Frame::Started(number))?;
        let code = one(job, step, frames)?;
        frames.send(&Frame::Ended(code))?;
        if code != 0 {
            outcome = Outcome::Bad;
        }
    }
    Ok(outcome)
}

fn one(job: &Job, step: &Step, frames: &Frames) -> Result<i32, Fault> {
    let Some((program, arguments)) = step.argv.split_first() else {
        return Err("a step without a program".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.envs(job.environment.iter().cloned());
    command.current_dir(if step.directory.is_empty() {
        "/"
    } else {
        &step.directory
    });
    let (reader, writer) = io::pipe().map_err(doing("make a pipe"))?;
    if step.is_interactive {
        let terminal = || OpenOptions::new().read(true).write(true).open(TERMINAL);
        command.stdin(terminal().map_err(doing("open the terminal"))?);
        command.stdout(terminal().map_err(doing("open the terminal"))?);
        command.stderr(terminal().map_err(doing("open the terminal"))?);
    } else {
        let copy = writer.try_clone().map_err(doing("share a pipe"))?;
        command.stdin(Stdio::null()).stdout(copy).stderr(writer);
    }
    let child = command.spawn();
    // Its copies of the pipe would keep it open.
    drop(command);
    match child {
        Ok(child) => attend(child, reader, frames),
        Err(error) => {
            let text = format!("{program}: {error}\n");
            frames.send(&Frame::Output(text.into_bytes()))?;
            Ok(NOT_STARTED)
        }
    }
}

/// Passes on what the step says, and ends what it leaves behind.
fn attend(mut child: Child, reader: PipeReader, frames: &Frames) -> Result<i32, Fault> {
    let frames = frames.clone();
    let listener = std::thread::spawn(move || relay(reader, &frames));
    let status = child.wait().map_err(doing("wait for a step"))?;
    // A daemon that a script started is no part of an image, and holds the pipe open.
    end_all()?;
    let heard = listener.join();
    heard.map_err(|_| "the listener died".to_owned())??;
    Ok(code(status))
}

fn relay(mut reader: PipeReader, frames: &Frames) -> Result<(), Fault> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer).map_err(doing("hear a step"))? {
            0 => return Ok(()),
            count => frames.send(&Frame::Output(buffer[..count].to_vec()))?,
        }
    }
}

/// Ends every process but this one, which is the first of its namespace.
fn end_all() -> Result<(), Fault> {
    match kill(Pid::from_raw(-1), Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(doing("end what was left running")(error)),
    }
    loop {
        match waitpid(Pid::from_raw(-1), None) {
            Ok(_) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(doing("wait for what was left running")(error)),
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => NOT_STARTED,
    }
}
