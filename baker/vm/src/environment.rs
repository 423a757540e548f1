//! What this room knows of the host: search path, overrides, folders, the KVM device.
//!
//! Read once at the edge of the program and passed down, so that nothing below looks at the
//! process environment and tests can describe any host.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The host as the machine room sees it.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `PATH`, searched for QEMU.
    pub path: OsString,
    /// `BAKER_QEMU`: the QEMU to use instead of the one found.
    pub qemu: Option<PathBuf>,
    /// `BAKER_OVMF_CODE`: firmware code to use instead of the one found.
    pub ovmf_code: Option<PathBuf>,
    /// `BAKER_OVMF_VARS`: variable store template that belongs to [`Self::ovmf_code`].
    pub ovmf_vars: Option<PathBuf>,
    /// `BAKER_OVMF_SECURE_CODE`: firmware code that enforces Secure Boot, to use instead of the one
    /// found.
    pub ovmf_secure_code: Option<PathBuf>,
    /// `BAKER_OVMF_SECURE_VARS`: variable store template, without keys, that belongs to
    /// [`Self::ovmf_secure_code`].
    pub ovmf_secure_vars: Option<PathBuf>,
    /// `BAKER_CPU`: the CPU model for QEMU instead of the one that is known to be dependable.
    pub cpu: Option<String>,
    /// Where private folders for sockets are made; socket paths may have 107 bytes at most.
    pub temporary: PathBuf,
    /// The KVM device.
    pub kvm: PathBuf,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let path = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        Self {
            path: std::env::var_os("PATH").unwrap_or_default(),
            qemu: path("BAKER_QEMU"),
            ovmf_code: path("BAKER_OVMF_CODE"),
            ovmf_vars: path("BAKER_OVMF_VARS"),
            ovmf_secure_code: path("BAKER_OVMF_SECURE_CODE"),
            ovmf_secure_vars: path("BAKER_OVMF_SECURE_VARS"),
            cpu: std::env::var("BAKER_CPU").ok().filter(|v| !v.is_empty()),
            temporary: std::env::temp_dir(),
            kvm: PathBuf::from("/dev/kvm"),
        }
    }

    /// The first file called `name` in the search path.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path)
            .map(|folder| folder.join(name))
            .find(|candidate| is_file(candidate))
    }
}

/// True for a regular file, links followed.
pub(crate) fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}
