//! A folder, perhaps one that a file server gives to several machines.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{RECORD_LIMIT, Shelf, Slot};
use crate::atomic::{self, Existing};
use crate::folder::{BUFFER, Watch};
use crate::target::{Piece, TargetError, read_all};

/// A folder of entries, laid out as [`super`] says.
#[derive(Debug)]
pub struct FolderShelf {
    root: PathBuf,
}

impl FolderShelf {
    /// The folder `root`; made when something is put there.
    #[must_use]
    pub const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn record_path(&self, slot: &Slot) -> PathBuf {
        self.root.join("ac").join(slot.address().to_string())
    }

    fn blob_path(&self, blob: &Piece) -> PathBuf {
        self.root.join("cas").join(blob.sha256.to_string())
    }
}

impl Shelf for FolderShelf {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn record(&self, slot: &Slot) -> Result<Option<Vec<u8>>, TargetError> {
        match read_all(&self.record_path(slot), RECORD_LIMIT) {
            Err(TargetError::Read { source, .. })
                if source.kind() == io::ErrorKind::FileTooLarge =>
            {
                Err(TargetError::Malformed {
                    what: format!("{slot} in {}", self.place()),
                    cause: source.to_string(),
                })
            }
            other => other,
        }
    }

    fn put_record(&self, slot: &Slot, record: &[u8], _: &[Piece]) -> Result<(), TargetError> {
        let path = self.record_path(slot);
        let written =
            parent(&path).and_then(|()| atomic::write(&path, record, 0o644, Existing::Replace));
        written.map_err(|error| TargetError::of_write(&path, record.len() as u64, error))
    }

    fn size_of(&self, blob: &Piece) -> Result<Option<u64>, TargetError> {
        let path = self.blob_path(blob);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len()).filter(|_| metadata.is_file())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TargetError::of_read(&path, error)),
        }
    }

    fn read(
        &self,
        blob: &Piece,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<bool, TargetError> {
        let path = self.blob_path(blob);
        let file = match atomic::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(TargetError::of_read(&path, error)),
        };
        copy(&mut file.take(blob.size), to, blob, &path, watch)?;
        Ok(true)
    }

    fn put(&self, blob: &Piece, from: &Path, watch: Watch<'_>) -> Result<(), TargetError> {
        let path = self.blob_path(blob);
        let failed = |error| TargetError::of_write(&path, blob.size, error);
        parent(&path).map_err(failed)?;
        let folder = path.parent().unwrap_or(&self.root);
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        let source = atomic::open_regular(from);
        let mut source = source.map_err(|error| TargetError::of_read(from, error))?;
        copy(&mut source, &mut file, blob, from, watch)?;
        let readable = fs::Permissions::from_mode(0o644);
        let settled = file.as_file().set_permissions(readable);
        settled
            .and_then(|()| file.as_file().sync_all())
            .map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

fn parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    blob: &Piece,
    path: &Path,
    watch: Watch<'_>,
) -> Result<(), TargetError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        watch.go_on().map_err(|_| TargetError::Interrupted {
            place: blob.name.clone(),
        })?;
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(TargetError::of_read(path, error)),
        };
        to.write_all(&buffer[..count])
            .map_err(|error| TargetError::of_write(Path::new(&blob.name), blob.size, error))?;
    }
}
