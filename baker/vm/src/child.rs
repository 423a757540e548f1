//! Starting a child that cannot outlive baker: the one place with `unsafe` in this crate.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

/// Asks the kernel to kill the child when the thread that starts it dies, by whatever means, and
/// keeps it from writing core files (a refused accelerator aborts with all of guest memory).
///
/// The thread that starts the child must live as long as the child is wanted: the signal is tied
/// to the thread, not to the process (prctl(2), `PR_SET_PDEATHSIG`).
pub(crate) fn die_with_parent(command: &mut Command) -> &mut Command {
    let parent = Pid::this();
    let prepare = move || -> io::Result<()> {
        set_pdeathsig(Signal::SIGKILL)?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        // The parent may have died before the request was made.
        if getppid() == parent {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    };
    #[expect(unsafe_code, reason = "a hook between fork and exec has no safe form")]
    // SAFETY: the hook runs in the forked child before exec, where only async-signal-safe calls
    // are allowed. prctl, setrlimit and getppid are plain system calls; nothing allocates, locks
    // or touches memory shared with the parent, and the error is built without allocation.
    unsafe {
        command.pre_exec(prepare)
    }
}
