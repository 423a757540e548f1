//! PID 1 of the sandbox in which the packages' own scripts and the recipe's commands run.
//!
//! Takes one stream of sections (a job, and archives of the tree); gives one stream of frames (see
//! [`baker_contract::sandbox`]). It is started in one of two ways and does the same in both:
//!
//! * `namespaces`, on a host that has them: makes namespaces of its own for users, mounts,
//!   processes, network, host name and IPC, and starts itself inside;
//! * as `/init` of a throwaway machine.
//!
//! Inside, the tree lies in memory; nothing of the host is seen but a few device nodes, and there
//! is no network. When it ends, everything that it made is gone.

mod enter;
mod frames;
mod job;
mod machine;
mod network;
mod pack;
mod steps;
mod world;

use std::process::ExitCode;

use baker_contract::sandbox::Frame;

/// What went wrong, in one line.
type Fault = String;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let outcome = match (words.next().as_deref(), std::process::id()) {
        (Some("namespaces"), _) => return enter::namespaces(),
        (Some("inside"), _) => enter::inside(),
        (None, 1) => machine::run(),
        _ => Err("this program is started by baker, inside a sandbox".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => fail(&fault),
    }
}

/// Says on standard output, where frames go, that the sandbox does not work.
fn fail(fault: &str) -> ExitCode {
    let frame = Frame::Failed(fault.to_owned());
    // Nobody is left to tell when the other end is gone.
    frame.write(&mut std::io::stdout().lock()).ok();
    ExitCode::FAILURE
}

/// Says what was being done when something failed.
fn doing<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Fault {
    move |error| format!("cannot {what}: {error}")
}
