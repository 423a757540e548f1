//! What must stay in the store: everything that locks below some folders name.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use baker_model::Digest;

/// Digits of a digest in hex.
const DIGITS: usize = 64;

/// Digests that must stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    digests: HashSet<Digest>,
    locks: usize,
}

/// The roots cannot be told, so nothing may be removed.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A folder or a lock cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The folder or the lock.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder without any lock is more likely misspelt than meant.
    #[error("there is no lock in {} or below it", path.display())]
    NoLock {
        /// The folder.
        path: PathBuf,
    },
}

impl Roots {
    /// Reads all locks in these folders and below them: recipes, drafts and releases alike.
    ///
    /// Whatever looks like a digest counts, so that locks of versions to come are roots, too.
    ///
    /// # Errors
    /// A folder or a lock cannot be read, or a folder holds no lock.
    pub fn read(folders: &[PathBuf]) -> Result<Self, RootsError> {
        let mut roots = Self::default();
        for folder in folders {
            let before = roots.locks;
            roots.add(folder)?;
            if roots.locks == before {
                let path = folder.clone();
                return Err(RootsError::NoLock { path });
            }
        }
        Ok(roots)
    }

    /// True when a lock names it.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.digests.contains(digest)
    }

    /// Number of locks that were read.
    #[must_use]
    pub fn locks(&self) -> usize {
        self.locks
    }

    fn add(&mut self, folder: &Path) -> Result<(), RootsError> {
        let mut waiting = vec![folder.to_owned()];
        while let Some(folder) = waiting.pop() {
            let fail = |path: &Path| {
                let path = path.to_owned();
                |source| RootsError::Read { path, source }
            };
            for entry in fs::read_dir(&folder).map_err(fail(&folder))? {
                let entry = entry.map_err(fail(&folder))?;
                let path = entry.path();
                let kind = entry.file_type().map_err(fail(&path))?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if kind.is_dir() {
                    waiting.push(path);
                } else if name.starts_with("recipe.") && name.ends_with(".lock") {
                    let text = fs::read(&path).map_err(fail(&path))?;
                    self.digests.extend(digests(&text));
                    self.locks += 1;
                }
            }
        }
        Ok(())
    }
}

/// Every run of 64 lower-case hex digits in a text.
pub(super) fn digests(text: &[u8]) -> impl Iterator<Item = Digest> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.split(move |byte| !is_digit(byte))
        .filter(|run| run.len() == DIGITS)
        .filter_map(|run| std::str::from_utf8(run).ok()?.parse().ok())
}
