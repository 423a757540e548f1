//! One writer at a time in a folder.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// An advisory lock on a folder itself, as flock(2) gives it; released when dropped, or when the
/// process dies. It holds between the processes of one machine, and over NFS since Linux 2.6.12.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Held, never read.
    _folder: File,
}

impl Lock {
    /// Makes the folder when there is none and waits until nobody else holds it. Whoever does,
    /// does so for a rename or two.
    pub(crate) fn take(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let folder = File::open(folder)?;
        folder.lock()?;
        Ok(Self { _folder: folder })
    }

    /// The same without waiting; none when somebody else holds it.
    pub(crate) fn try_take(folder: &Path) -> io::Result<Option<Self>> {
        std::fs::create_dir_all(folder)?;
        let folder = File::open(folder)?;
        match folder.try_lock() {
            Ok(()) => Ok(Some(Self { _folder: folder })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}
