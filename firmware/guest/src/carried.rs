//! A root that came along in the initramfs: a machine started over the network has no disk.
//!
//! Takes nothing; gives loop devices over the two files. The files are verified like partitions,
//! by the same root hash.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use baker_contract::{CARRIED_ROOT, CARRIED_TREE};

use crate::disks::{Device, RootPartitions};
use crate::sys;

/// Gives out unused loop devices.
const CONTROL: &str = "/dev/loop-control";

/// Major number of loop devices (`LOOP_MAJOR` of the kernel's `include/uapi/linux/major.h`).
const LOOP_MAJOR: u32 = 7;

/// The carried root; none when the initramfs holds no such file.
///
/// # Errors
/// It is there, but one of its files cannot become a device.
pub fn find() -> Option<Result<RootPartitions, String>> {
    let (data, tree) = (Path::new(CARRIED_ROOT), Path::new(CARRIED_TREE));
    if !data.exists() {
        return None;
    }
    Some(attached(data).and_then(|data| {
        let tree = attached(tree)?;
        Ok(RootPartitions { data, tree })
    }))
}

fn attached(path: &Path) -> Result<Device, String> {
    attach(path).map_err(|error| format!("cannot make a device of {}: {error}", path.display()))
}

fn attach(path: &Path) -> io::Result<Device> {
    let file = File::open(path)?;
    let control = File::options().read(true).write(true).open(CONTROL)?;
    let number = sys::free_loop(&control)?;
    let node = PathBuf::from(format!("/dev/loop{number}"));
    sys::attach_loop(&File::open(&node)?, &file)?;
    Ok(Device {
        node,
        number: format!("{LOOP_MAJOR}:{number}"),
    })
}
