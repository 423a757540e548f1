//! Ranges of users and groups that the host's administrator gave to whoever runs baker.

use std::fs;
use std::process::Command;

use nix::unistd::{Gid, Uid, User};

/// How many users a range must have: as many as 16 bits name, what Debian's own tools expect.
pub const COUNT: u32 = 65_536;

/// Who root of a namespace is outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// The caller; all others are of the caller's range.
    Caller,
    /// The first of the caller's range.
    OfRange,
}

/// Maps the users and groups of the namespace of process `pid` to the range of a caller who is not
/// root, through the two helpers that may write it.
///
/// # Errors
/// One line for people: there is no range, or a helper is missing or refuses.
pub fn map(pid: u32, root: Root) -> Result<(), String> {
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
        let triples = match root {
            Root::Caller => vec![0, own, 1, 1, start, COUNT - 1],
            Root::OfRange => vec![0, start, COUNT],
        };
        let arguments = std::iter::once(pid).chain(triples);
        let output = Command::new(helper)
            .args(arguments.map(|number| number.to_string()))
            .output();
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
fn range(text: &str, name: Option<&str>, uid: u32) -> Option<u32> {
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
