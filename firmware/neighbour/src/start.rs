//! The first steps of PID 1, and the last.

use std::fs::{self, File};

use baker_contract::MODULE_LIST;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

use crate::{Fault, doing};

/// Makes the file systems of the kernel visible.
pub fn mount_basics() -> Result<(), Fault> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(target).map_err(doing(format!("make {target}")))?;
        mount(
            Some(kind),
            target,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )
        .map_err(doing(format!("mount {target}")))?;
    }
    Ok(())
}

/// Loads the modules that the initramfs names.
pub fn load_modules() -> Result<(), Fault> {
    let list = fs::read_to_string(MODULE_LIST).map_err(doing("read the list of modules"))?;
    for path in list.lines().filter(|line| !line.is_empty()) {
        let file = File::open(path).map_err(doing(format!("open {path}")))?;
        match finit_module(&file, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(doing(format!("load {path}"))(error)),
        }
    }
    Ok(())
}

/// Ends the machine.
pub fn power_off() -> ! {
    // Returns only when the machine cannot do it; the end of PID 1 is an end too.
    reboot(RebootMode::RB_POWER_OFF).err();
    std::process::exit(1)
}
