//! Loading the modules that the initrd brings.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use baker_contract::MODULE_LIST;
use baker_contract::pattern::matches;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::hardware;

/// `MODULE_INIT_COMPRESSED_FILE` of the kernel's `include/uapi/linux/module.h`, since 5.17.
const COMPRESSED_FILE: u32 = 4;

/// Seconds between the looks for new hardware of the process beside the boot. After the last it loads
/// what has shown none: by then nobody waits for the CPU.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 16];

/// What is still to be loaded.
///
/// A module that does not load is not the end: it may be for hardware that is not there. Whether it
/// mattered shows when the root is opened.
#[derive(Debug, Default)]
pub struct Modules {
    first: Vec<PathBuf>,
    drivers: Vec<Driver>,
    /// What went wrong, one text per module.
    pub broken: Vec<String>,
}

/// A module that leads to disks.
#[derive(Debug, PartialEq, Eq)]
struct Driver {
    path: PathBuf,
    /// Patterns of its hardware; none when it is of use without any.
    hardware: Vec<String>,
}

/// The process that loads the rest.
pub struct Beside(ChildStdout);

impl Driver {
    fn parse(line: &str) -> Self {
        let mut words = line.split('\t');
        Self {
            path: words.next().unwrap_or_default().into(),
            hardware: words.map(str::to_owned).collect(),
        }
    }

    fn is_wanted(&self, present: &BTreeSet<String>) -> bool {
        let fits = |pattern: &String, name: &String| matches(pattern.as_bytes(), name.as_bytes());
        let there = |pattern| present.iter().any(|name| fits(pattern, name));
        self.hardware.is_empty() || self.hardware.iter().any(there)
    }
}

impl Modules {
    /// Reads the list.
    pub fn read() -> Self {
        match fs::read_to_string(MODULE_LIST) {
            Ok(list) => Self::parse(&list),
            // A kernel that has everything built in comes without a list.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => Self {
                broken: vec![format!("cannot read {MODULE_LIST}: {error}")],
                ..Self::default()
            },
        }
    }

    fn parse(list: &str) -> Self {
        let (first, drivers) = list.split_once("\n\n").unwrap_or((list, ""));
        let is_full = |line: &&str| !line.is_empty();
        Self {
            first: first.lines().filter(is_full).map(PathBuf::from).collect(),
            drivers: drivers.lines().filter(is_full).map(Driver::parse).collect(),
            broken: Vec::new(),
        }
    }

    /// Loads what the root cannot be opened without.
    pub fn load_first(&mut self) {
        for path in std::mem::take(&mut self.first) {
            self.broken.extend(load_one(&path).err());
        }
    }

    /// Loads the next driver of disks, those with their hardware first; false when there is none.
    pub fn load_driver(&mut self) -> bool {
        if self.drivers.is_empty() {
            return false;
        }
        let present = present(Path::new("/sys"), self.drivers.iter());
        let wanted = |driver: &Driver| driver.is_wanted(&present);
        // With no hardware for any, whoever waits for a disk has all of them tried.
        let at = self.drivers.iter().position(wanted).unwrap_or(0);
        let driver = self.drivers.remove(at);
        self.broken.extend(load_one(&driver.path).err());
        true
    }

    /// Loads the other drivers in a process of its own, which outlives the change of the root:
    /// some wait for their hardware, and the system need not.
    pub fn load_beside(mut self) -> Option<Beside> {
        if self.drivers.is_empty() {
            return None;
        }
        let child = Command::new("/proc/self/exe")
            .arg("load")
            .args(self.drivers.iter().map(|driver| &driver.path))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        match child {
            // It is never waited for: the init of the root inherits it.
            Ok(child) => child.stdout.map(Beside),
            Err(_) => {
                while self.load_driver() {}
                None
            }
        }
    }
}

impl Beside {
    /// Waits until the files of the initramfs may go.
    pub fn wait_until_open(mut self) {
        // Nothing comes when the process has died: then nobody needs them either.
        self.0.read_exact(&mut [0]).ok();
    }
}

/// The applet: opens all modules, says so by a line, and loads each when its hardware is there. In
/// an emulated machine one takes up to a twentieth of a second, to check its signature most of all.
pub fn load(paths: &[String]) {
    let named = |driver: &Driver| paths.iter().any(|path| driver.path == Path::new(path));
    let open = |driver: Driver| File::open(&driver.path).ok().map(|file| (driver, file));
    let drivers = Modules::read().drivers.into_iter().filter(named);
    let mut left: Vec<_> = drivers.filter_map(open).collect();
    // The change of the root takes /sys away from its path, and not from who is in it.
    std::env::set_current_dir("/sys").ok();
    let mut out = io::stdout();
    out.write_all(b"\n").and_then(|()| out.flush()).ok();
    for pause in PAUSES {
        load_wanted(&mut left);
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_secs(pause));
    }
    // Hardware that is plugged in some day asks for its module where this system keeps none.
    for (driver, file) in &left {
        load_file(file, &driver.path).ok();
    }
}

/// Loads what has its hardware, in the order of the list; what that brings is seen at once.
fn load_wanted(left: &mut Vec<(Driver, File)>) {
    loop {
        let present = present(Path::new("."), left.iter().map(|(driver, _)| driver));
        let wanted = |(driver, _): &(Driver, File)| driver.is_wanted(&present);
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(left).into_iter().partition(wanted);
        *left = later;
        for (driver, file) in &now {
            load_file(file, &driver.path).ok();
        }
        if now.is_empty() || left.is_empty() {
            return;
        }
    }
}

/// The devices on the buses that the drivers know.
fn present<'d>(sys: &Path, drivers: impl Iterator<Item = &'d Driver>) -> BTreeSet<String> {
    hardware::present(sys, drivers.flat_map(|driver| &driver.hardware))
}

fn load_one(path: &Path) -> Result<(), String> {
    let describe = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| describe(&error))?;
    load_file(&file, path).map_err(|error| describe(&error))
}

fn load_file(file: &File, path: &Path) -> Result<(), Errno> {
    match finit_module(file, c"", flags(path)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

fn flags(path: &Path) -> ModuleInitFlags {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz" | "zst" | "gz") => ModuleInitFlags::from_bits_retain(COMPRESSED_FILE),
        _ => ModuleInitFlags::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_stand_behind_an_empty_line() {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let rows = [
            ("", &[][..], &[][..]),
            ("/a.ko\n/b.ko\n", &["/a.ko", "/b.ko"], &[]),
            ("/a.ko\n\n/b.ko\n/c.ko\n", &["/a.ko"], &["/b.ko", "/c.ko"]),
            ("\n\n/b.ko\tpci:*\n", &[], &["/b.ko"]),
        ];
        for (list, first, drivers) in rows {
            let modules = Modules::parse(list);
            assert_eq!(modules.first, paths(first), "{list:?}");
            let found: Vec<_> = modules
                .drivers
                .into_iter()
                .map(|driver| driver.path)
                .collect();
            assert_eq!(found, paths(drivers), "{list:?}");
        }
    }

    #[test]
    fn a_driver_is_wanted_when_its_hardware_is_there() {
        let present = BTreeSet::from(["virtio:d00000002v00001AF4".to_owned()]);
        let rows = [
            ("/a.ko", true),
            ("/a.ko\tpci:v*", false),
            ("/a.ko\tpci:v*\tvirtio:d00000002v*", true),
            ("/a.ko\tvirtio:d00000008v*", false),
        ];
        for (line, expected) in rows {
            let driver = Driver::parse(line);
            assert_eq!(driver.is_wanted(&present), expected, "{line:?}");
        }
    }

    #[test]
    fn the_kernel_is_told_of_compression() {
        assert_eq!(flags(Path::new("/a/x.ko.xz")).bits(), 4);
        assert_eq!(flags(Path::new("/a/x.ko.zst")).bits(), 4);
        assert_eq!(flags(Path::new("/a/x.ko")).bits(), 0);
    }
}
