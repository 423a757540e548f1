//! Loading the modules that the initrd brings.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use baker_contract::MODULE_LIST;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

/// `MODULE_INIT_COMPRESSED_FILE` of the kernel's `include/uapi/linux/module.h`, since 5.17.
const COMPRESSED_FILE: u32 = 4;

/// What is still to be loaded.
///
/// A module that does not load is not the end: it may be for hardware that is not there. Whether it
/// mattered shows when the root is opened.
#[derive(Debug, Default)]
pub struct Modules {
    first: Vec<PathBuf>,
    drivers: VecDeque<PathBuf>,
    /// What went wrong, one text per module.
    pub broken: Vec<String>,
}

/// The process that loads the rest.
pub struct Beside(ChildStdout);

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
        let paths = |part: &str| -> Vec<PathBuf> {
            let lines = part.lines().map(str::trim);
            lines
                .filter(|line| !line.is_empty())
                .map(PathBuf::from)
                .collect()
        };
        Self {
            first: paths(first),
            drivers: paths(drivers).into(),
            broken: Vec::new(),
        }
    }

    /// Loads what the root cannot be opened without.
    pub fn load_first(&mut self) {
        for path in std::mem::take(&mut self.first) {
            self.broken.extend(load_one(&path).err());
        }
    }

    /// Loads the next driver of disks; false when there is none.
    pub fn load_driver(&mut self) -> bool {
        let Some(path) = self.drivers.pop_front() else {
            return false;
        };
        self.broken.extend(load_one(&path).err());
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
            .args(&self.drivers)
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

/// The applet: opens all modules, says so by a line, and loads them.
pub fn load(paths: &[String]) {
    let open = |path| Some((path, File::open(path).ok()?));
    let files: Vec<_> = paths.iter().map(Path::new).filter_map(open).collect();
    let mut out = io::stdout();
    out.write_all(b"\n").and_then(|()| out.flush()).ok();
    for (path, file) in &files {
        load_file(file, path).ok();
    }
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
            ("\n\n/b.ko\n", &[], &["/b.ko"]),
        ];
        for (list, first, drivers) in rows {
            let modules = Modules::parse(list);
            assert_eq!(modules.first, paths(first), "{list:?}");
            assert_eq!(modules.drivers, paths(drivers), "{list:?}");
        }
    }

    #[test]
    fn the_kernel_is_told_of_compression() {
        assert_eq!(flags(Path::new("/a/x.ko.xz")).bits(), 4);
        assert_eq!(flags(Path::new("/a/x.ko.zst")).bits(), 4);
        assert_eq!(flags(Path::new("/a/x.ko")).bits(), 0);
    }
}
