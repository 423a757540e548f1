//! From the initramfs into the root: the probe's unit, the move of the mounts, the new init.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chroot, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use baker_contract::{FAILING_UNITS, Init, PROBE_PROGRAM};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};

use crate::port::{self, Way};
use crate::{console, mounts};

/// What is mounted in the initramfs and goes along into the root.
pub const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// Looked for when the command line names no init.
const INITS: [&str; 2] = ["/usr/lib/systemd/systemd", "/sbin/init"];

/// Where units that live only until the next boot lie.
const UNITS: &str = "/run/systemd/system";

/// `RAMFS_MAGIC` of the kernel's `include/uapi/linux/magic.h`.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Name of the probe's unit.
const PROBE_UNIT: &str = "baker-probe.service";

/// Socket on which systemd tells the probe how the boot goes, see `sd_notify(3)`.
pub const NOTIFY_SOCKET: &str = "/run/baker/notify";

/// Started by every unit that fails: systemd tells of each target that it reaches, and starts no
/// process for it.
pub const FAILURE_TARGET: &str = "baker-unit-failed.target";

/// Name of the drop-in of each type; late, so that it comes after the units' own.
const DROP_IN: &str = "90-baker-probe.conf";

/// Puts the probe into `/run` when the host offers a port; otherwise the system never hears of
/// it. The root itself stays as published either way. Gives whether there is a probe.
///
/// # Errors
/// A file in `/run` cannot be written.
pub fn offer_probe() -> io::Result<bool> {
    if port::find(Way::Carried).is_none() {
        return Ok(false);
    }
    if let Some(folder) = Path::new(PROBE_PROGRAM).parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy("/proc/self/exe", PROBE_PROGRAM)?;
    fs::set_permissions(PROBE_PROGRAM, Permissions::from_mode(0o755))?;
    let units = Path::new(UNITS);
    let wanted = units.join("sysinit.target.wants");
    fs::create_dir_all(&wanted)?;
    fs::write(units.join(PROBE_UNIT), probe_unit())?;
    symlink(Path::new("..").join(PROBE_UNIT), wanted.join(PROBE_UNIT))?;
    announce_failures(units)?;
    Ok(true)
}

/// Lets each unit that fails start [`FAILURE_TARGET`].
fn announce_failures(units: &Path) -> io::Result<()> {
    fs::write(units.join(FAILURE_TARGET), failure_target())?;
    for kind in FAILING_UNITS {
        let folder = units.join(format!("{kind}.d"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(DROP_IN), drop_in())?;
    }
    Ok(())
}

/// Nothing needs the target, so it is gone as soon as it is reached, and the next failure reaches
/// it anew.
fn failure_target() -> &'static str {
    "[Unit]\n\
     Description=a unit has failed\n\
     DefaultDependencies=no\n\
     StopWhenUnneeded=yes\n"
}

/// One more unit to start on failure. systemd refuses units with several of them whose job mode is
/// `isolate`, so that mode is set back; it would act only after the failure that is waited for.
fn drop_in() -> String {
    format!("[Unit]\nOnFailure={FAILURE_TARGET}\nOnFailureJobMode=replace\n")
}

/// The probe starts at once (systemd starts what is nicest last, see `unit_compare_priority` in its
/// `src/core/unit.c`), delays nothing, and no isolation or shutdown ends it early: it is
/// the one that asks for the shutdown.
fn probe_unit() -> String {
    format!(
        "[Unit]\n\
         Description=baker smoke probe\n\
         DefaultDependencies=no\n\
         IgnoreOnIsolate=yes\n\
         \n\
         [Service]\n\
         Type=simple\n\
         ExecStart={PROBE_PROGRAM} probe\n\
         StandardInput=null\n\
         StandardOutput=null\n\
         StandardError=null\n\
         Nice=-1\n\
         OOMScoreAdjust=-1000\n"
    )
}

/// Makes `root` the root of everything and becomes its init. Returns only on failure.
pub fn switch(root: &Path, asked: Option<&str>, probed: bool) -> String {
    match prepare(root, asked) {
        Ok(init) => {
            console::say(&Init::Handover);
            let mut command = Command::new(&init);
            if probed {
                // systemd hands this to none of its services.
                command.env("NOTIFY_SOCKET", NOTIFY_SOCKET);
            }
            let error = command.exec();
            format!("cannot start {}: {error}", init.display())
        }
        Err(problem) => problem,
    }
}

fn prepare(root: &Path, asked: Option<&str>) -> Result<PathBuf, String> {
    let old = File::open("/").map_err(|error| format!("cannot open the initramfs: {error}"))?;
    for source in MOVED {
        let target = root.join(&source[1..]);
        move_mount(source, &target)
            .map_err(|error| format!("cannot move {source} into the root: {error}"))?;
    }
    std::env::set_current_dir(root)
        .and_then(|()| move_mount(".", Path::new("/")))
        .and_then(|()| chroot("."))
        .and_then(|()| std::env::set_current_dir("/"))
        .map_err(|error| format!("cannot switch to the root: {error}"))?;
    let init = choose_init(asked)?;
    mounts::mount_early();
    empty(&old);
    Ok(init)
}

fn move_mount(source: &str, target: &Path) -> io::Result<()> {
    let none = None::<&OsStr>;
    mount(Some(source), target, none, MsFlags::MS_MOVE, none).map_err(io::Error::from)
}

/// The first init that is an executable file. A named one is taken or nothing is: the person who
/// named it wants no other.
fn choose_init(asked: Option<&str>) -> Result<PathBuf, String> {
    let candidates = asked.map_or_else(|| INITS.to_vec(), |path| vec![path]);
    let executable = |path: &&str| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    };
    candidates
        .iter()
        .copied()
        .find(executable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("the root has no executable {}", candidates.join(" or ")))
}

/// Frees the memory of the initramfs. Only ever touches a file system that lives in memory, and
/// nothing that is mounted on it; what cannot be removed merely stays.
fn empty(old: &File) {
    let in_memory = fstatfs(old)
        .is_ok_and(|found| [RAMFS_MAGIC, TMPFS_MAGIC].contains(&found.filesystem_type()));
    if let (true, Ok(metadata)) = (in_memory, old.metadata()) {
        // The old root has no path any more, but its descriptor still leads there.
        let path = PathBuf::from(format!("/proc/self/fd/{}", old.as_raw_fd()));
        empty_folder(&path, metadata.dev());
    }
}

fn empty_folder(folder: &Path, device: u64) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() && found.dev() == device => {
                empty_folder(&path, device);
                fs::remove_dir(&path).ok();
            }
            Ok(found) if !found.is_dir() => {
                fs::remove_file(&path).ok();
            }
            _ => {}
        }
    }
}
