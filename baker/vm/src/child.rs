//! Starting a child that cannot outlive baker: the one place with `unsafe` in this crate.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid, read, write};

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

/// The word that users have been mapped.
pub(crate) const GO: [u8; 1] = *b"g";

/// How a daemon that serves a folder sees the host.
pub(crate) struct Enclosure {
    /// The folder.
    pub folder: CString,
    /// An empty folder of this run, at which the daemon finds it.
    pub place: CString,
    /// Whether nothing below that can be written.
    pub read_only: bool,
    /// With users of its own: where the child writes its process id (native bytes) once it has
    /// them, and where it waits for [`GO`], or another byte when they could not be mapped.
    pub users: Option<(OwnedFd, OwnedFd)>,
}

/// Starts the child in namespaces of its own; otherwise as [`die_with_parent`] has it.
pub(crate) fn enclose(command: &mut Command, enclosure: Enclosure) -> &mut Command {
    let prepare = move || -> io::Result<()> {
        let none = None::<&CStr>;
        match &enclosure.users {
            None => unshare(CloneFlags::CLONE_NEWNS)?,
            Some((asks, answers)) => {
                unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
                write(asks, &Pid::this().as_raw().to_ne_bytes())?;
                let mut word = [0];
                read(answers, &mut word)?;
                if word != GO {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
            }
        }
        let folder = enclosure.folder.as_c_str();
        // What is mounted here is seen nowhere else.
        mount(
            none,
            c"/",
            none,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            none,
        )?;
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        let place = enclosure.place.as_c_str();
        mount(Some(folder), place, none, bind, none)?;
        match enclosure.read_only {
            true => seal(place),
            false => Ok(()),
        }
    };
    #[expect(unsafe_code, reason = "a hook between fork and exec has no safe form")]
    // SAFETY: the hook runs in the forked child before exec, where only async-signal-safe calls
    // are allowed. All are plain system calls on strings that were made before the fork; nothing
    // allocates, locks or touches memory shared with the parent.
    unsafe {
        command.pre_exec(prepare);
    }
    // Last: to be root of a namespace is to be another, and forgets the wish to die.
    die_with_parent(command)
}

/// Makes the mount at `place`, and all that is mounted below it, read-only for good.
///
/// mount(2) could do so for the topmost only, and in a user namespace must be told the flags that
/// it may not drop; `mount_setattr` (Linux 5.12) adds the one.
fn seal(place: &CStr) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    #[expect(unsafe_code, reason = "the C library has no such call yet")]
    // SAFETY: the path ends in a zero byte and the structure is as large as is said; the kernel
    // reads both and keeps neither.
    let code = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            place.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match code {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
