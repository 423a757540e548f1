//! File systems and archives opened for reading, whoever made them.
//!
//! Takes a range of a disk, or a tar archive; gives all names with what is said of them, and the
//! bytes of a file on demand. Memory grows with the number of names, never with the size of files.
//! Never writes, never replays a journal, never follows a name out of the volume.

mod erofs;
mod ext4;
mod fat;
mod probe;
mod squashfs;
mod tar;

use std::collections::BTreeMap;
use std::io::{self, Write};

use baker_model::tree::{Metadata, TreePath};

use crate::io::Part;
pub use probe::{Content, probe};

/// All names of a volume, the root included.
pub type Entries = BTreeMap<TreePath, Entry>;

/// One name of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Owner, mode, time and extended attributes.
    pub metadata: Metadata,
    /// What it is.
    pub kind: EntryKind,
    /// Names of one file have the same number, where the format tells.
    pub number: u64,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Number of bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Its target as written.
        target: Vec<u8>,
    },
    /// A character device node.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device node.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Entry {
    /// Number of bytes of a file, 0 of all else.
    #[must_use]
    pub const fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size } => size,
            _ => 0,
        }
    }
}

/// A format that can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// EROFS.
    Erofs,
    /// SquashFS 4.
    Squashfs,
    /// ext2, ext3 or ext4.
    Ext4,
    /// FAT12, 16 or 32.
    Fat,
    /// A tar archive.
    Tar,
}

impl Format {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
            Self::Ext4 => "ext4",
            Self::Fat => "fat",
            Self::Tar => "tar",
        }
    }

    /// What the reader does not tell though the volume may have it.
    #[must_use]
    pub const fn untold(self) -> &'static [&'static str] {
        match self {
            Self::Erofs | Self::Tar => &[],
            Self::Squashfs => &["extended attributes", "hard links"],
            Self::Ext4 => &["extended attributes", "hard links", "device numbers"],
            Self::Fat => &["times"],
        }
    }
}

/// A volume cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the {} volume", format.name())]
pub struct VolumeError {
    /// What it is.
    pub format: Format,
    /// What is wrong.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Gives the bytes of files.
trait Files {
    fn copy(&self, path: &TreePath, entry: &Entry, out: &mut dyn Write) -> io::Result<()>;
}

/// An opened volume.
pub struct Volume {
    format: Format,
    entries: Entries,
    files: Box<dyn Files>,
}

impl Volume {
    /// Opens a volume of a known format.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or has a feature that the reader does not know.
    pub fn open(part: Part, format: Format) -> Result<Self, VolumeError> {
        let failed = |source| VolumeError { format, source };
        let (entries, files) = match format {
            Format::Erofs => erofs::open(part),
            Format::Squashfs => squashfs::open(part),
            Format::Ext4 => ext4::open(part),
            Format::Fat => fat::open(part),
            Format::Tar => tar::open(part),
        }
        .map_err(failed)?;
        Ok(Self {
            format,
            entries,
            files,
        })
    }

    /// Its format.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// All names, sorted; a directory comes before what is in it.
    #[must_use]
    pub const fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The entry at `path` after following symbolic links, and where it was found.
    #[must_use]
    pub fn find(&self, path: &TreePath) -> Option<(&TreePath, &Entry)> {
        let at = self.resolve(path)?;
        self.entries.get_key_value(&at)
    }

    /// Follows the links on the way to `path` and at its end, as the kernel would with this
    /// volume as root; none when something is missing, or links go round.
    #[must_use]
    pub fn resolve(&self, path: &TreePath) -> Option<TreePath> {
        let mut todo: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
        let mut at = TreePath::root();
        let mut links = 0;
        while let Some(component) = todo.pop() {
            if component == b".." {
                at = at.parent().unwrap_or_else(TreePath::root);
                continue;
            }
            let next = at.join(&component).ok()?;
            match &self.entries.get(&next)?.kind {
                EntryKind::Symlink { target } => {
                    links += 1;
                    if links > 40 {
                        return None;
                    }
                    if target.first() == Some(&b'/') {
                        at = TreePath::root();
                    }
                    let parts = target.split(|&byte| byte == b'/').rev();
                    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
                    todo.extend(parts.map(<[u8]>::to_vec));
                }
                EntryKind::Directory => at = next,
                _ if todo.is_empty() => at = next,
                _ => return None,
            }
        }
        Some(at)
    }

    /// Writes the bytes of the file at `path`, links not followed, to `out`.
    ///
    /// # Errors
    /// There is no such file, it cannot be read, or `out` fails.
    pub fn copy(&self, path: &TreePath, out: &mut dyn Write) -> io::Result<()> {
        match self.entries.get(path) {
            Some(entry) if matches!(entry.kind, EntryKind::File { .. }) => {
                self.files.copy(path, entry, out)
            }
            Some(_) => Err(io::Error::other(format!("{path} is no regular file"))),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The bytes of the file that `path` leads to; none when there is no such file or it has more
    /// than `limit` bytes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, path: &TreePath, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some((at, entry)) = self.find(path) else {
            return Ok(None);
        };
        match entry.kind {
            EntryKind::File { size } if size <= limit => {
                let mut bytes = Vec::new();
                self.files.copy(at, entry, &mut bytes)?;
                Ok(Some(bytes))
            }
            _ => Ok(None),
        }
    }
}

/// What the readers of the formats give.
type Opened = Result<(Entries, Box<dyn Files>), Box<dyn std::error::Error + Send + Sync>>;

/// More names than any image has; it ends volumes whose folders never do.
const NAMES_LIMIT: usize = 8 << 20;

/// Adds a name, or refuses one too many.
fn add(entries: &mut Entries, path: TreePath, entry: Entry) -> io::Result<()> {
    if entries.len() >= NAMES_LIMIT {
        return Err(io::Error::other("it has too many names"));
    }
    entries.insert(path, entry);
    Ok(())
}

/// A directory that nobody describes.
fn implied() -> Entry {
    Entry {
        metadata: Metadata::of_root(0o755, 0),
        kind: EntryKind::Directory,
        number: 0,
    }
}

/// Adds the directories above `path` that are not there.
fn add_parents(entries: &mut Entries, path: &TreePath) {
    let mut at = path.parent();
    while let Some(parent) = at {
        at = parent.parent();
        entries.entry(parent).or_insert_with(implied);
    }
}

#[cfg(test)]
mod tests;
