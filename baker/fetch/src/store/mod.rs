//! The store of inputs: bytes in files named by their SHA-256.
//!
//! ```text
//! objects/ab/abcd...   finished objects, read-only
//! partial/abcd...      downloads under way or cut off, resumed by whoever comes next
//! tmp/                 other writes under way, removed by the next who opens the store
//! stages/              results of stages by the key of their inputs (kept by the caller)
//! sessions/            a locked file for every open store
//! sweep                locked by whoever marks a use, or removes
//! ```
//!
//! An object appears under its name only by a rename after its bytes are on the disk, so a reader
//! never sees half of one, however the writer ended. Files being written are locked (flock); the
//! lock ends with the process. Several bakers can use one store at once, and the store can be tidied
//! up meanwhile: the time of a file or of an entry of `stages` says when it was used last.

mod collect;
mod roots;
mod scratch;
mod session;
mod survey;

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use baker_model::object::ReadSeek;
use baker_model::{Digest, Digester, Interrupt, Lock, ObjectError, Objects};

use session::Session;

pub use collect::{Act, Collected, Policy};
pub use roots::{Roots, RootsError};
pub use scratch::Scratch;
pub use survey::{Entry, Kind};

/// Bytes copied or hashed at a time.
const BUFFER: usize = 256 * 1024;

/// A content-addressed folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    session: Option<Arc<Session>>,
}

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder of the store cannot be used.
    #[error("cannot {act} {} in the store", path.display())]
    File {
        /// What was being done, such as `create`.
        act: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file outside the store cannot be read.
    #[error("cannot read {}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nothing is stored under this digest.
    #[error("object {digest} is not in the store; run `baker fetch`")]
    Missing {
        /// The digest.
        digest: Digest,
    },
    /// The stored bytes are not those that the digest names.
    #[error("object {digest} in the store is altered: expected {expected_size} bytes, found \
             {found_size} bytes with SHA-256 {found}; remove {} and run `baker fetch`", path.display())]
    Altered {
        /// The digest expected.
        digest: Digest,
        /// The size expected.
        expected_size: u64,
        /// The size found.
        found_size: u64,
        /// The digest found.
        found: Digest,
        /// Where it lies.
        path: PathBuf,
    },
    /// A person asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Whether an object is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// With the right size.
    Present,
    /// Not at all.
    Missing,
    /// With another size, so it cannot be right.
    WrongSize {
        /// The size found.
        found: u64,
    },
}

impl Store {
    /// Opens the store in `root`, making it when it is not there, and removes what killed
    /// writers left in `tmp`.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        for folder in ["objects", "partial", "tmp", "stages"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(|source| StoreError::File {
                act: "create",
                path,
                source,
            })?;
        }
        scratch::remove_abandoned(&root.join("tmp"));
        scratch::remove_abandoned(&root.join("sessions"));
        Ok(Self {
            root: root.to_owned(),
            session: Session::begin(root).map(Arc::new),
        })
    }

    /// The folder of the store.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder for results of stages.
    #[must_use]
    pub fn stages(&self) -> PathBuf {
        self.root.join("stages")
    }

    /// The folder for files that are being written. One that is not locked (flock) is removed by the
    /// next who opens the store.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Keeps the result of a stage at `path` below [`Store::stages`], in one step. It has to be
    /// checked when it is read: this does not wait for the disk.
    ///
    /// # Errors
    /// Writing fails; what was there stays.
    pub(crate) fn keep_result(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let mut scratch = Scratch::temporary(&self.root.join("tmp"))?;
        if let Err(error) = scratch.append(bytes) {
            scratch.discard();
            return Err(error);
        }
        self.replace(scratch, path)
    }

    /// A new file for a result of a stage, or an object, that comes from elsewhere.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn incoming(&self) -> Result<Scratch, StoreError> {
        Scratch::temporary(&self.scratch())
    }

    /// Makes a file that came from elsewhere the result `name` below [`Store::stages`], in one step and
    /// in place of an earlier one. It is not collected while this store is open. It has to be checked
    /// when it is read: this does not wait for the disk.
    ///
    /// # Errors
    /// Writing fails; what was there stays.
    pub fn take_result(&self, scratch: Scratch, name: &str) -> Result<(), StoreError> {
        self.replace(scratch, &self.stages().join(name))
    }

    /// Puts a result at `path`, in place of an earlier one.
    fn replace(&self, scratch: Scratch, path: &Path) -> Result<(), StoreError> {
        let _alone = self.alone()?;
        scratch.date()?;
        scratch.place(path)
    }

    /// Makes a file that came from elsewhere the object of this digest, **which the caller has compared
    /// with its bytes**.
    ///
    /// # Errors
    /// Writing fails.
    pub fn take_object(&self, scratch: Scratch, digest: &Digest) -> Result<(), StoreError> {
        self.publish(scratch, digest)
    }

    /// Marks a file or folder of the store as used, and so as not to be collected while this store is
    /// open. False when it is not there.
    pub fn note_use(&self, path: &Path) -> bool {
        let _in_step = session::in_step(&self.root);
        let Ok(file) = File::open(path) else {
            return false;
        };
        if let Some(session) = &self.session {
            session.mark(&file);
        }
        true
    }

    /// Marks every input that a lock names as used, so that none is collected while this store is
    /// open. What is not there is passed over: whoever reads it will miss it.
    pub fn claim(&self, lock: &Lock) {
        let packages = lock.all_packages().map(|package| package.sha256);
        let files = lock.files.iter().map(|file| file.sha256);
        for digest in packages.chain(files) {
            self.note_use(&self.path(&digest));
        }
    }

    /// Makes a file that was written the object of this digest.
    pub(crate) fn publish(&self, scratch: Scratch, digest: &Digest) -> Result<(), StoreError> {
        scratch.seal()?;
        let target = self.path(digest);
        let alone = self.alone()?;
        // The time of sealing may be older than a use of an object that this one replaces.
        scratch.date()?;
        let published = scratch.publish(&target);
        drop(alone);
        published?.sync()
    }

    /// Keeps collectors and markers out while a file takes the place of another. A collector must not
    /// take the new one for the old one, and no use may be forgotten: who marked the old one began
    /// before the new one is dated, who comes later marks the new one.
    fn alone(&self) -> Result<File, StoreError> {
        session::alone(&self.root).map_err(|source| StoreError::File {
            act: "lock",
            path: self.root.join("sweep"),
            source,
        })
    }

    /// Where the object lies, or would.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join("objects").join(&name[..2]).join(name)
    }

    /// Looks whether an object of this size is there, without reading it. One that is stays as long
    /// as this store is open.
    ///
    /// # Errors
    /// The folder cannot be looked into.
    pub fn presence(&self, digest: &Digest, size: u64) -> Result<Presence, StoreError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == size => {
                Ok(match self.keep_present(&path, &metadata) {
                    true => Presence::Present,
                    false => Presence::Missing,
                })
            }
            Ok(metadata) => Ok(Presence::WrongSize {
                found: metadata.len(),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Presence::Missing),
            Err(source) => Err(StoreError::File {
                act: "look at",
                path,
                source,
            }),
        }
    }

    /// Sees to it that a file that was just found is not collected; false when it was, just now.
    fn keep_present(&self, path: &Path, metadata: &fs::Metadata) -> bool {
        let is_marked = |session: &Arc<Session>| {
            let used = metadata.modified();
            used.is_ok_and(|used| used >= session.start())
        };
        self.session.as_ref().is_none_or(is_marked) || self.note_use(path)
    }

    /// Stores all bytes of `reader`; gives their digest and number.
    ///
    /// # Errors
    /// Reading or writing fails; the store is unchanged then.
    pub fn put(&self, reader: &mut dyn Read) -> Result<(Digest, u64), StoreError> {
        let mut scratch = Scratch::temporary(&self.root.join("tmp"))?;
        let mut digester = Digester::new();
        let mut buffer = vec![0; BUFFER];
        let mut size = 0;
        loop {
            let length = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let path = scratch.path().to_owned();
                    scratch.discard();
                    return Err(StoreError::File {
                        act: "fill",
                        path,
                        source,
                    });
                }
            };
            digester.update(&buffer[..length]);
            scratch.append(&buffer[..length])?;
            size += length as u64;
        }
        let digest = digester.finish();
        self.publish(scratch, &digest)?;
        Ok((digest, size))
    }

    /// Stores these bytes.
    ///
    /// # Errors
    /// Writing fails.
    pub fn put_bytes(&self, mut bytes: &[u8]) -> Result<Digest, StoreError> {
        self.put(&mut bytes).map(|(digest, _)| digest)
    }

    /// Stores a copy of a file outside the store.
    ///
    /// # Errors
    /// The file cannot be read, or writing fails.
    pub fn put_file(&self, path: &Path) -> Result<(Digest, u64), StoreError> {
        let open = File::open(path).map_err(|source| StoreError::Input {
            path: path.to_owned(),
            source,
        });
        self.put(&mut open?)
    }

    /// Opens an object after reading it once and comparing size and digest.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is not what the digest names.
    pub fn open_verified(&self, digest: &Digest, size: u64) -> Result<File, StoreError> {
        let path = self.path(digest);
        let fail = |act, source| StoreError::File {
            act,
            path: path.clone(),
            source,
        };
        let mut file = File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::Missing { digest: *digest },
            _ => fail("open", source),
        })?;
        if let Some(session) = &self.session {
            session.mark(&file);
        }
        let (found, found_size) = hash(&mut file).map_err(|source| fail("read", source))?;
        if found != *digest || found_size != size {
            return Err(StoreError::Altered {
                digest: *digest,
                expected_size: size,
                found_size,
                found,
                path,
            });
        }
        io::Seek::rewind(&mut file).map_err(|source| fail("rewind", source))?;
        Ok(file)
    }

    /// Removes an object; nothing happens when it is not there.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| StoreError::File {
                act: "remove",
                path,
                source,
            }),
        }
    }

    /// Opens the resumable download of an object, waiting while another process writes it.
    ///
    /// # Errors
    /// The file cannot be made, or a person asked to stop while waiting.
    pub fn partial(&self, digest: &Digest, interrupt: &Interrupt) -> Result<Scratch, StoreError> {
        Scratch::shared(
            self.root.join("partial").join(digest.to_string()),
            interrupt,
        )
    }
}

impl Objects for Store {
    fn open(&self, digest: &Digest) -> Result<Box<dyn ReadSeek>, ObjectError> {
        match File::open(self.path(digest)) {
            Ok(file) => {
                if let Some(session) = &self.session {
                    session.mark(&file);
                }
                Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ObjectError::Missing { digest: *digest })
            }
            Err(source) => Err(ObjectError::Read {
                digest: *digest,
                source,
            }),
        }
    }
}

/// Digest and number of the bytes of a reader.
pub(crate) fn hash(reader: &mut dyn Read) -> io::Result<(Digest, u64)> {
    let mut digester = Digester::new();
    let size = copy(reader, &mut digester)?;
    Ok((digester.finish(), size))
}

fn copy(reader: &mut dyn Read, writer: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(length) => {
                writer.write_all(&buffer[..length])?;
                size += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, store)
    }

    #[test]
    fn what_is_put_is_found_by_digest() {
        let (_folder, store) = store();
        let bytes = vec![7; 700_000];
        let digest = store.put_bytes(&bytes).unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(store.presence(&digest, 700_000).unwrap(), Presence::Present);
        assert_eq!(
            store.presence(&digest, 1).unwrap(),
            Presence::WrongSize { found: 700_000 }
        );
        let mut read = Vec::new();
        store.open(&digest).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        let other = Digest::of(b"other");
        assert!(matches!(
            store.open(&other),
            Err(ObjectError::Missing { .. })
        ));
        assert!(matches!(
            store.open_verified(&other, 1),
            Err(StoreError::Missing { .. })
        ));
        assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn what_comes_from_elsewhere_is_placed_whole_and_in_use() {
        use std::os::unix::fs::PermissionsExt;
        use std::time::{Duration, SystemTime};
        let (_folder, store) = store();
        let mut scratch = store.incoming().unwrap();
        scratch.append(b"result").unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = File::open(scratch.path()).unwrap();
        file.set_modified(long_ago).unwrap();
        store.take_result(scratch, "packed-1").unwrap();
        let path = store.stages().join("packed-1");
        assert_eq!(fs::read(&path).unwrap(), b"result");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{mode:o}: others could have written it");
        let roots = Roots::default();
        let policy = Policy {
            roots: &roots,
            now: SystemTime::now(),
            keep_newer_than: None,
            max_size: Some(0),
            act: Act::Remove,
        };
        let beside = Store::open(store.root()).unwrap();
        let collected = beside.collect(&policy, &Interrupt::new()).unwrap();
        assert_eq!((collected.removed.len(), collected.in_use), (0, 1));
        drop(store);
        let collected = beside.collect(&policy, &Interrupt::new()).unwrap();
        assert_eq!(collected.removed.len(), 1);
    }

    #[test]
    fn altered_objects_are_noticed() {
        let (_folder, store) = store();
        let digest = store.put_bytes(b"abc").unwrap();
        fs::remove_file(store.path(&digest)).unwrap();
        fs::write(store.path(&digest), b"abd").unwrap();
        let error = store.open_verified(&digest, 3).unwrap_err();
        assert!(matches!(error, StoreError::Altered { found, .. } if found == Digest::of(b"abd")));
    }

    #[test]
    fn a_failing_reader_leaves_nothing() {
        struct Broken(u8);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 2 {
                    Err(io::Error::other("torn"))
                } else {
                    Ok(buffer.len().min(9))
                }
            }
        }
        let (_folder, store) = store();
        assert!(store.put(&mut Broken(0)).is_err());
        assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
        assert_eq!(
            fs::read_dir(store.root().join("objects")).unwrap().count(),
            0
        );
    }

    #[test]
    fn opening_removes_abandoned_files_but_no_others() {
        let (_folder, store) = store();
        let tmp = store.root().join("tmp");
        let busy = Scratch::temporary(&tmp).unwrap();
        fs::write(tmp.join("left"), b"x").unwrap();
        Store::open(store.root()).unwrap();
        assert!(busy.path().exists(), "a file that is being written stays");
        assert!(!tmp.join("left").exists(), "a file that nobody writes goes");
    }
}
