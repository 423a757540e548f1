//! Whether two disks that should be the same are, and if not, which structure differs first.
//!
//! Takes the disk of a release and one baked again from its lock; gives the structures that
//! differ, each with the path that it belongs to and what of it differs, in the order in which a
//! bake makes them: what comes first is the cause, what comes later may only be its consequence
//! (a byte of a file changes the hash tree, by that the command line, by that the identity of a
//! partition). Never gives only a digest. Never writes.

mod program;
mod regions;
mod root;
mod table;
#[cfg(test)]
mod tests;

use std::io;

use baker_formats::io::Part;
use baker_model::Interrupt;
use serde::Serialize;

use crate::anatomy::{Anatomy, AnatomyError, Structure, anatomy};

/// Differences that are given at most, of one kind.
const EACH: usize = 20;

/// One structure that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// Which structure: `EROFS inode`, `ESP entry`, `section .initrd, cpio member` ...
    pub structure: String,
    /// The partition, by its name; none outside of partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The file, member or entry that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// First byte of the disk that differs, where one can be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What differs: the release has the first value, the rebuilt disk the second.
    pub detail: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.structure)?;
        if let Some(path) = &self.path {
            write!(f, " of {path}")?;
        }
        if let Some(partition) = &self.partition {
            write!(f, " in partition {partition}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// The disks cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The rebuilt disk cannot be mapped.
    #[error("cannot map the rebuilt disk")]
    Map(#[from] AnatomyError),
    /// One of them cannot be read.
    #[error("cannot read the disks")]
    Read(#[source] io::Error),
}

/// Compares the disk of a release with a rebuilt one; none differ when nothing is given.
///
/// # Errors
/// See [`CompareError`]. Damage of the release's disk is no error but a difference.
pub fn compare(
    release: &Part,
    rebuilt: &Part,
    interrupt: &Interrupt,
) -> Result<Vec<Difference>, CompareError> {
    let map: Anatomy = anatomy(rebuilt, rebuilt.size())?;
    let regions =
        regions::differing(&map, release, rebuilt, interrupt).map_err(CompareError::Read)?;
    let mut found = Vec::new();
    if release.size() != rebuilt.size() {
        found.push(Difference {
            structure: "disk".to_owned(),
            partition: None,
            path: None,
            offset: None,
            detail: format!("it has {} bytes, not {}", release.size(), rebuilt.size()),
        });
    }
    let disks = Disks { release, rebuilt };
    found.extend(root::compare(&disks, &regions));
    found.extend(regions::of(&regions, &disks, |structure| {
        matches!(structure, Structure::HashTree { .. })
    }));
    found.extend(program::compare(&disks, &regions));
    found.extend(regions::of(&regions, &disks, |structure| {
        matches!(structure, Structure::Esp(_))
    }));
    found.extend(table::compare(&disks, &regions));
    found.extend(regions::of(&regions, &disks, |structure| {
        matches!(
            structure,
            Structure::Gap | Structure::Data { .. } | Structure::Blank { .. } | Structure::Mbr(_)
        )
    }));
    Ok(found)
}

/// Both disks.
struct Disks<'a> {
    release: &'a Part,
    rebuilt: &'a Part,
}
