//! A hidden work folder beside the output, gone when the work fails or ends.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder `.<name>.work-<pid>` inside the output folder: on the same file system as the result,
/// so that the last step is a rename.
#[derive(Debug)]
pub struct WorkFolder {
    path: PathBuf,
}

impl WorkFolder {
    /// Makes it, and removes those of bakers that are no longer alive.
    ///
    /// # Errors
    /// The output folder can't be made or written to.
    pub fn new(beside: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(beside)?;
        remove_leftovers(beside);
        let path = beside.join(format!(".{name}.work-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next baker tries again.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Writes a small file so that its name holds either the old bytes or the new ones.
///
/// # Errors
/// The folder cannot be written to or is full; the old file is untouched then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn remove_leftovers(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.rsplit_once(".work-"))
            .map(|(_, pid)| pid);
        let is_number = |pid: &str| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
        let dead = |pid: &str| !Path::new("/proc").join(pid).exists();
        if pid.is_some_and(|pid| is_number(pid) && dead(pid)) && name.as_encoded_bytes()[0] == b'.'
        {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_the_dead_go_and_the_living_stay() {
        let folder = tempfile::tempdir().unwrap();
        let dead = folder.path().join(".x.work-999999999");
        fs::create_dir(&dead).unwrap();
        let other = folder.path().join(".x.work-note");
        fs::create_dir(&other).unwrap();
        let work = WorkFolder::new(folder.path(), "x").unwrap();
        assert!(!dead.exists() && other.exists() && work.path().exists());
        let path = work.path().to_owned();
        drop(work);
        assert!(!path.exists());
    }
}
