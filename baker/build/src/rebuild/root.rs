//! Roots that differ: which name of the tree, and what of it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use baker_formats::io::Part;
use baker_formats::volume::{Content, Entry, EntryKind, Format, Volume, probe};
use baker_model::tree::TreePath;

use super::regions::{Differing, of};
use super::{Difference, Disks, EACH};
use crate::anatomy::Structure;

/// Differences of all roots, in the order of the disk.
pub(super) fn compare(disks: &Disks<'_>, regions: &[Differing]) -> Vec<Difference> {
    let mut names: Vec<&str> = Vec::new();
    for differing in regions {
        if let Structure::Root { partition, .. } = &differing.region.structure
            && !names.contains(&partition.as_str())
        {
            names.push(partition);
        }
    }
    let mut found = Vec::new();
    for name in names {
        let trees = trees(disks, name).unwrap_or_default();
        if trees.is_empty() {
            found.extend(of(regions, disks, |structure| {
                matches!(structure, Structure::Root { partition, .. } if partition == name)
            }));
        } else {
            found.extend(trees);
        }
    }
    found
}

/// The names of two trees that differ; none when a root cannot be read.
fn trees(disks: &Disks<'_>, partition: &str) -> Option<Vec<Difference>> {
    let release = open(disks.release, partition)?;
    let rebuilt = open(disks.rebuilt, partition)?;
    let paths: BTreeSet<&TreePath> = release
        .entries()
        .keys()
        .chain(rebuilt.entries().keys())
        .collect();
    let mut found = Vec::new();
    for path in paths {
        let (left, right) = (release.entries().get(path), rebuilt.entries().get(path));
        let told = match (left, right) {
            (Some(left), Some(right)) => {
                let field = field(left, right).map(|detail| ("inode", detail));
                field.or_else(|| {
                    let detail = content(path, (&release, left), (&rebuilt, right))?;
                    Some(("file data", detail))
                })
            }
            (None, _) => Some((
                "directory entry",
                "it is missing from the release".to_owned(),
            )),
            (_, None) => Some(("directory entry", "only the release has it".to_owned())),
        };
        let Some((part, detail)) = told else {
            continue;
        };
        found.push(Difference {
            structure: format!("{} {part}", label(rebuilt.format())),
            partition: Some(partition.to_owned()),
            path: Some(path.to_string()),
            offset: None,
            detail,
        });
        if found.len() >= EACH {
            break;
        }
    }
    Some(found)
}

const fn label(format: Format) -> &'static str {
    match format {
        Format::Erofs => "EROFS",
        Format::Squashfs => "SquashFS",
        other => other.name(),
    }
}

fn open(disk: &Part, partition: &str) -> Option<Volume> {
    let layout = baker_formats::gpt::read(&mut disk.clone()).ok()?;
    let place = layout
        .partitions
        .iter()
        .find(|found| found.name == partition)?;
    let part = disk.part(place.offset..place.offset.checked_add(place.size)?)?;
    match probe(&part).ok()? {
        Content::Volume(format) => Volume::open(part, format).ok(),
        _ => None,
    }
}

/// What differs apart from content.
fn field(left: &Entry, right: &Entry) -> Option<String> {
    let (old, new) = (&left.metadata, &right.metadata);
    let said = |what: &str, left: String, right: String| {
        (left != right).then(|| format!("{what} is {left}, not {right}"))
    };
    let kind = |kind: &EntryKind| match kind {
        EntryKind::File { size } => format!("a file of {size} bytes"),
        EntryKind::Symlink { target } => format!("a link to {}", target.escape_ascii()),
        other => format!("{other:?}"),
    };
    let attributes = |of: &Entry| {
        let pairs = of.metadata.xattrs.iter();
        let shown =
            pairs.map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()));
        format!("[{}]", shown.collect::<Vec<_>>().join(" "))
    };
    said("it", kind(&left.kind), kind(&right.kind))
        .or_else(|| {
            said(
                "its mode",
                format!("{:04o}", old.mode),
                format!("{:04o}", new.mode),
            )
        })
        .or_else(|| {
            said(
                "its owner",
                format!("{}:{}", old.uid, old.gid),
                format!("{}:{}", new.uid, new.gid),
            )
        })
        .or_else(|| said("its mtime", old.mtime.to_string(), new.mtime.to_string()))
        .or_else(|| said("its attributes", attributes(left), attributes(right)))
}

/// Where the bytes of two files of one size begin to differ.
fn content(path: &TreePath, left: (&Volume, &Entry), right: (&Volume, &Entry)) -> Option<String> {
    let EntryKind::File { .. } = left.1.kind else {
        return None;
    };
    let digest = |volume| crate::diff::digest(volume, path);
    let (one, other) = (digest(left.0), digest(right.0));
    match (one, other) {
        (Ok(one), Ok(other)) if one == other => None,
        (Ok(_), Ok(_)) => Some(match first_difference(path, left.0, right.0) {
            Some(at) => format!("its content differs from byte {at} on"),
            None => "its content differs".to_owned(),
        }),
        (Err(error), _) => Some(format!("the release's bytes cannot be unpacked: {error}")),
        (_, Err(error)) => Some(format!("the rebuilt bytes cannot be unpacked: {error}")),
    }
}

/// Files larger than this are not searched for the byte: one of them is kept in memory.
const SEARCH_LIMIT: u64 = 64 << 20;

fn first_difference(path: &TreePath, left: &Volume, right: &Volume) -> Option<u64> {
    struct Beside {
        other: Vec<u8>,
        at: usize,
        found: Option<usize>,
    }
    impl Write for Beside {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let other = self.other.get(self.at..).unwrap_or_default();
            let same = bytes.iter().zip(other).take_while(|(one, two)| one == two);
            let same = same.count();
            if self.found.is_none() && same < bytes.len() {
                self.found = Some(self.at + same);
            }
            self.at += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut beside = Beside {
        other: left.read(path, SEARCH_LIMIT).ok().flatten()?,
        at: 0,
        found: None,
    };
    right.copy(path, &mut beside).ok()?;
    beside.found.map(|at| at as u64)
}
