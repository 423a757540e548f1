//! Whom to believe: public keys, who took their place, and what was taken back.
//!
//! ```text
//! trust/
//!   release.pub             a key; its name is that of its file
//!   2027.rotation.json      an old key names the new one (see [`rotation`])
//!   lost.revocations.json   keys and releases that are not to be believed (see [`revocation`])
//!   policy.json             {"threshold": 2}: how many of the keys must sign
//! ```
//! Nothing is trusted half: what cannot be read, or is signed by nobody known, is an error.

mod policy;
pub mod revocation;
pub mod rotation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use baker_model::Digest;
use baker_model::plan::Day;

use crate::algorithm::Algorithm;
use crate::atomic;
use crate::dsse::{DsseError, Envelope};
use crate::public::{PublicKey, PublicKeyError};
use policy::Policy;
use revocation::Revocations;
use rotation::Rotation;

/// The largest file that is read; a public key has some 200 bytes.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// The public keys whose signatures count, and on what terms.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: Vec<PublicKey>,
    /// The last day of releases that a key may have signed.
    retired: BTreeMap<Digest, Day>,
    revoked: Vec<Revoked>,
    /// Why a release was withdrawn, by the digest of its manifest.
    withdrawn: BTreeMap<Digest, String>,
    threshold: Option<NonZeroUsize>,
}

/// A key that was trusted until it was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The key.
    pub key: PublicKey,
    /// Why.
    pub reason: String,
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
    /// A list is no envelope, or signed by nobody who is trusted.
    #[error("cannot believe {}", path.display())]
    Envelope {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: DsseError,
    },
    /// A list or the policy says something that cannot be understood.
    #[error("cannot understand {}: {cause}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
}

/// What the files of a trust folder hold, before it is known whom to believe.
#[derive(Debug, Default)]
struct Files {
    keys: Vec<PublicKey>,
    revocations: Vec<(PathBuf, Envelope)>,
    rotations: Vec<(PathBuf, Envelope)>,
    policy: Policy,
}

impl Trust {
    /// Trusts these keys; a key given twice counts once.
    #[must_use]
    pub fn of(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let mut trust = Self::default();
        for key in keys {
            trust.add(key);
        }
        trust
    }

    /// Trusts what lies in `folder`; a folder that is not there holds nothing.
    ///
    /// # Errors
    /// The folder or a file cannot be read, or is not what its name says.
    pub fn load(folder: &Path) -> Result<Self, TrustError> {
        if folder.symlink_metadata().is_err() {
            return Ok(Self::default());
        }
        Self::load_all(&[folder.to_owned()])
    }

    /// Trusts what these files and folders hold.
    ///
    /// # Errors
    /// One of them cannot be read, or is not what its name says.
    pub fn load_all(paths: &[PathBuf]) -> Result<Self, TrustError> {
        let mut files = Files::default();
        for path in paths {
            if path.is_dir() {
                files.take_folder(path)?;
            } else if !files.take(path)? {
                files.keys.push(Self::load_key(path)?);
            }
        }
        files.settle()
    }

    /// Reads one public key file.
    ///
    /// # Errors
    /// The file cannot be read, is no public key, or one that never signs releases.
    pub fn load_key(path: &Path) -> Result<PublicKey, TrustError> {
        let text = read(path)?;
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

    /// The same, but `threshold` of the keys must sign.
    #[must_use]
    pub fn with_threshold(mut self, threshold: NonZeroUsize) -> Self {
        self.threshold = Some(threshold);
        self
    }

    /// The same, and this key, unless it was revoked.
    #[must_use]
    pub fn with_key(mut self, key: PublicKey) -> Self {
        self.add(key);
        self
    }

    /// The key with this id.
    #[must_use]
    pub fn get(&self, id: &Digest) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.id() == *id)
    }

    /// The keys, in the order in which they were given; those that were revoked are not among
    /// them.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How many of the keys must sign.
    #[must_use]
    pub fn threshold(&self) -> NonZeroUsize {
        self.threshold.unwrap_or(NonZeroUsize::MIN)
    }

    /// The last day of releases that the key may have signed; none when there is no such day.
    #[must_use]
    pub fn retired(&self, id: &Digest) -> Option<Day> {
        self.retired.get(id).copied()
    }

    /// The key with this id, when it was trusted and then revoked.
    #[must_use]
    pub fn revoked(&self, id: &Digest) -> Option<&Revoked> {
        self.revoked.iter().find(|revoked| revoked.key.id() == *id)
    }

    /// Why the release whose manifest has this digest was withdrawn.
    #[must_use]
    pub fn withdrawn(&self, manifest: &Digest) -> Option<&str> {
        self.withdrawn.get(manifest).map(String::as_str)
    }

    /// True when nobody is, or was, trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.revoked.is_empty()
    }

    fn add(&mut self, key: PublicKey) {
        if self.get(&key.id()).is_none() && self.revoked(&key.id()).is_none() {
            self.keys.push(key);
        }
    }

    /// Believes a revocation list that one of the keys signed.
    fn revoke(&mut self, list: &Revocations) {
        for entry in &list.keys {
            let Some(at) = self.keys.iter().position(|key| key.id() == entry.key_id) else {
                continue;
            };
            let (key, reason) = (self.keys.remove(at), entry.reason.clone());
            self.revoked.push(Revoked { key, reason });
        }
        for entry in &list.releases {
            self.withdrawn
                .entry(entry.manifest)
                .or_insert_with(|| entry.reason.clone());
        }
    }

    fn retire(&mut self, id: Digest, last: Day) {
        let day = self.retired.entry(id).or_insert(last);
        *day = last.min(*day);
    }
}

impl Files {
    fn take_folder(&mut self, folder: &Path) -> Result<(), TrustError> {
        let failed = |source| TrustError::Read {
            path: folder.to_owned(),
            source,
        };
        let mut paths = std::fs::read_dir(folder)
            .map_err(failed)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed)?;
        paths.sort();
        for path in paths {
            if path.extension().is_some_and(|extension| extension == "pub") {
                self.keys.push(Trust::load_key(&path)?);
            } else {
                self.take(&path)?;
            }
        }
        Ok(())
    }

    /// Takes a file by its name; false when the name says nothing.
    fn take(&mut self, path: &Path) -> Result<bool, TrustError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let envelope = || {
            Envelope::parse(read(path)?.as_bytes()).map_err(|source| TrustError::Envelope {
                path: path.to_owned(),
                source,
            })
        };
        if name.ends_with(revocation::FILE_END) {
            self.revocations.push((path.to_owned(), envelope()?));
        } else if name.ends_with(rotation::FILE_END) {
            self.rotations.push((path.to_owned(), envelope()?));
        } else if name == policy::FILE {
            let policy = Policy::parse(&read(path)?).map_err(|cause| content(path, cause))?;
            self.policy = policy;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Finds out whom to believe: what trusted keys revoke goes before whom they name, so that a
    /// stolen key that was revoked cannot name its own successor.
    fn settle(self) -> Result<Trust, TrustError> {
        let mut trust = Trust::of(self.keys);
        trust.threshold = self.policy.threshold;
        for (id, last) in self.policy.retired {
            trust.retire(id, last);
        }
        let (mut lists, mut rotations) = (self.revocations, self.rotations);
        loop {
            let before = lists.len() + rotations.len();
            // All lists of one round are judged by the keys of its beginning: their order in the
            // folder decides nothing.
            let judges = Trust::of(trust.keys.iter().cloned());
            for (path, envelope) in std::mem::take(&mut lists) {
                if judges.believes(&envelope) {
                    let list = Revocations::read(&envelope).map_err(|why| content(&path, why))?;
                    trust.revoke(&list);
                } else {
                    lists.push((path, envelope));
                }
            }
            for (path, envelope) in std::mem::take(&mut rotations) {
                let rotation = Rotation::read(&envelope).map_err(|why| content(&path, why))?;
                if trust.revoked(&rotation.old).is_some() {
                    continue;
                }
                let by_old = trust
                    .get(&rotation.old)
                    .cloned()
                    .map(|key| Trust::of([key]));
                if by_old.is_some_and(|by_old| by_old.believes(&envelope)) {
                    let new = rotation.key().map_err(|why| content(&path, why))?;
                    trust.add(new);
                    if let Some(last) = rotation.retire {
                        trust.retire(rotation.old, last);
                    }
                } else {
                    rotations.push((path, envelope));
                }
            }
            if lists.len() + rotations.len() == before {
                break;
            }
        }
        match lists.into_iter().chain(rotations).next() {
            None => Ok(trust),
            Some((path, _)) => Err(TrustError::Envelope {
                path,
                source: DsseError::TooFew {
                    found: 0,
                    threshold: NonZeroUsize::MIN,
                },
            }),
        }
    }
}

impl Trust {
    fn believes(&self, envelope: &Envelope) -> bool {
        envelope.verify(self, NonZeroUsize::MIN).is_ok()
    }
}

fn content(path: &Path, cause: String) -> TrustError {
    TrustError::Content {
        path: path.to_owned(),
        cause,
    }
}

fn read(path: &Path) -> Result<String, TrustError> {
    let failed = |source| TrustError::Read {
        path: path.to_owned(),
        source,
    };
    let real = path.canonicalize().map_err(failed)?;
    let file = atomic::open_regular(&real).map_err(failed)?;
    let bytes = atomic::read_limited(&file, FILE_LIMIT).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
