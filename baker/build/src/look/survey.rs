//! What is installed on a disk.

use std::collections::BTreeMap;
use std::io;

use baker_formats::volume::{EntryKind, Volume};
use baker_model::tree::TreePath;
use serde::Serialize;

use super::packages::{self, InstalledPackage, Owners};
use super::systemd::{self, Unit};
use super::{Look, program};

/// Text files that tell facts are smaller than this.
const TEXT_LIMIT: u64 = 1 << 20;

/// What the root of a disk holds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Survey {
    /// The partition that the root lies in.
    pub partition: u32,
    /// The format of the root.
    pub format: &'static str,
    /// What the reader of that format cannot tell.
    pub untold: &'static [&'static str],
    /// Names in the root.
    pub names: u64,
    /// Bytes in its regular files, each counted once.
    pub size: u64,
    /// Fields of `os-release`.
    pub os_release: BTreeMap<String, String>,
    /// The packages, sorted by name.
    pub packages: Vec<InstalledPackage>,
    /// Package databases that are there and not read: `rpm`, `apk`, `pacman`.
    pub unread_databases: Vec<&'static str>,
    /// Regular files that belong to no package.
    pub unowned_files: u64,
    /// Bytes in those.
    pub unowned_size: u64,
    /// Units that are enabled or masked.
    pub units: Vec<Unit>,
    /// Kernel command lines, and where each stands.
    pub command_lines: Vec<CommandLine>,
    /// Kernel modules of the root.
    pub modules: Vec<KernelModules>,
    /// Files that give their caller more rights.
    pub privileged: Vec<Privileged>,
}

/// A kernel command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CommandLine {
    /// The file that it stands in.
    pub from: String,
    /// Its words.
    pub text: String,
}

/// The modules of one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KernelModules {
    /// Release of the kernel.
    pub release: String,
    /// Names of the modules, sorted.
    pub names: Vec<String>,
}

/// A file that gives its caller more rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Privileged {
    /// Where it is.
    pub path: String,
    /// Its mode, octal.
    pub mode: String,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// `setuid`, `setgid`, `capabilities`.
    pub why: Vec<&'static str>,
}

/// Surveys the root of a disk; none when the disk has no root that can be read.
///
/// # Errors
/// A file of the root cannot be read.
pub fn survey(look: &Look) -> io::Result<Option<(Survey, Owners)>> {
    let Some((partition, volume)) = &look.root else {
        return Ok(None);
    };
    let installed = packages::installed(volume)?;
    let mut seen = std::collections::HashSet::new();
    let files = volume.entries().values().filter(|entry| entry.size() > 0);
    let size = files
        .filter(|entry| seen.insert(entry.number))
        .map(|entry| entry.size())
        .sum();
    let survey = Survey {
        partition: *partition,
        format: volume.format().name(),
        untold: volume.format().untold(),
        names: volume.entries().len() as u64,
        size,
        os_release: os_release(volume)?,
        packages: installed.packages,
        unread_databases: installed.unread,
        unowned_files: installed.unowned.0,
        unowned_size: installed.unowned.1,
        units: systemd::units(volume),
        command_lines: command_lines(look, volume)?,
        modules: modules(volume),
        privileged: privileged(volume),
    };
    Ok(Some((survey, installed.owners)))
}

fn text(volume: &Volume, path: &str) -> io::Result<Option<String>> {
    let path = TreePath::new(path).map_err(io::Error::other)?;
    let bytes = volume.read(&path, TEXT_LIMIT)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn os_release(volume: &Volume) -> io::Result<BTreeMap<String, String>> {
    for path in ["etc/os-release", "usr/lib/os-release"] {
        if let Some(text) = text(volume, path)? {
            return Ok(program::fields(&text));
        }
    }
    Ok(BTreeMap::new())
}

/// Those of unified kernel images; else those of boot loader entries and of GRUB.
fn command_lines(look: &Look, volume: &Volume) -> io::Result<Vec<CommandLine>> {
    let programs = look.programs.iter();
    let mut lines: Vec<_> = programs
        .filter_map(|program| {
            Some(CommandLine {
                from: program.path.clone(),
                text: program.command_line.clone()?,
            })
        })
        .collect();
    let mut from_files = |path: &str, keywords: &[&str], skip: usize| -> io::Result<()> {
        let found = text(volume, path)?.unwrap_or_default();
        for line in found.lines() {
            let mut words = line.split_whitespace();
            if words.next().is_some_and(|word| keywords.contains(&word)) {
                let words: Vec<_> = words.skip(skip).collect();
                lines.push(CommandLine {
                    from: format!("/{path}"),
                    text: words.join(" "),
                });
            }
        }
        Ok(())
    };
    let entries = TreePath::new("boot/loader/entries").map_err(io::Error::other)?;
    for path in packages::children(volume, &entries) {
        let path = String::from_utf8_lossy(path.as_bytes());
        from_files(&path, &["options"], 0)?;
    }
    for path in ["boot/grub/grub.cfg", "boot/grub2/grub.cfg"] {
        from_files(path, &["linux", "linuxefi"], 1)?;
    }
    lines.dedup();
    Ok(lines)
}

fn modules(volume: &Volume) -> Vec<KernelModules> {
    let folder = TreePath::new("lib/modules").ok();
    let Some(folder) = folder.and_then(|folder| volume.resolve(&folder)) else {
        return usr_modules(volume);
    };
    modules_below(volume, &folder)
}

/// Of a root without the link `/lib`.
fn usr_modules(volume: &Volume) -> Vec<KernelModules> {
    let folder = TreePath::new("usr/lib/modules").ok();
    let folder = folder.and_then(|folder| volume.resolve(&folder));
    folder.map_or_else(Vec::new, |folder| modules_below(volume, &folder))
}

fn modules_below(volume: &Volume, folder: &TreePath) -> Vec<KernelModules> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let depth = folder.components().count();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let below = volume.entries().range(folder.clone()..);
    for (path, _) in below.take_while(|(path, _)| path.is_below(folder)) {
        let Some(release) = path.components().nth(depth) else {
            continue;
        };
        let name = text(path.file_name());
        let stem = ["", ".xz", ".zst", ".gz"]
            .iter()
            .find_map(|packing| name.strip_suffix(packing)?.strip_suffix(".ko"));
        if let Some(stem) = stem {
            found
                .entry(text(release))
                .or_default()
                .push(stem.to_owned());
        }
    }
    let sorted = found.into_iter().map(|(release, mut names)| {
        names.sort();
        KernelModules { release, names }
    });
    sorted.collect()
}

fn privileged(volume: &Volume) -> Vec<Privileged> {
    let files = volume
        .entries()
        .iter()
        .filter(|(_, entry)| matches!(entry.kind, EntryKind::File { .. }));
    files
        .filter_map(|(path, entry)| {
            let metadata = &entry.metadata;
            let capable = metadata.xattrs.contains_key(&b"security.capability"[..]);
            let reasons = [
                (metadata.mode & 0o4000 != 0, "setuid"),
                (metadata.mode & 0o2000 != 0, "setgid"),
                (capable, "capabilities"),
            ];
            let why: Vec<_> = reasons
                .iter()
                .filter_map(|(holds, name)| holds.then_some(*name))
                .collect();
            (!why.is_empty()).then(|| Privileged {
                path: path.to_string(),
                mode: format!("{:04o}", metadata.mode),
                uid: metadata.uid,
                gid: metadata.gid,
                why,
            })
        })
        .collect()
}
