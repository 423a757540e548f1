//! The disk of a machine on the day of an update, made from two baked disks: the old version in
//! slot A, called good long ago; the new one in slot B, with all its tries ahead.
//!
//! Everything comes from the two disks themselves, their boot loaders and UKIs included: what an
//! updater would leave is what they hold, in other places.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

use baker_formats::fat::{self, Volume};
use baker_formats::gpt;
use baker_formats::verity;
use baker_model::layout::{Layout, Partition, Role};

use super::copy::copy;
use super::entry::{Counter, Entry};
use super::{BootFile, DiskError, VOLUME_LABEL, write_esp};

/// The largest file that is read from an ESP: a UKI with a large initrd.
const FILE_LIMIT: u64 = 512 << 20;

/// What to put together.
#[derive(Debug, Clone, Copy)]
pub struct Upgrade<'a> {
    /// The file to write, replaced when it is there.
    pub path: &'a Path,
    /// The baked disk of the version that runs.
    pub old: &'a Path,
    /// The baked disk of the version that arrives.
    pub new: &'a Path,
}

/// The disk that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgraded {
    /// Where everything lies.
    pub layout: Layout,
    /// The old version's entry of the boot loader.
    pub old: Entry,
    /// The new version's, with its tries.
    pub new: Entry,
}

/// Two disks do not make an update.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// A disk cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A disk lacks something.
    #[error("the disk `{}` {problem}", path.display())]
    Lacks {
        /// The disk.
        path: std::path::PathBuf,
        /// What it lacks.
        problem: &'static str,
    },
    /// Both disks hold the same version.
    #[error("both disks hold {stem}; an update needs another version")]
    SameVersion {
        /// Name and version.
        stem: String,
    },
    /// The new version does not fit beside the old one.
    #[error(
        "the new {what} has {size} bytes, the old disk has room for {room}; raise `disk.slot-mib` \
         in the recipe and bake both again"
    )]
    TooLarge {
        /// `root image` or `hash tree`.
        what: &'static str,
        /// Its bytes.
        size: u64,
        /// Bytes of the slot.
        room: u64,
    },
}

/// Writes the disk.
///
/// # Errors
/// See [`UpgradeError`]. The file is left behind for the caller to remove.
pub fn upgraded(request: &Upgrade<'_>) -> Result<Upgraded, UpgradeError> {
    let mut old = Source::open(request.old)?;
    let mut new = Source::open(request.new)?;
    let [slot_root, slot_tree] = [old.slot(Role::Root)?, old.slot(Role::RootVerity)?];
    let [new_root, new_tree] = [new.first(Role::Root)?, new.first(Role::RootVerity)?];
    let sizes = new.image_sizes(&new_tree)?;
    let pairs = [
        ("root image", &slot_root, &new_root, sizes.0),
        ("hash tree", &slot_tree, &new_tree, sizes.1),
    ];
    for (what, slot, _, size) in &pairs {
        if *size > slot.size {
            let (size, room) = (*size, slot.size);
            return Err(UpgradeError::TooLarge { what, size, room });
        }
    }
    let (mut files, old_entry) = old.boot_files()?;
    let (uki, new_entry) = new.uki()?;
    if old_entry.stem == new_entry.stem {
        let stem = old_entry.stem;
        return Err(UpgradeError::SameVersion { stem });
    }
    files.push(BootFile::new(&new_entry.path(), Cow::Owned(uki)));

    let mut layout = old.layout.clone();
    let mut out = Output::create(request.path, layout.size)?;
    for partition in &layout.partitions {
        let replaced = [&slot_root, &slot_tree].contains(&partition);
        if partition.role != Role::Esp && !replaced {
            old.copy(partition, partition.size, &mut out, partition.offset)?;
        }
    }
    for (_, slot, image, size) in &pairs {
        new.copy(image, *size, &mut out, slot.offset)?;
        for partition in layout.partitions.iter_mut().filter(|p| p == slot) {
            partition.name.clone_from(&image.name);
            partition.uuid = image.uuid;
        }
    }
    let [a, b, c, d, ..] = layout.disk_uuid;
    let esp = old.first(Role::Esp)?;
    let volume = Volume {
        offset: esp.offset,
        size: esp.size,
        id: u32::from_le_bytes([a, b, c, d]),
        label: VOLUME_LABEL,
        time: 0,
    };
    write_esp(&mut out.file, &volume, &files)?;
    gpt::write(&layout, &mut out.file).map_err(DiskError::Table)?;
    Ok(Upgraded {
        layout,
        old: old_entry,
        new: new_entry,
    })
}

/// Root image and hash tree of the first slot of a disk, for updaters that bring each by itself:
/// their partitions, as large as the images in them.
///
/// # Errors
/// The disk cannot be read or has no verified root.
pub fn images(disk: &Path) -> Result<[Partition; 2], UpgradeError> {
    let mut source = Source::open(disk)?;
    let (mut root, mut tree) = (source.first(Role::Root)?, source.first(Role::RootVerity)?);
    (root.size, tree.size) = source.image_sizes(&tree)?;
    Ok([root, tree])
}

/// The entries that the ESP of a disk offers to the boot loader, sorted by name: what loader and
/// guests have made of the counters.
///
/// # Errors
/// The disk cannot be read or holds no ESP.
pub fn entries(disk: &Path) -> Result<Vec<Entry>, UpgradeError> {
    let mut source = Source::open(disk)?;
    let found = source.listed()?;
    let parsed = found.iter().filter_map(|file| Entry::parse(&file.path));
    Ok(parsed.collect())
}

/// A disk that is read.
struct Source<'a> {
    path: &'a Path,
    file: File,
    layout: Layout,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Self, DiskError> {
        let mut file = File::open(path).map_err(|source| DiskError::Read {
            path: path.to_owned(),
            source,
        })?;
        let layout = gpt::read(&mut file).map_err(DiskError::Table)?;
        Ok(Self { path, file, layout })
    }

    fn lacks(&self, problem: &'static str) -> UpgradeError {
        UpgradeError::Lacks {
            path: self.path.to_owned(),
            problem,
        }
    }

    fn of_role(&self, role: Role) -> impl Iterator<Item = &Partition> {
        self.layout
            .partitions
            .iter()
            .filter(move |p| p.role == role)
    }

    fn first(&self, role: Role) -> Result<Partition, UpgradeError> {
        let first = self.of_role(role).next().cloned();
        first.ok_or_else(|| self.lacks("has no verified root or no EFI system partition"))
    }

    /// The second partition of a role: slot B.
    fn slot(&self, role: Role) -> Result<Partition, UpgradeError> {
        let second = self.of_role(role).nth(1).cloned();
        second.ok_or_else(|| self.lacks("has one slot; bake it with `slots = 2`"))
    }

    /// Bytes of root image and hash tree, by the superblock of the tree.
    fn image_sizes(&mut self, tree: &Partition) -> Result<(u64, u64), UpgradeError> {
        let mut superblock = [0; 512];
        let read =
            std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut superblock, tree.offset);
        read.map_err(|source| self.unreadable(source))?;
        let data = verity::data_size(&superblock)
            .ok_or_else(|| self.lacks("has no hash tree in slot A"))?;
        Ok((data, verity::hash_size(data)))
    }

    fn unreadable(&self, source: std::io::Error) -> DiskError {
        DiskError::Read {
            path: self.path.to_owned(),
            source,
        }
    }

    fn listed(&mut self) -> Result<Vec<fat::Found>, UpgradeError> {
        let esp = self.first(Role::Esp)?;
        let found = fat::list(&mut self.file, esp.offset, esp.size);
        Ok(found.map_err(DiskError::Esp)?)
    }

    fn read_boot_file(&mut self, path: &str) -> Result<Vec<u8>, UpgradeError> {
        let esp = self.first(Role::Esp)?;
        let read = fat::read(&mut self.file, esp.offset, esp.size, path, FILE_LIMIT);
        Ok(read.map_err(DiskError::Esp)?)
    }

    /// The one UKI of a disk that has not been booted yet, and its entry.
    fn uki(&mut self) -> Result<(Vec<u8>, Entry), UpgradeError> {
        match self.find_uki(|entry| entry.counter.is_some())? {
            Some(found) => Ok(found),
            None => Err(self.lacks("has no counted UKI; bake it with `slots = 2`")),
        }
    }

    fn find_uki(
        &mut self,
        fits: impl Fn(&Entry) -> bool,
    ) -> Result<Option<(Vec<u8>, Entry)>, UpgradeError> {
        for file in self.listed()? {
            if let Some(entry) = Entry::parse(&file.path).filter(&fits) {
                return Ok(Some((self.read_boot_file(&file.path)?, entry)));
            }
        }
        Ok(None)
    }

    /// All files of the ESP, the UKI under the name that it has once it is called good: it may have
    /// it already, on a disk that was booted.
    fn boot_files(&mut self) -> Result<(Vec<BootFile<'static>>, Entry), UpgradeError> {
        let Some((uki, entry)) = self.find_uki(|_| true)? else {
            return Err(self.lacks("has no UKI; bake it with `slots = 2`"));
        };
        let good = Entry {
            counter: None,
            ..entry
        };
        let mut files = vec![BootFile::new(&good.path(), Cow::Owned(uki))];
        for file in self.listed()? {
            if Entry::parse(&file.path).is_none() {
                let bytes = self.read_boot_file(&file.path)?;
                files.push(BootFile::new(&file.path, Cow::Owned(bytes)));
            }
        }
        Ok((files, good))
    }

    /// Copies the first `size` bytes of a partition.
    fn copy(
        &mut self,
        from: &Partition,
        size: u64,
        out: &mut Output<'_>,
        offset: u64,
    ) -> Result<(), DiskError> {
        use std::io::{Seek as _, SeekFrom};
        let seek = self.file.seek(SeekFrom::Start(from.offset));
        seek.map_err(|source| self.unreadable(source))?;
        copy(&mut self.file, size, &mut out.file, offset)
            .map(drop)
            .map_err(|source| out.failed(source))
    }
}

/// The disk that is written.
struct Output<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Output<'a> {
    fn create(path: &'a Path, size: u64) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Write {
            path: path.to_owned(),
            source,
        };
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(true);
        let file = options.open(path).map_err(failed)?;
        file.set_len(size).map_err(failed)?;
        Ok(Self { path, file })
    }

    fn failed(&self, source: std::io::Error) -> DiskError {
        DiskError::Write {
            path: self.path.to_owned(),
            source,
        }
    }
}

impl Upgraded {
    /// Boots that the new version has to prove itself in.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.new.counter.map_or(0, |Counter { left, .. }| left)
    }
}
