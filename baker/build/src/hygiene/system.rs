//! What can be known from paths, modes and a few small files.

use std::collections::BTreeSet;

use baker_model::Tree;
use baker_model::tree::{Content, Kind, Node, TreePath};

use super::{Allowed, Finding, HygieneError, Request};
use crate::overlay::Pattern;

/// Programs of Debian that have to run as somebody else to be of any use.
const SETUID: [&str; 6] = [
    "usr/bin/mount",
    "usr/bin/su",
    "usr/bin/umount",
    "usr/lib/dbus-1.0/dbus-daemon-launch-helper",
    "usr/lib/polkit-1/polkit-agent-helper-1",
    "usr/sbin/unix_chkpwd",
];

/// Names of shells: what `/etc/shells` of Debian's packages lists, and those in one program.
const SHELLS: [&str; 14] = [
    "ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "mksh", "rbash", "sh", "tcsh",
    "toybox", "yash", "zsh",
];

/// Names of programs that bring further programs.
const PACKAGE_MANAGERS: [&str; 16] = [
    "apk", "apt", "apt-get", "aptitude", "cargo", "conda", "dnf", "dpkg", "flatpak", "gem", "npm",
    "pip", "pip3", "rpm", "snap", "yum",
];

/// Names of programs that look into others.
const DEBUGGERS: [&str; 10] = [
    "bpftrace",
    "gdb",
    "gdbserver",
    "lldb",
    "ltrace",
    "perf",
    "strace",
    "tcpdump",
    "valgrind",
    "delve",
];

/// Where programs lie that somebody would call by name.
const PROGRAM_FOLDERS: [&str; 7] = [
    "bin",
    "sbin",
    "usr/bin",
    "usr/sbin",
    "usr/local/bin",
    "usr/local/sbin",
    "usr/games",
];

pub(super) fn check(request: Request<'_>, allowed: &Allowed) -> Result<Vec<Finding>, HygieneError> {
    let mut found = Vec::new();
    for (path, node) in request.tree.walk() {
        let text = String::from_utf8_lossy(path.as_bytes());
        found.extend(mode(&text, path, node, allowed));
        found.extend(tool(&text, path, node, allowed));
        found.extend(left_over(&text, path, node));
    }
    found.extend(machine(request)?);
    found.extend(passwords(request)?);
    Ok(found)
}

/// Bytes of all files, each inode once.
pub(super) fn size(tree: &Tree) -> u64 {
    let mut seen = BTreeSet::new();
    tree.walk()
        .filter_map(|(_, node)| match &node.kind {
            Kind::File { content, link } => {
                let first = link.is_none_or(|link| seen.insert(link));
                first.then(|| content.size())
            }
            _ => None,
        })
        .sum()
}

/// A root that grew by more than the recipe allows.
pub(super) fn growth(request: Request<'_>, size: u64) -> Option<Finding> {
    let (last, percent) = (request.last_size?, request.terms.growth_percent());
    let limit = last.saturating_add(last.saturating_mul(u64::from(percent)) / 100);
    (size > limit).then(|| Finding {
        rule: "growth".to_owned(),
        path: TreePath::root(),
        line: None,
        problem: format!(
            "the root has {} KiB, the last release had {}; {percent} % more are allowed",
            size >> 10,
            last >> 10
        ),
        mend: "see what came in, or raise growth-percent in [hygiene]",
    })
}

fn finding(rule: &str, path: &TreePath, problem: &str, mend: &'static str) -> Finding {
    Finding {
        rule: rule.to_owned(),
        path: path.clone(),
        line: None,
        problem: problem.to_owned(),
        mend,
    }
}

fn is_allowed(patterns: &[Pattern], path: &TreePath) -> bool {
    patterns.iter().any(|pattern| pattern.matches(path))
}

fn mode(text: &str, path: &TreePath, node: &Node, allowed: &Allowed) -> Option<Finding> {
    let mode = node.metadata.mode;
    match node.kind {
        Kind::Directory if mode & 0o1002 == 0o2 && !is_allowed(&allowed.world_writable, path) => {
            let problem = "anybody may write into it, and delete what others wrote";
            Some(finding("world-writable", path, problem, WORLD_WRITABLE))
        }
        Kind::File { .. } if mode & 0o2 != 0 && !is_allowed(&allowed.world_writable, path) => {
            let problem = "anybody may write it";
            Some(finding("world-writable", path, problem, WORLD_WRITABLE))
        }
        Kind::File { .. } if mode & 0o6000 != 0 => {
            let known = SETUID.contains(&text) || is_allowed(&allowed.setuid, path);
            let (mend, problem) = (
                "take the bit away, or list it in `setuid` of [hygiene]",
                "it runs with the rights of its owner or group",
            );
            (!known).then(|| finding("setuid", path, problem, mend))
        }
        _ => None,
    }
}

const WORLD_WRITABLE: &str =
    "take the bit away (mode), or list it in `world-writable` of [hygiene]";

fn tool(text: &str, path: &TreePath, node: &Node, allowed: &Allowed) -> Option<Finding> {
    let is_program = match node.kind {
        Kind::File { .. } => node.metadata.mode & 0o111 != 0,
        Kind::Symlink { .. } => true,
        _ => false,
    };
    let (folder, name) = text.rsplit_once('/')?;
    if !is_program || !PROGRAM_FOLDERS.contains(&folder) || is_allowed(&allowed.tools, path) {
        return None;
    }
    let (rule, problem) = if SHELLS.contains(&name) {
        ("shell", "it is a shell")
    } else if PACKAGE_MANAGERS.contains(&name) {
        ("package-manager", "it brings in further programs")
    } else if DEBUGGERS.contains(&name) {
        ("debugger", "it looks into other programs")
    } else {
        return None;
    };
    let mend = "leave its package out, exclude it, or list it in `tools` of [hygiene]";
    Some(finding(rule, path, problem, mend))
}

fn left_over(text: &str, path: &TreePath, node: &Node) -> Option<Finding> {
    let Kind::File { content, .. } = &node.kind else {
        return None;
    };
    let name = text.rsplit('/').next().unwrap_or(text);
    if text.starts_with("etc/ssh/ssh_host_") && !text.ends_with(".pub") {
        let mend = "have it made at the first boot";
        let problem = "every machine of this image would have the same host key";
        return Some(finding("ssh-host-key", path, problem, mend));
    }
    if matches!(
        text,
        "var/lib/systemd/random-seed" | "var/lib/urandom/random-seed" | "loader/random-seed"
    ) {
        let problem = "every machine of this image would begin with the same randomness";
        return Some(finding("random-seed", path, problem, "exclude it"));
    }
    if content.size() == 0 {
        return None;
    }
    if text.starts_with("var/log/") && name != "README" {
        let problem = "it is a log of the machine that built the image";
        return Some(finding("log", path, problem, "exclude it"));
    }
    let is_cache = [
        "var/cache/",
        "var/lib/apt/lists/",
        "var/tmp/",
        "tmp/",
        "root/.cache/",
    ];
    if is_cache.iter().any(|folder| text.starts_with(folder)) || text.contains("/__pycache__/") {
        return Some(finding("cache", path, "it is left over", "exclude it"));
    }
    None
}

/// The machine id, which is made at boot: anything but an empty file or the word for it is one.
fn machine(request: Request<'_>) -> Result<Vec<Finding>, HygieneError> {
    let mut found = Vec::new();
    for name in ["etc/machine-id", "var/lib/dbus/machine-id"] {
        let Some((path, text)) = read(request, name)? else {
            continue;
        };
        if !matches!(text.trim(), "" | "uninitialized") {
            let problem = "every machine of this image would be the same one";
            let mend = "leave it empty: it is made at boot";
            found.push(finding("machine-id", &path, problem, mend));
        }
    }
    Ok(found)
}

/// Accounts that have a password, or need none.
fn passwords(request: Request<'_>) -> Result<Vec<Finding>, HygieneError> {
    let mut found = Vec::new();
    for (name, shadowed) in [
        ("etc/passwd", Some("x")),
        ("etc/shadow", None),
        ("etc/gshadow", None),
    ] {
        let Some((path, text)) = read(request, name)? else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let mut fields = line.split(':');
            let (Some(account), Some(password)) = (fields.next(), fields.next()) else {
                continue;
            };
            let locked = password.starts_with(['!', '*']) || shadowed == Some(password);
            // A group without a password cannot be joined by one.
            if locked || account.is_empty() || (name == "etc/gshadow" && password.is_empty()) {
                continue;
            }
            let problem = match password.is_empty() {
                true => format!("`{account}` needs no password"),
                false => format!("`{account}` has a password, the same on every machine"),
            };
            found.push(Finding {
                rule: "password".to_owned(),
                path: path.clone(),
                line: Some(number + 1),
                problem,
                mend: "lock it (`*`), and bring keys or passwords at boot",
            });
        }
    }
    Ok(found)
}

/// A small text file of the tree; none when it is not there, or something else.
fn read(request: Request<'_>, name: &str) -> Result<Option<(TreePath, String)>, HygieneError> {
    let Ok(path) = TreePath::new(name) else {
        return Ok(None);
    };
    let content: Option<&Content> = match request.tree.get(&path).map(|node| &node.kind) {
        Some(Kind::File { content, .. }) => Some(content),
        _ => None,
    };
    let bytes = content.map(|content| request.contents.read(content));
    match bytes.transpose() {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => Ok(Some((path, String::from_utf8_lossy(&bytes).into_owned()))),
        Err(source) => Err(HygieneError::Read { path, source }),
    }
}
