//! File systems in memory, mounted before systemd starts.
//!
//! systemd starts two programs for each of its mount units; what it finds mounted it takes as it is.
//! The bake put down which units are as simple as that, see [`EARLY_MOUNTS`].

use std::fs;

use baker_contract::EARLY_MOUNTS;
use nix::mount::{MsFlags, mount};

/// Options that are flags of the system call; all others go to the file system.
const FLAGS: [(&str, MsFlags); 8] = [
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
    ("strictatime", MsFlags::MS_STRICTATIME),
    ("ro", MsFlags::MS_RDONLY),
];

/// One line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Early<'a> {
    what: &'a str,
    place: &'a str,
    kind: &'a str,
    flags: MsFlags,
    data: String,
}

/// Mounts what the list of the root names. What does not work is left to systemd, which tries it
/// again and tells of it.
pub fn mount_early() {
    let list = fs::read_to_string(EARLY_MOUNTS).unwrap_or_default();
    for early in list.lines().filter_map(parse) {
        // Places in /dev and /run are there only once somebody makes them.
        fs::create_dir_all(early.place).ok();
        let data = Some(early.data.as_str());
        mount(
            Some(early.what),
            early.place,
            Some(early.kind),
            early.flags,
            data,
        )
        .ok();
    }
}

fn parse(line: &str) -> Option<Early<'_>> {
    let mut words = line.split_ascii_whitespace();
    let (what, place, kind) = (words.next()?, words.next()?, words.next()?);
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for option in words.next()?.split(',') {
        match FLAGS.iter().find(|(name, _)| *name == option) {
            Some((_, flag)) => flags |= *flag,
            None => data.push(option),
        }
    }
    Some(Early {
        what,
        place,
        kind,
        flags,
        data: data.join(","),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_apart_from_what_the_file_system_is_told() {
        let line = "tmpfs /tmp tmpfs mode=1777,strictatime,nosuid,nodev,size=50%";
        let early = Early {
            what: "tmpfs",
            place: "/tmp",
            kind: "tmpfs",
            flags: MsFlags::MS_STRICTATIME | MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            data: "mode=1777,size=50%".to_owned(),
        };
        assert_eq!(parse(line), Some(early));
        assert_eq!(parse("tmpfs /tmp tmpfs"), None);
        assert_eq!(parse(""), None);
    }
}
