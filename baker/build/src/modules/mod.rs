//! Kernel modules: which ones go into the initrd, which ones into the root, and the indexes that
//! kmod wants beside them.
//!
//! Takes the tree of a kernel package (`usr/lib/modules/<release>/...`); gives modules in loading
//! order, or puts a selection of them and their indexes into a root. Never runs `depmod`, and
//! reads no module that it need not read.

mod closure;
mod decompress;
mod depmod;
mod elf;
mod error;
mod info;
mod install;
mod kernel;
#[cfg(test)]
mod tests;
mod trie;

pub use closure::LoadedModule;
pub use error::{ElfProblem, ModulesError};
pub use install::{Installed, install};
pub use kernel::Modules;

use std::collections::{BTreeMap, BTreeSet};

use baker_model::Tree;
use baker_model::recipe::RootFormat;
use baker_model::tree::Contents;

/// What the initrd needs modules for.
#[derive(Clone, Copy)]
pub struct InitrdRequest<'a> {
    /// The tree of the kernel package.
    pub kernel: &'a Tree,
    /// Where its large files are.
    pub contents: &'a dyn Contents,
    /// Modules that the recipe names.
    pub names: &'a [String],
    /// Modules that are taken when the kernel has them.
    pub optional: &'a [&'a str],
    /// The format that the guest must be able to mount.
    pub root_format: RootFormat,
}

/// One module of the initrd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitrdModule {
    /// Absolute path inside the initrd, `/lib/modules/<name>.ko`.
    pub path: String,
    /// The module, decompressed: the initrd is compressed as a whole.
    pub bytes: Vec<u8>,
    /// Whether it only leads to disks.
    pub is_driver: bool,
    /// Of a driver: names of the hardware that it or a module above it is for, as patterns over what
    /// Linux says in `modalias`. None when any machine may have use for it.
    pub hardware: Vec<String>,
}

/// Drivers that no disk comes of, so that they cannot wait for one: that of the port by which host
/// and probe speak, that of a root that the initramfs carries, and that of QEMU's credentials, which
/// systemd reads as soon as it runs.
const FIRST: [&str; 3] = ["virtio_console", "loop", "qemu_fw_cfg"];

/// The modules of the initrd in loading order: those that the guest needs to open the root
/// (dm-verity, SHA-256, the root format), then those named, with what all of them need.
///
/// # Errors
/// See [`ModulesError`]; an unknown name comes with the nearest known ones.
pub fn initrd_modules(request: InitrdRequest<'_>) -> Result<Vec<InitrdModule>, ModulesError> {
    let modules = Modules::read(request.kernel, request.contents)?;
    let format = match request.root_format {
        RootFormat::Erofs => "erofs",
        RootFormat::Squashfs => "squashfs",
    };
    // The guest has no modprobe, so what dm-verity would ask for at run time is loaded before.
    let needed = ["crypto-sha256", "dm-verity", format].map(str::to_owned);
    let there = |name: &&&str| modules.find(name).is_some();
    let optional = request.optional.iter().filter(there);
    let is_first = |name: &&String| FIRST.contains(&name.replace('-', "_").as_str());
    let named_first = request.names.iter().filter(is_first).cloned();
    let first: Vec<String> = needed
        .into_iter()
        .chain(optional.map(|&name| name.to_owned()))
        .chain(named_first)
        .collect();
    let mut loaded: Vec<InitrdModule> = Vec::new();
    for (names, is_driver) in [(&first[..], false), (request.names, true)] {
        let closure = modules.closure(request.contents, names)?;
        let hardware = if is_driver {
            hardware(&closure)
        } else {
            BTreeMap::new()
        };
        for module in closure {
            let path = format!("/lib/modules/{}.ko", module.name);
            if loaded.iter().all(|known| known.path != path) {
                let patterns = hardware.get(&module.name).into_iter().flatten();
                loaded.push(InitrdModule {
                    path,
                    bytes: module.bytes,
                    is_driver,
                    hardware: patterns.cloned().collect(),
                });
            }
        }
    }
    Ok(loaded)
}

/// The hardware of each module, by its name: its own, and that of the modules that use it. Left out
/// is what is of use without any, and with it what that uses.
fn hardware(closure: &[LoadedModule]) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut always = BTreeSet::new();
    // Each stands behind what it uses, so from the end a module is complete when its turn comes.
    for module in closure.iter().rev() {
        let own = module.aliases.iter().filter(|alias| is_hardware(alias));
        let mut found = all.remove(&module.name).unwrap_or_default();
        found.extend(own.cloned());
        if found.is_empty() || always.contains(&module.name) {
            always.extend(module.depends.iter().cloned());
            continue;
        }
        for below in &module.depends {
            let theirs = all.entry(below.clone()).or_default();
            theirs.extend(found.iter().cloned());
        }
        all.insert(module.name.clone(), found);
    }
    all
}

/// Names of devices have a bus before a colon; a device node is no hardware.
fn is_hardware(alias: &str) -> bool {
    alias.contains(':') && !alias.starts_with("devname:") && !alias.contains(char::is_whitespace)
}
