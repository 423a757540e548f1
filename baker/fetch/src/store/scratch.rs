//! Files of the store that are being written: locked while open, published by a rename.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use baker_model::{Digester, Interrupt};

use super::{StoreError, copy};

/// How long to wait before looking again whether another process has let go of a file.
const PATIENCE: Duration = Duration::from_millis(20);

/// A file being written. **Unless the store publishes it, it never becomes an object.**
#[derive(Debug)]
pub struct Scratch {
    file: File,
    path: PathBuf,
}

/// A file that has got its name.
#[must_use]
pub(super) struct Published {
    folder: PathBuf,
    /// Keeps its lock until the name is on the disk.
    _file: File,
}

impl Published {
    /// Brings the name to the disk.
    pub(super) fn sync(self) -> Result<(), StoreError> {
        let sync = File::open(&self.folder).and_then(|folder| folder.sync_all());
        sync.map_err(|source| StoreError::File {
            act: "sync",
            path: self.folder.clone(),
            source,
        })
    }
}

impl Scratch {
    /// A new file of our own in `folder`.
    pub(super) fn temporary(folder: &Path) -> Result<Self, StoreError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}-{number}", std::process::id()));
            let open = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path);
            let file = match open {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(source) => {
                    return Err(StoreError::File {
                        act: "create",
                        path,
                        source,
                    });
                }
            };
            let scratch = Self { file, path };
            // Between create and lock, somebody who opens the store may take it for abandoned.
            if scratch.try_lock()? && scratch.is_in_place() {
                return Ok(scratch);
            }
        }
    }

    /// The file at `path`, made when it is not there, once no other process writes it.
    pub(super) fn shared(path: PathBuf, interrupt: &Interrupt) -> Result<Self, StoreError> {
        loop {
            let mut options = OpenOptions::new();
            let open = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path);
            let file = open.map_err(|source| StoreError::File {
                act: "create",
                path: path.clone(),
                source,
            })?;
            let scratch = Self {
                file,
                path: path.clone(),
            };
            while !scratch.try_lock()? {
                if interrupt.is_raised() {
                    return Err(StoreError::Interrupted);
                }
                std::thread::sleep(PATIENCE);
            }
            // The one who had it may have published or removed it meanwhile: then start anew.
            if scratch.is_in_place() {
                return Ok(scratch);
            }
        }
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file the time of now, and says which that is.
    pub(super) fn date(&self) -> Result<SystemTime, StoreError> {
        let dated = self.file.set_modified(SystemTime::now());
        dated
            .and_then(|()| self.file.metadata()?.modified())
            .map_err(|source| self.fail("date", source))
    }

    /// The digester over what is already there, and how much that is; the next bytes go after it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn resume(&mut self) -> Result<(Digester, u64), StoreError> {
        let mut digester = Digester::new();
        self.file
            .rewind()
            .map_err(|source| self.fail("rewind", source))?;
        let size =
            copy(&mut &self.file, &mut digester).map_err(|source| self.fail("read", source))?;
        Ok((digester, size))
    }

    /// Drops all bytes.
    ///
    /// # Errors
    /// The file cannot be cut.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file
            .set_len(0)
            .map_err(|source| self.fail("empty", source))?;
        let seek = self.file.seek(SeekFrom::Start(0));
        seek.map(|_| ())
            .map_err(|source| self.fail("rewind", source))
    }

    /// Writes bytes at the end.
    ///
    /// # Errors
    /// The disk is full, or the like.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all(bytes)
            .map_err(|source| self.fail("write", source))
    }

    /// Brings the file to the disk, read-only.
    pub(super) fn seal(&self) -> Result<(), StoreError> {
        let readonly = Permissions::from_mode(0o444);
        self.file
            .set_permissions(readonly)
            .map_err(|source| self.fail("protect", source))?;
        self.file
            .sync_all()
            .map_err(|source| self.fail("sync", source))
    }

    /// Makes the file, sealed before, the object at `target`. A loss of power may still undo that.
    pub(super) fn publish(self, target: &Path) -> Result<Published, StoreError> {
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|source| self.fail("publish", source))?;
        fs::rename(&self.path, target).map_err(|source| self.fail("publish", source))?;
        Ok(Published {
            folder: folder.to_owned(),
            _file: self.file,
        })
    }

    /// Puts the file at `target` without waiting for the disk: for what is checked when it is read
    /// and can be made anew, such as after a loss of power.
    pub(super) fn place(self, target: &Path) -> Result<(), StoreError> {
        let readonly = self.file.set_permissions(Permissions::from_mode(0o444));
        let placed = readonly.and_then(|()| fs::rename(&self.path, target));
        placed.map_err(|source| {
            let error = self.fail("publish", source);
            self.discard();
            error
        })
    }

    /// Removes the file.
    pub fn discard(self) {
        // What cannot be removed now is removed when the store is opened next.
        drop(fs::remove_file(&self.path));
    }

    fn try_lock(&self) -> Result<bool, StoreError> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(source)) => Err(self.fail("lock", source)),
        }
    }

    fn is_in_place(&self) -> bool {
        let here = self
            .file
            .metadata()
            .map(|metadata| (metadata.dev(), metadata.ino()));
        let there = fs::metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()));
        matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }

    fn fail(&self, act: &'static str, source: io::Error) -> StoreError {
        StoreError::File {
            act,
            path: self.path.clone(),
            source,
        }
    }
}

/// Removes files that no living process has locked. Best effort: a file that stays does no harm.
pub(super) fn remove_abandoned(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(file) = File::open(&path) else {
            continue;
        };
        if file.try_lock().is_ok() {
            // Folders are those of a collector that was killed.
            let is_folder = path.is_dir();
            drop(match is_folder {
                true => fs::remove_dir_all(path),
                false => fs::remove_file(path),
            });
        }
        // Locked until here: who has just made the file and locks it now would lose it otherwise.
        drop(file);
    }
}
