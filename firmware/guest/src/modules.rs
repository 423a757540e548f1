//! Loading the modules that the initrd brings.

use std::fs::{self, File};
use std::path::Path;

use baker_contract::MODULE_LIST;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

/// `MODULE_INIT_COMPRESSED_FILE` of the kernel's `include/uapi/linux/module.h`, since 5.17.
const COMPRESSED_FILE: u32 = 4;

/// Loads every module of the list in order; gives what went wrong, one text per module.
///
/// A failure is not the end: a module may be for hardware that is not there. Whether it mattered
/// shows when the root is opened.
pub fn load() -> Vec<String> {
    let list = match fs::read_to_string(MODULE_LIST) {
        Ok(list) => list,
        // A kernel that has everything built in comes without a list.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => return vec![format!("cannot read {MODULE_LIST}: {error}")],
    };
    let paths = list.lines().map(str::trim).filter(|path| !path.is_empty());
    paths
        .filter_map(|path| load_one(Path::new(path)).err())
        .collect()
}

fn load_one(path: &Path) -> Result<(), String> {
    let describe = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| describe(&error))?;
    match finit_module(&file, c"", flags(path)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(describe(&error)),
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
    fn the_kernel_is_told_of_compression() {
        assert_eq!(flags(Path::new("/a/x.ko.xz")).bits(), 4);
        assert_eq!(flags(Path::new("/a/x.ko.zst")).bits(), 4);
        assert_eq!(flags(Path::new("/a/x.ko")).bits(), 0);
    }
}
