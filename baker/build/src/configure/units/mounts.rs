//! Mount units that init can do itself, before systemd starts.
//!
//! For each mount unit systemd starts two programs, which takes an emulated machine a quarter of a
//! second. Those that only mount a file system in memory are put on a list that init follows; their
//! units stay, and find the work done. A unit that says anything else is left to systemd.

use std::collections::BTreeSet;

use baker_contract::EARLY_MOUNTS;

use super::file::{FOLDERS, Found, find, values};
use crate::configure::error::ConfigureError;
use crate::configure::image::{Access, Image};

const EFFECT: &str = "early-mounts";

/// What every boot reaches before anything of the image's own.
const TARGETS: [&str; 2] = ["local-fs.target", "sysinit.target"];

/// File systems that need nothing but the kernel.
const KINDS: [&str; 3] = ["tmpfs", "mqueue", "hugetlbfs"];

/// Conditions that hold whenever init runs as it does; a path below `/proc` or `/sys` says that the
/// kernel knows the file system, which the attempt to mount it shows as well.
const CONDITIONS: [(&str, &str); 2] = [
    ("ConditionCapability", "CAP_SYS_ADMIN"),
    ("ConditionVirtualization", "!private-users"),
];

/// Writes the list.
pub(in crate::configure) fn mount_early(image: &mut Image<'_>) -> Result<(), ConfigureError> {
    let mut lines = BTreeSet::new();
    for name in wanted(image)? {
        lines.extend(line(image, &name)?);
    }
    if lines.is_empty() {
        return Ok(());
    }
    let text: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
    image.write(EARLY_MOUNTS, text, Access::root(0o644), EFFECT)
}

/// Names of the mount units that the targets want.
fn wanted(image: &Image<'_>) -> Result<BTreeSet<String>, ConfigureError> {
    let mut names = BTreeSet::new();
    for folder in FOLDERS {
        for target in TARGETS {
            for kind in ["wants", "requires"] {
                let links = image.names(&format!("{folder}/{target}.{kind}"))?;
                names.extend(links.into_iter().filter(|name| name.ends_with(".mount")));
            }
        }
    }
    Ok(names)
}

/// Place and line of a unit that init can do.
fn line(image: &Image<'_>, name: &str) -> Result<Option<(String, String)>, ConfigureError> {
    let Found::File(unit) = find(image, name)? else {
        return Ok(None);
    };
    for folder in FOLDERS {
        if image.exists(&format!("{folder}/{name}.d"))? {
            return Ok(None);
        }
    }
    let text = image.read_text(&unit.path)?.unwrap_or_default();
    for (key, value) in values(&text, "Unit") {
        if !is_harmless(image, &key, &value)? {
            return Ok(None);
        }
    }
    let (mut what, mut place, mut kind, mut options) = Default::default();
    for (key, value) in values(&text, "Mount") {
        let field: &mut String = match key.as_str() {
            "What" => &mut what,
            "Where" => &mut place,
            "Type" => &mut kind,
            "Options" => &mut options,
            _ => return Ok(None),
        };
        *field = value;
    }
    let plain = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    let Some(options) = unescaped(&options).filter(|options| is_for_the_kernel(options)) else {
        return Ok(None);
    };
    let is_simple = [&what, &place]
        .into_iter()
        .all(|text| plain(text) && !text.contains('%'))
        && KINDS.contains(&kind.as_str());
    Ok(is_simple.then(|| (place.clone(), format!("{what} {place} {kind} {options}"))))
}

/// True when this line of `[Unit]` changes nothing about when or whether init may mount.
fn is_harmless(image: &Image<'_>, key: &str, value: &str) -> Result<bool, ConfigureError> {
    Ok(match key {
        "Description" | "Documentation" | "DefaultDependencies" | "Conflicts" | "Before" => true,
        "After" => value
            .split_ascii_whitespace()
            .all(|unit| unit == "swap.target"),
        "ConditionPathExists" => ["/proc/", "/sys/"].iter().any(|top| value.starts_with(top)),
        "ConditionPathIsSymbolicLink" => match value.strip_prefix('!') {
            Some(path) => image.node_itself(path)?.is_some() && image.is_directory(path)?,
            None => false,
        },
        _ => CONDITIONS.contains(&(key, value)),
    })
}

/// The options with `%%` as systemd reads it; none when there are other specifiers.
fn unescaped(options: &str) -> Option<String> {
    let mut parts = options.split("%%");
    parts
        .clone()
        .all(|part| !part.contains('%'))
        .then(|| parts.by_ref().collect::<Vec<_>>().join("%"))
}

/// True when systemd keeps none of the options for itself.
fn is_for_the_kernel(options: &str) -> bool {
    const OWN: [&str; 8] = [
        "auto", "noauto", "fail", "nofail", "_netdev", "user", "users", "defaults",
    ];
    !options.is_empty()
        && !options.contains(char::is_whitespace)
        && options
            .split(',')
            .all(|option| !OWN.contains(&option) && !option.starts_with("x-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    const UNITS: &str = "/usr/lib/systemd/system";

    /// The list of a tree with one mount unit that `local-fs.target` wants.
    fn list(unit: &str, more: &[(&str, &str)]) -> Option<String> {
        let spool = testing::spool();
        let paths = [
            format!("{UNITS}/tmp.mount"),
            format!("{UNITS}/local-fs.target.wants/tmp.mount"),
        ];
        let mut files = vec![
            (paths[0].as_str(), unit),
            (paths[1].as_str(), "-> ../tmp.mount"),
        ];
        files.extend(more);
        let mut image = testing::image(&spool, &files);
        mount_early(&mut image).unwrap();
        image.read_text(EARLY_MOUNTS).unwrap()
    }

    #[test]
    fn init_does_what_only_mounts_memory() {
        let simple = "[Unit]\nAfter=swap.target\nConditionPathIsSymbolicLink=!/tmp\n\
                      [Mount]\nWhat=tmpfs\nWhere=/tmp\nType=tmpfs\nOptions=nodev,size=50%%\n";
        let there = ("/tmp/.keep", "");
        assert_eq!(
            list(simple, &[there]).as_deref(),
            Some("tmpfs /tmp tmpfs nodev,size=50%\n")
        );
        let changed = |from: &str, to: &str| list(&simple.replace(from, to), &[there]);
        let rows = [
            ("Type=tmpfs", "Type=ext4"),
            ("[Mount]\n", "[Mount]\nDirectoryMode=0700\n"),
            ("[Unit]\n", "[Unit]\nRequires=other.service\n"),
            ("swap.target", "other.service"),
            ("[Unit]\n", "[Unit]\nConditionPathExists=/etc/asked\n"),
            ("50%%", "50%i"),
            ("nodev", "nodev,x-systemd.requires=other.service"),
            ("nodev", "nodev,nofail"),
        ];
        for (from, to) in rows {
            assert_eq!(changed(from, to), None, "{to}");
        }
        assert_eq!(list(simple, &[("/tmp", "-> /run")]), None);
        let drop_in = ("/etc/systemd/system/tmp.mount.d/a.conf", "");
        assert_eq!(list(simple, &[there, drop_in]), None);
        let masked = ("/etc/systemd/system/tmp.mount", "-> /dev/null");
        assert_eq!(list(simple, &[there, masked]), None);
    }
}
