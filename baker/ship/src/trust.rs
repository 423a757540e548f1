//! Whom to believe: a set of public keys.

use std::io;
use std::path::{Path, PathBuf};

use baker_model::Digest;

use crate::algorithm::Algorithm;
use crate::atomic;
use crate::public::{PublicKey, PublicKeyError};

/// The largest public key file that is read; real ones have some 200 bytes.
const FILE_LIMIT: u64 = 64 * 1024;

/// The public keys whose signatures count.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: Vec<PublicKey>,
}

/// The trust folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The folder or a file in it cannot be read.
    #[error("cannot read {} for the keys to trust", path.display())]
    Read {
        /// Folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A `.pub` file is no public key; nothing is trusted half.
    #[error("{} is no key to trust", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: PublicKeyError,
    },
    /// A key that may not sign releases.
    #[error("{} is a key for {algorithm}, which never signs releases", path.display())]
    Algorithm {
        /// The file.
        path: PathBuf,
        /// How it signs.
        algorithm: Algorithm,
    },
}

impl Trust {
    /// Trusts these keys; a key given twice counts once.
    #[must_use]
    pub fn of(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let mut trust = Self::default();
        for key in keys {
            if trust.get(&key.id()).is_none() {
                trust.keys.push(key);
            }
        }
        trust
    }

    /// Trusts every `*.pub` file of `folder`; a folder that is not there holds none. The name of
    /// a key is the name of its file without `.pub`.
    ///
    /// # Errors
    /// The folder or a file cannot be read, or a file is no public key.
    pub fn load(folder: &Path) -> Result<Self, TrustError> {
        let failed = |path: &Path, source| TrustError::Read {
            path: path.to_owned(),
            source,
        };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(folder, error)),
        };
        let mut paths = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(|error| failed(folder, error))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "pub"));
        paths.sort();
        let keys = paths
            .iter()
            .map(|path| Self::load_key(path))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::of(keys))
    }

    /// Reads one public key file.
    ///
    /// # Errors
    /// The file cannot be read, is no public key, or one that never signs releases.
    pub fn load_key(path: &Path) -> Result<PublicKey, TrustError> {
        let failed = |source| TrustError::Read {
            path: path.to_owned(),
            source,
        };
        let real = path.canonicalize().map_err(failed)?;
        let file = atomic::open_regular(&real).map_err(failed)?;
        let bytes = atomic::read_limited(&file, FILE_LIMIT).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes);
        let name = path
            .file_stem()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        let key = PublicKey::parse(&name, &text).map_err(|source| TrustError::Key {
            path: path.to_owned(),
            source,
        })?;
        let algorithm = key.algorithm();
        if !algorithm.signs_releases() {
            return Err(TrustError::Algorithm {
                path: path.to_owned(),
                algorithm,
            });
        }
        Ok(key)
    }

    /// The key with this id.
    #[must_use]
    pub fn get(&self, id: &Digest) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.id() == *id)
    }

    /// The keys, in the order in which they were given.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// True when nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
