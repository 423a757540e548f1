//! Which users of the host the users of the sandbox are.
//!
//! Root of the sandbox is never root of the host: where the caller is root, a range far above all
//! real users stands for the users inside; where not, the range that the host's administrator gave
//! to the caller (`/etc/subuid`, `/etc/subgid`), through the two helpers that may write it.

use std::fs;
use std::path::Path;
use std::process::Command;

use baker_vm::subordinate_range;
use nix::unistd::{Uid, User};

use crate::SandboxError;

/// How many users there are inside: as many as 16 bits name, what Debian's own tools expect.
const COUNT: u32 = 65_536;

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
    let uid = Uid::effective();
    let user = User::from_uid(uid).ok().flatten().map(|user| user.name);
    for (list, helper) in [("/etc/subuid", "newuidmap"), ("/etc/subgid", "newgidmap")] {
        let text = fs::read_to_string(list).unwrap_or_default();
        let start = subordinate_range(&text, user.as_deref(), uid.as_raw())
            .ok_or_else(|| missing(format!("{list} gives it no range of {COUNT} ids")))?;
        let arguments = [pid, 0, start, COUNT].map(|number| number.to_string());
        let output = Command::new(helper).args(arguments).output();
        let output = output
            .map_err(|error| missing(format!("{helper} (Debian's package uidmap): {error}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(missing(format!("{helper}: {said}")));
        }
    }
    Ok(())
}

/// Whether the host knows of namespaces for users at all.
pub(crate) fn kernel_has_them() -> bool {
    Path::new("/proc/self/ns/user").exists()
}
