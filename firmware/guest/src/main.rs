//! The one static program that runs inside the machine.
//!
//! Applets, chosen by `argv[0]` or `argv[1]`:
//!
//! * `init`: PID 1 of the initramfs. Takes the kernel command line, loads modules, finds the root
//!   by its hash, opens dm-verity, mounts, and hands over to the init of the root. On failure it
//!   says why in one line and ends the machine; it never gives a shell and never hangs.
//! * `probe`: runs in the booted system when the host offers a probe port, and reports what it
//!   sees. It changes nothing.
//! * `load`: loads the modules that it is given; `init` leaves it behind with those that the root
//!   did not need.
//!
//! It touches no network, and runs no other program but what a check names.

mod applet;
mod carried;
mod checks;
mod cmdline;
mod console;
mod crc32;
mod dbus;
mod disks;
mod dm;
mod erofs;
mod gpt;
mod handover;
mod hardware;
mod init;
mod modules;
mod mounts;
mod port;
mod probe;
mod sys;
mod systemd;
mod verity;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match applet::choose(std::process::id(), &arguments) {
        Ok(applet::Applet::Init) => init::run(),
        Ok(applet::Applet::Probe) => finish(probe::run()),
        Ok(applet::Applet::Load) => {
            modules::load(arguments.get(2..).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(message) => finish(Err(message)),
    }
}

/// Says what went wrong and turns it into the exit status.
fn finish(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            console::complain(&message);
            ExitCode::FAILURE
        }
    }
}
