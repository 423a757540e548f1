//! The way in by namespaces.
//!
//! A process cannot map more than its own user id, so it says that it has left the user namespace
//! of the host and waits until the other side has mapped a range for it.

use std::io::Read as _;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};

use baker_contract::sandbox::Frame;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use crate::world::Place;
use crate::{Fault, doing, fail, job};

/// The other namespaces, once root is somebody here.
const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// Makes the namespaces and waits for what runs in them.
pub fn namespaces() -> ExitCode {
    match entered() {
        Ok(code) => code,
        Err(fault) => fail(&fault),
    }
}

fn entered() -> Result<ExitCode, Fault> {
    unshare(CloneFlags::CLONE_NEWUSER).map_err(doing("make a user namespace"))?;
    Frame::Ready
        .write(&mut std::io::stdout().lock())
        .map_err(doing("tell that the namespace is there"))?;
    // One byte and not one more: the rest is for the process inside.
    let file = std::io::stdin().as_fd().try_clone_to_owned();
    let mut input = std::fs::File::from(file.map_err(doing("read the input"))?);
    let wait = input.read_exact(&mut [0]);
    wait.map_err(doing("wait for the user ids"))?;
    setgroups(&[]).map_err(doing("leave all groups"))?;
    setgid(Gid::from_raw(0)).map_err(doing("become root's group"))?;
    setuid(Uid::from_raw(0)).map_err(doing("become root"))?;
    unshare(NAMESPACES).map_err(doing("make namespaces"))?;
    die_with_parent()?;
    let status = Command::new("/proc/self/exe").arg("inside").status();
    let status = status.map_err(doing("start inside the namespaces"))?;
    match status.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        Some(_) => Ok(ExitCode::FAILURE),
        None => Err(format!("the sandbox ended early: {status}")),
    }
}

/// What runs as the first process of the namespaces.
pub fn inside() -> Result<(), Fault> {
    die_with_parent()?;
    let mut input = std::io::stdin().lock();
    job::run(
        Place::in_namespaces()?,
        &mut input,
        Box::new(std::io::stdout()),
    )
}

/// Whoever started this has to hear of its end: without it, nothing may go on.
fn die_with_parent() -> Result<(), Fault> {
    set_pdeathsig(Signal::SIGKILL).map_err(doing("be bound to the parent"))
}
