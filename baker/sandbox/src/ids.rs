//! Which users of the host the users of the sandbox are.
//!
//! Root of the sandbox is never root of the host: where the caller is root, a range far above all
//! real users stands for the users inside; where not, the range that the host's administrator gave
//! to the caller (`/etc/subuid`, `/etc/subgid`).

use std::fs;
use std::path::Path;

use baker_vm::ids::{self, COUNT};
use nix::unistd::Uid;

use crate::SandboxError;

/// Where the range of a caller begins that is root: the lowest that systemd sets aside for
/// containers.
const ROOTS_START: u32 = 524_288;

/// Maps the users and groups of the namespace of process `pid`.
pub(crate) fn map(pid: u32) -> Result<(), SandboxError> {
    let missing = |why: String| SandboxError::NoNamespaces { why };
    if Uid::effective().is_root() {
        let line = format!("0 {ROOTS_START} {COUNT}\n");
        for name in ["uid_map", "gid_map"] {
            let path = format!("/proc/{pid}/{name}");
            fs::write(&path, &line).map_err(|error| missing(format!("{path}: {error}")))?;
        }
        return Ok(());
    }
    ids::map(pid, ids::Root::OfRange).map_err(missing)
}

/// Whether the host knows of namespaces for users at all.
pub(crate) fn kernel_has_them() -> bool {
    Path::new("/proc/self/ns/user").exists()
}
