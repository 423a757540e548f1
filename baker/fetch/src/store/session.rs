//! Who works on the store, so that nothing is collected that somebody uses.
//!
//! Every open store has a locked file in `sessions`; its time says since when. What a baker finds
//! in the store, it marks with the time of use, so everything that was used since the oldest
//! living session began is in use. Marking and removing are kept apart by the lock of `sweep`:
//! markers share it for a moment, a collector has it alone while it looks at a mark for the last
//! time and removes what it stands on.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::scratch::Scratch;

/// One open store. Its file goes when it is dropped; that of a killed process when somebody looks.
#[derive(Debug)]
pub(super) struct Session {
    /// Locked as long as it is open.
    file: Scratch,
    start: SystemTime,
}

impl Session {
    /// Begins; none in a store that cannot be written to, where nobody can collect either.
    pub(super) fn begin(root: &Path) -> Option<Self> {
        let folder = root.join("sessions");
        fs::create_dir_all(&folder).ok()?;
        let file = Scratch::temporary(&folder).ok()?;
        // Dated once it is locked: whoever sees a use that is younger sees the session, too.
        match file.date() {
            Ok(start) => Some(Self { file, start }),
            Err(_) => {
                file.discard();
                None
            }
        }
    }

    /// When it began.
    pub(super) fn start(&self) -> SystemTime {
        self.start
    }

    /// Its file.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Marks an open file of the store as used now, unless it was marked in this session.
    pub(super) fn mark(&self, file: &File) {
        let is_marked = file
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|used| used >= self.start);
        if !is_marked {
            // A clock that was set back must not make a use look older than its session. What
            // belongs to somebody else cannot be marked; that is its owner's to keep.
            drop(file.set_modified(self.start.max(SystemTime::now())));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(fs::remove_file(self.file.path()));
    }
}

/// When the oldest living session began, without the one whose file is `own`.
pub(super) fn oldest(root: &Path, own: Option<&Path>) -> io::Result<Option<SystemTime>> {
    let mut oldest: Option<SystemTime> = None;
    let entries = match fs::read_dir(root.join("sessions")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    for entry in entries {
        let path = entry?.path();
        if own == Some(path.as_path()) {
            continue;
        }
        // One that ends meanwhile needs nothing any more.
        let Ok(file) = File::open(&path) else {
            continue;
        };
        if file.try_lock().is_ok() {
            continue;
        }
        let start = file.metadata()?.modified()?;
        oldest = Some(oldest.map_or(start, |known| known.min(start)));
    }
    Ok(oldest)
}

/// Keeps collectors out as long as it lives; none where there is nothing to lock.
pub(super) fn in_step(root: &Path) -> Option<File> {
    let file = open(root).ok()?;
    file.lock_shared().ok()?;
    Some(file)
}

/// Keeps markers out as long as it lives.
pub(super) fn alone(root: &Path) -> io::Result<File> {
    let file = open(root)?;
    file.lock()?;
    Ok(file)
}

/// A file description of its own: those who share one share its lock.
fn open(root: &Path) -> io::Result<File> {
    let path: PathBuf = root.join("sweep");
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).open(&path)
        }
        other => other,
    }
}
