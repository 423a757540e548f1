//! Ranges of users and groups that the host's administrator gave to whoever runs baker.

use std::fs;
use std::process::Command;

use nix::unistd::{Gid, Uid, User};

/// How many users a range must have: as many as 16 bits name, what Debian's own tools expect.
const COUNT: u32 = 65_536;

/// In the namespace of process `pid`, root is the caller, and all others are of their range.
pub(crate) fn map_to_caller(pid: u32) -> Result<(), String> {
    let uid = Uid::effective();
    let user = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let rows = [
        ("/etc/subuid", "newuidmap", uid.as_raw()),
        ("/etc/subgid", "newgidmap", Gid::effective().as_raw()),
    ];
    for (list, helper, own) in rows {
        let text = fs::read_to_string(list).unwrap_or_default();
        let start = range(&text, user.as_deref(), uid.as_raw())
            .ok_or_else(|| format!("{list} gives it no range of {COUNT} ids"))?;
        let arguments = [pid, 0, own, 1, 1, start, COUNT - 1].map(|number| number.to_string());
        let output = Command::new(helper).args(arguments).output();
        let output =
            output.map_err(|error| format!("{helper} (Debian's package uidmap): {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(format!("{helper}: {said}"));
        }
    }
    Ok(())
}

/// The start of the first range of a user that is large enough, in the text of a list.
#[must_use]
pub fn range(text: &str, name: Option<&str>, uid: u32) -> Option<u32> {
    let uid = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let start: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        let is_ours = Some(owner) == name || owner == uid;
        (is_ours && count >= COUNT).then_some(start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_range_that_is_large_enough_counts() {
        let text = "a:100000:65536\nb:1:10\nb:200000:65536\n1007:300000:70000\nx:y\n";
        let rows = [
            (Some("a"), 1, Some(100_000)),
            (Some("b"), 1, Some(200_000)),
            (Some("c"), 1007, Some(300_000)),
            (None, 1, None),
            (Some("x"), 2, None),
        ];
        for (name, uid, expected) in rows {
            assert_eq!(range(text, name, uid), expected, "{name:?} {uid}");
        }
    }
}
