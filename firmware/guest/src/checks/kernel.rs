//! Questions about the kernel.

use std::fs;
use std::path::Path;

use super::{Answer, failed};
use crate::cmdline::words;

/// The kernel command line holds this word.
pub fn command_line(word: &str) -> Result<Answer, String> {
    let path = "/proc/cmdline";
    let text = fs::read_to_string(path).map_err(failed(path))?;
    Ok(Answer::new(
        words(&text).iter().any(|w| w == word),
        text.trim(),
    ))
}

/// A module is loaded or built in.
pub fn module(name: &str) -> Answer {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let list = format!("/lib/modules/{}/modules.builtin", release.trim());
    let loaded = fs::read_to_string("/proc/modules").unwrap_or_default();
    let built_in = fs::read_to_string(list).unwrap_or_default();
    let name = plain(name);
    if loaded.lines().any(|line| is_live(line, &name)) {
        return Answer::new(true, "loaded");
    }
    // Not every image has the list; what has parameters or a version shows here as well, but a
    // module that is only on its way in does, too.
    let folder = Path::new("/sys/module").join(&name);
    let shown = !name.contains('/') && folder.is_dir() && !folder.join("initstate").exists();
    if shown || built_in.lines().any(|line| is_file_of(line, &name)) {
        return Answer::new(true, "built in");
    }
    Answer::no("neither loaded nor built in")
}

/// Module names are the same with `-` and `_`.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// A line of `/proc/modules` is `NAME SIZE USERS BY STATE ADDRESS`.
fn is_live(line: &str, name: &str) -> bool {
    let mut fields = line.split_ascii_whitespace();
    fields.next() == Some(name) && fields.nth(3) == Some("Live")
}

/// A line of `modules.builtin` is `kernel/FOLDER/NAME.ko`.
fn is_file_of(line: &str, name: &str) -> bool {
    let file = line.rsplit('/').next().unwrap_or_default();
    file.strip_suffix(".ko")
        .is_some_and(|file| plain(file) == name)
}

/// A kernel parameter has this value.
pub fn parameter(name: &str, value: &str) -> Result<Answer, String> {
    let path = parameter_path(name).ok_or_else(|| format!("`{name}` is no kernel parameter"))?;
    let found = fs::read_to_string(&path).map_err(failed(&path))?;
    let words = |text: &str| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Answer::new(words(&found) == words(value), words(&found)))
}

/// As `sysctl(8)` has it: the first separator says which of `.` and `/` separates, the other one
/// then stands for itself, as in `net/ipv4/conf/eth0.1/forwarding`.
fn parameter_path(name: &str) -> Option<String> {
    let dots = name
        .find(['.', '/'])
        .is_none_or(|at| name[at..].starts_with('.'));
    let path: String = name
        .chars()
        .map(|character| match character {
            '.' if dots => '/',
            '/' if dots => '.',
            other => other,
        })
        .collect();
    let harmless = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.split('/')
        .all(harmless)
        .then(|| format!("/proc/sys/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_paths() {
        let rows = [
            ("kernel.ostype", Some("/proc/sys/kernel/ostype")),
            (
                "net.ipv4.conf.eth0/1.x",
                Some("/proc/sys/net/ipv4/conf/eth0.1/x"),
            ),
            (
                "net/ipv4/conf/eth0.1/x",
                Some("/proc/sys/net/ipv4/conf/eth0.1/x"),
            ),
            ("kernel/../../etc/passwd", None),
            ("", None),
            ("a..b", None),
        ];
        for (name, path) in rows {
            assert_eq!(parameter_path(name).as_deref(), path, "{name}");
        }
    }

    #[test]
    fn parameters_are_compared_word_by_word() {
        assert!(parameter("kernel.ostype", " Linux\n").unwrap().holds);
        assert!(!parameter("kernel.ostype", "Minix").unwrap().holds);
        assert!(parameter("kernel.no-such", "1").is_err());
    }

    #[test]
    fn modules_are_found_by_either_spelling() {
        assert!(is_live("dm_verity 16384 1 - Live 0x0", "dm_verity"));
        assert!(!is_live("dm_verity 16384 1 - Loading 0x0", "dm_verity"));
        assert!(!is_live("dm_verity2 16384 1 - Live 0x0", "dm_verity"));
        assert!(is_file_of("kernel/drivers/md/dm-mod.ko", "dm_mod"));
        assert!(!is_file_of("kernel/drivers/md/xdm-mod.ko", "dm_mod"));
        assert!(!module("no/../such").holds);
    }
}
