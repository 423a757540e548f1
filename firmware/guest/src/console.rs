//! Talking to whoever watches the console.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use baker_contract::Init;
use nix::libc;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Makes `/dev/console` the standard input, output and error.
///
/// A machine without a console still boots: then nothing is changed, and nobody listens.
pub fn attach() {
    // Without O_NOCTTY the console would become the controlling terminal of PID 1, and Ctrl-C on
    // the serial line would reach it.
    let console = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/console");
    if let Ok(console) = console {
        dup2_stdin(&console).ok();
        dup2_stdout(&console).ok();
        dup2_stderr(&console).ok();
    }
}

/// Writes one protocol line and waits until it has left the machine, so that neither kernel
/// messages nor the end of the machine cut it.
pub fn say(message: &Init) {
    let mut out = std::io::stdout().lock();
    // Errors have nowhere to go: the console is the last resort.
    out.write_all(format!("{}\n", message.to_line()).as_bytes())
        .ok();
    out.flush().ok();
    nix::sys::termios::tcdrain(&out).ok();
}

/// Writes one line for people to standard error.
pub fn complain(message: &str) {
    std::io::stderr()
        .write_all(format!("baker guest: {message}\n").as_bytes())
        .ok();
}
