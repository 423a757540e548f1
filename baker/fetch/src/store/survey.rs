//! What the store holds, without reading it.

use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Store, StoreError};

/// Bytes that a block of `stat` stands for, whatever the file system.
const BLOCK: u64 = 512;

/// One thing in the store that is kept or removed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its name: a digest, or that of a stage's result.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes that it takes on the disk; a folder with all that is in it.
    pub size: u64,
    /// When it was used last.
    pub used: SystemTime,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An input, by digest.
    Object,
    /// A download under way or cut off, by digest.
    Partial,
    /// A result of a stage, by kind and key.
    Result,
}

impl Entry {
    /// `object`, `partial`, or the kind of result that its name begins with: `scripts`.
    #[must_use]
    pub fn kind_name(&self) -> &str {
        match self.kind {
            Kind::Object => "object",
            Kind::Partial => "partial",
            Kind::Result => self.name.split('-').next().unwrap_or_default(),
        }
    }
}

impl Store {
    /// Everything in the store, sorted by kind and name. What comes or goes meanwhile may be there
    /// or not.
    ///
    /// # Errors
    /// A folder of the store cannot be read.
    pub fn survey(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let objects = self.root.join("objects");
        for folder in list(&objects)? {
            add(&folder.path(), Kind::Object, &mut entries)?;
        }
        add(&self.root.join("partial"), Kind::Partial, &mut entries)?;
        add(&self.stages(), Kind::Result, &mut entries)?;
        entries.sort_unstable_by(|left, right| {
            (left.kind, &left.name).cmp(&(right.kind, &right.name))
        });
        Ok(entries)
    }
}

fn add(folder: &Path, kind: Kind, entries: &mut Vec<Entry>) -> Result<(), StoreError> {
    for entry in list(folder)? {
        let path = entry.path();
        let fail = |source| failed("look at", &path, source);
        let Some(metadata) = found(entry.metadata()).map_err(fail)? else {
            continue;
        };
        entries.push(Entry {
            kind,
            name: entry.file_name().to_string_lossy().into_owned(),
            size: size(&path, &metadata).map_err(fail)?,
            used: metadata.modified().map_err(fail)?,
            path,
        });
    }
    Ok(())
}

/// Bytes on the disk: a disk image has holes, and what they would hold is no use of the store.
fn size(path: &Path, metadata: &Metadata) -> io::Result<u64> {
    let mut size = metadata.blocks().saturating_mul(BLOCK);
    if metadata.is_dir() {
        let Some(entries) = found(fs::read_dir(path))? else {
            return Ok(0);
        };
        for entry in entries {
            let entry = entry?;
            if let Some(metadata) = found(entry.metadata())? {
                size = size.saturating_add(self::size(&entry.path(), &metadata)?);
            }
        }
    }
    Ok(size)
}

fn list(folder: &Path) -> Result<Vec<DirEntry>, StoreError> {
    let entries = found(fs::read_dir(folder)).and_then(|entries| match entries {
        Some(entries) => entries.collect(),
        None => Ok(Vec::new()),
    });
    entries.map_err(|source| failed("list", folder, source))
}

/// None for what is not there any more.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

pub(super) fn failed(act: &'static str, path: &Path, source: io::Error) -> StoreError {
    let path = path.to_owned();
    StoreError::File { act, path, source }
}
