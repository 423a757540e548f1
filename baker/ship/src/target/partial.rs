//! The hidden folder in which a release is gathered.
//!
//! Named `.<release>.partial-<pid>` and held by an advisory lock on the folder itself. A leftover
//! is removed when its process is gone *and* its lock is free: the pid alone would lie across pid
//! namespaces, the lock alone would have a gap between making the folder and locking it.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use baker_model::Event;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::TargetError;
use crate::atomic;
use crate::folder::Watch;

/// What stands between the name of the release and the process id.
const MARK: &str = ".partial-";

/// Held while a folder is made and locked, and while leftovers are looked for: two threads of one
/// process have one id, and would take the other's folder in that gap for a leftover.
static MAKING: Mutex<()> = Mutex::new(());

/// A release on its way. **Dropped without [`Partial::rename`], it is removed with all in it.**
pub(super) struct Partial {
    path: PathBuf,
    folders: Mutex<BTreeSet<PathBuf>>,
    /// Held, never read: it keeps other bakers from taking the folder for a leftover.
    _lock: File,
    is_renamed: bool,
}

impl Partial {
    pub(super) fn create(to: &Path, release: &str, needed: u64) -> Result<Self, TargetError> {
        let path = to.join(format!(".{release}{MARK}{}", std::process::id()));
        let failed = |source| TargetError::of_write(&path, needed, source);
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(TargetError::Busy { partial: path });
            }
            made => made.map_err(failed)?,
        }
        let lock = File::open(&path).map_err(failed)?;
        lock.try_lock().map_err(|_| TargetError::Busy {
            partial: path.clone(),
        })?;
        // Whatever the umask of the person: a release is for everybody to read.
        lock.set_permissions(Permissions::from_mode(0o755))
            .map_err(failed)?;
        let folders = Mutex::new(BTreeSet::from([path.clone()]));
        Ok(Self {
            path,
            folders,
            _lock: lock,
            is_renamed: false,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder inside, and those above it.
    pub(super) fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = folder
            .ancestors()
            .take_while(|at| at.starts_with(&self.path));
        let missing: Vec<_> = inside.filter(|at| !folders.contains(*at)).collect();
        for folder in missing.into_iter().rev() {
            std::fs::create_dir(folder)?;
            std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
            folders.insert(folder.to_owned());
        }
        Ok(())
    }

    /// Makes all names inside survive a power cut; the files were synced one by one.
    pub(super) fn sync(&self) -> io::Result<()> {
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        folders
            .iter()
            .rev()
            .try_for_each(|folder| atomic::sync_folder(folder))
    }

    /// Gives the release its name.
    pub(super) fn rename(mut self, target: &Path, needed: u64) -> Result<(), TargetError> {
        match rename_no_replace(&self.path, target) {
            Ok(()) => {
                self.is_renamed = true;
                Ok(())
            }
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {
                Err(TargetError::AlreadyThere {
                    place: target.display().to_string(),
                })
            }
            Err(errno) => Err(TargetError::of_write(target, needed, errno.into())),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_renamed {
            // Best effort: what stays is hidden, and the next run removes it.
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

/// Renames a folder to a name that must be free. Some file systems (NFS, older FUSE) do not know
/// RENAME_NOREPLACE; plain rename(2) of a folder fails there too, unless the target is an empty
/// folder, which holds nothing to lose.
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> Result<(), Errno> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => std::fs::rename(from, to)
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
        result => result,
    }
}

/// Removes what killed runs have left in `to`; what cannot be removed is told and left.
pub(super) fn remove_leftovers(to: &Path, watch: Watch<'_>) {
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let entries = std::fs::read_dir(to).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let owner = entry.file_name().to_str().and_then(owner_of);
        if !owner.is_some_and(|owner| is_gone(owner, &entry.path())) {
            continue;
        }
        let path = entry.path();
        let (stage, shown) = (watch.stage, path.display());
        watch.listener.event(match std::fs::remove_dir_all(&path) {
            Ok(()) => Event::Note {
                stage,
                text: format!("removed {shown}, left by a run that was killed"),
            },
            Err(error) => Event::Warning {
                stage,
                text: format!("cannot remove the leftover {shown}: {error}"),
            },
        });
    }
}

/// The process id in the name of a partial folder.
fn owner_of(name: &str) -> Option<u32> {
    let (release, pid) = name.strip_prefix('.')?.rsplit_once(MARK)?;
    (!release.is_empty()).then_some(())?;
    pid.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| pid.parse().ok())?
}

/// True when the process is gone and nobody holds the lock. A folder with our own id is a
/// leftover too: in containers the same small ids come back in every run.
fn is_gone(owner: u32, folder: &Path) -> bool {
    let lives = i32::try_from(owner)
        .is_ok_and(|pid| pid > 0 && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH));
    let is_own = owner == std::process::id();
    (is_own || !lives) && File::open(folder).is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_leftovers() {
        assert_eq!(owner_of(".minimal-1.0.0.partial-4711"), Some(4711));
        for name in [
            "minimal-1.0.0",
            "minimal.partial-1",
            "..partial-",
            ".partial-7",
            ".x.partial-",
            ".x.partial-+7",
            ".x.partial-99999999999",
        ] {
            assert_eq!(owner_of(name), None, "{name}");
        }
    }
}
