//! A plain folder of releases, which any web server can serve.
//!
//! ```text
//! releases/
//!   minimal-1.0.0/                       a release, see the crate's documentation
//!   .minimal-1.1.0.partial-4711/         one on its way: renamed when it is whole
//!   catalogue/minimal/1.0.0.statements   what was said about a release, one envelope per line
//!   catalogue/minimal/prod.channel       where a channel pointed, one envelope per line
//! ```
//!
//! A release appears by renameat2(2) with RENAME_NOREPLACE; lists and channels change by a rename
//! under a lock on their folder. Whoever is killed leaves at most a hidden folder, which the next
//! run removes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use baker_model::{Digest, Manifest};

use super::partial::{self, Partial};
use super::{
    ChannelId, LOG_LIMIT, Lock, Log, Piece, Record, ReleaseId, Target, TargetError, Upload,
    transfer,
};
use crate::atomic::{self, Existing};
use crate::folder::{BUFFER, Watch};
use crate::names::{MANIFEST, SIGNATURES, SUMS, release_folder_name};
use crate::statements;

/// The largest manifest or other signed list that is read, bytes.
const LIST_LIMIT: u64 = 64 << 20;

/// What lies beside the releases: statements and channels.
const CATALOGUE: &str = "catalogue";
/// End of the name of a list of statements.
const STATEMENTS: &str = ".statements";
/// End of the name of a channel.
const CHANNEL: &str = ".channel";

/// What the files are that a release is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Staged for this; they may become the release's own by a second name.
    Staged,
    /// Somebody else's; they are copied.
    Kept,
}

/// A folder of releases.
#[derive(Debug)]
pub struct FolderTarget {
    root: PathBuf,
    source: Source,
}

impl FolderTarget {
    /// The folder `root`; made when something is put there.
    #[must_use]
    pub fn new(root: PathBuf, source: Source) -> Self {
        Self { root, source }
    }

    fn release(&self, id: &ReleaseId) -> PathBuf {
        self.root.join(id.folder())
    }

    fn catalogue(&self, name: &str) -> PathBuf {
        self.root.join(CATALOGUE).join(name)
    }

    fn statements_file(&self, id: &ReleaseId) -> PathBuf {
        let file = format!("{}{STATEMENTS}", id.version());
        self.catalogue(id.name()).join(file)
    }

    fn channel_file(&self, id: &ChannelId) -> PathBuf {
        let file = format!("{}{CHANNEL}", id.channel());
        self.catalogue(id.name()).join(file)
    }

    /// Adds a line to a file when its bytes are still `seen`; the folder's lock is held.
    fn add_line(path: &Path, seen: &[u8], line: &[u8]) -> Result<(), TargetError> {
        let mut bytes = seen.to_vec();
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        atomic::write(path, &bytes, 0o644, Existing::Replace)
            .map_err(|error| TargetError::of_write(path, bytes.len() as u64, error))
    }

    fn lock(&self, name: &str) -> Result<Lock, TargetError> {
        let folder = self.catalogue(name);
        Lock::take(&folder).map_err(|error| TargetError::of_write(&folder, 0, error))
    }
}

impl Target for FolderTarget {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn begin<'a>(
        &'a self,
        record: &Record,
        watch: Watch<'_>,
    ) -> Result<Box<dyn Upload + 'a>, TargetError> {
        let failed = |source| TargetError::of_write(&self.root, record.bytes(), source);
        std::fs::create_dir_all(&self.root).map_err(failed)?;
        let target = self.release(&record.id);
        if target.symlink_metadata().is_ok() {
            let place = target.display().to_string();
            return Err(TargetError::AlreadyThere { place });
        }
        partial::remove_leftovers(&self.root, watch);
        let needed = record.bytes();
        let partial = Partial::create(&self.root, &record.id.folder(), needed)?;
        Ok(Box::new(FolderUpload {
            folder: self,
            partial,
            target,
            needed,
        }))
    }

    fn record(&self, id: &ReleaseId) -> Result<Option<Record>, TargetError> {
        let folder = self.release(id);
        match read_all(&folder.join(MANIFEST), LIST_LIMIT)? {
            Some(bytes) => {
                let (record, _) = record_of(&folder, &bytes)?;
                Ok(Some(record).filter(|record| record.id == *id))
            }
            None => Ok(None),
        }
    }

    fn releases(&self, name: &str) -> Result<Vec<ReleaseId>, TargetError> {
        let mut found = Vec::new();
        for entry in names_in(&self.root)? {
            // `a-b-1.0.0` may be a version of `a` or of `a-b`: its manifest knows.
            let version = entry
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('-'));
            let id = version.and_then(|version| ReleaseId::new(name, version));
            if let Some(id) = id
                && self.record(&id)?.is_some()
            {
                found.push(id);
            }
        }
        found.sort();
        Ok(found)
    }

    fn size_of(&self, record: &Record, piece: &Piece) -> Result<Option<u64>, TargetError> {
        let path = self.release(&record.id).join(&piece.name);
        match path.symlink_metadata() {
            Ok(metadata) => Ok(Some(metadata.len()).filter(|_| metadata.is_file())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TargetError::of_read(&path, error)),
        }
    }

    fn read(
        &self,
        record: &Record,
        piece: &Piece,
        from: u64,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        read_file(&self.release(&record.id), piece, from, to, watch)
    }

    fn statements(&self, record: &Record) -> Result<Vec<Vec<u8>>, TargetError> {
        let bytes = read_all(&self.statements_file(&record.id), LOG_LIMIT)?;
        let bytes = bytes.unwrap_or_default();
        let lines = bytes.split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.is_empty());
        Ok(lines.map(<[u8]>::to_vec).collect())
    }

    fn add_statement(&self, record: &Record, envelope: &[u8]) -> Result<(), TargetError> {
        let _lock = self.lock(record.id.name())?;
        if self.statements(record)?.iter().any(|line| line == envelope) {
            return Ok(());
        }
        let path = self.statements_file(&record.id);
        let seen = read_all(&path, LOG_LIMIT)?.unwrap_or_default();
        Self::add_line(&path, &seen, envelope)
    }

    fn channels(&self, name: &str) -> Result<Vec<String>, TargetError> {
        let names = names_in(&self.catalogue(name))?;
        let channel = |file: &String| file.strip_suffix(CHANNEL).map(str::to_owned);
        Ok(names.iter().filter_map(channel).collect())
    }

    fn channel(&self, id: &ChannelId) -> Result<Log, TargetError> {
        let found = read_all(&self.channel_file(id), LOG_LIMIT)?;
        let state = found.as_ref().map(|bytes| Digest::of(bytes).to_string());
        let bytes = found.unwrap_or_default();
        Ok(Log { bytes, state })
    }

    fn move_channel(
        &self,
        id: &ChannelId,
        seen: &Log,
        line: &[u8],
        _: &Record,
    ) -> Result<(), TargetError> {
        let _lock = self.lock(id.name())?;
        if self.channel(id)? != *seen {
            let channel = id.to_string();
            return Err(TargetError::Moved { channel });
        }
        Self::add_line(&self.channel_file(id), &seen.bytes, line)
    }
}

/// A release that gathers in a hidden folder.
struct FolderUpload<'a> {
    folder: &'a FolderTarget,
    partial: Partial,
    target: PathBuf,
    needed: u64,
}

impl Upload for FolderUpload<'_> {
    fn put(&mut self, piece: &Piece, from: &Path, watch: Watch<'_>) -> Result<(), TargetError> {
        let to = self.partial.path().join(&piece.name);
        if let Some(parent) = to.parent() {
            let made = self.partial.create_folder(parent);
            made.map_err(|error| TargetError::of_write(parent, self.needed, error))?;
        }
        let brought = transfer::bring(from, &to, self.folder.source, watch);
        brought.map_err(|error| match error {
            transfer::TransferError::Read(source) => TargetError::of_read(from, source),
            transfer::TransferError::Write(source) => {
                TargetError::of_write(&to, self.needed, source)
            }
            transfer::TransferError::Interrupted => TargetError::Interrupted {
                place: self.target.display().to_string(),
            },
        })
    }

    fn read_back(
        &mut self,
        piece: &Piece,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        read_file(self.partial.path(), piece, 0, to, watch)
    }

    fn finish(self: Box<Self>) -> Result<(), TargetError> {
        let synced = self.partial.sync();
        synced.map_err(|e| TargetError::of_write(self.partial.path(), self.needed, e))?;
        self.partial.rename(&self.target, self.needed)?;
        let root = &self.folder.root;
        atomic::sync_folder(root).map_err(|e| TargetError::of_write(root, self.needed, e))
    }
}

/// The record of a release folder whose manifest has these bytes, and the manifest.
pub(crate) fn record_of(folder: &Path, bytes: &[u8]) -> Result<(Record, Manifest), TargetError> {
    let what = folder.display().to_string();
    let manifest = Manifest::parse(bytes).map_err(|error| TargetError::Malformed {
        what: what.clone(),
        cause: crate::report::chain(&error),
    })?;
    let mut lists = Vec::new();
    let signed = [MANIFEST, SIGNATURES, SUMS].into_iter();
    for name in signed.chain(statements::files(&manifest)) {
        if let Some(bytes) = read_all(&folder.join(name), LIST_LIMIT)? {
            lists.push(Piece {
                name: name.to_owned(),
                size: bytes.len() as u64,
                sha256: Digest::of(&bytes),
            });
        }
    }
    let record = Record::of(&manifest, lists, &what)?;
    debug_assert_eq!(record.id.folder(), release_folder_name(&manifest));
    Ok((record, manifest))
}

/// All bytes of a small file; none when it is not there.
pub(crate) fn read_all(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, TargetError> {
    let bytes = atomic::open_regular(path).and_then(|file| atomic::read_limited(&file, limit));
    match bytes {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TargetError::of_read(path, error)),
    }
}

/// The names in a folder, sorted; none when there is no folder. Names that are no text, and hidden
/// ones, are not ours.
fn names_in(folder: &Path) -> Result<Vec<String>, TargetError> {
    let failed = |error| TargetError::of_read(folder, error);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().into_string();
        names.extend(name.ok().filter(|name| !name.starts_with('.')));
    }
    names.sort();
    Ok(names)
}

fn read_file(
    folder: &Path,
    piece: &Piece,
    from: u64,
    to: &mut dyn Write,
    watch: Watch<'_>,
) -> Result<(), TargetError> {
    let path = folder.join(&piece.name);
    let failed = |error| TargetError::of_read(&path, error);
    let mut file: File = atomic::open_regular(&path).map_err(failed)?;
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut rest = file.take(piece.size.saturating_sub(from));
    let mut buffer = vec![0; BUFFER];
    loop {
        watch.go_on().map_err(|_| TargetError::Interrupted {
            place: path.display().to_string(),
        })?;
        let count = match rest.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        let written = to.write_all(&buffer[..count]);
        written.map_err(|e| TargetError::of_write(Path::new(&piece.name), piece.size, e))?;
    }
}
