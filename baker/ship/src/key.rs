//! Signing keys: made from the system's randomness, kept in files that only their owner can read.
//!
//! A key has two files: `NAME` (PKCS#8 PEM, mode 0600, encrypted when there is a passphrase) and
//! `NAME.pub` (SubjectPublicKeyInfo PEM). Both are plain enough for `openssl pkey`. A development
//! key carries a comment line before the PEM in both files, and whatever it signs says so. Keys of
//! Ed25519 and ECDSA P-256 sign releases, those of ECDSA P-256 and RSA what firmware starts.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::atomic::{self, Existing};
use crate::pem::{self, PemError};
use crate::public::{PublicKey, Purpose};
use crate::secret::Secret;
use crate::signer::{Signature, Signer, SigningError};

/// The largest key file that is read; real ones have some 300 bytes.
const FILE_LIMIT: u64 = 64 * 1024;

/// A private key, wiped from memory when dropped.
pub struct Key {
    public: PublicKey,
    secret: Secret,
}

/// A passphrase, wiped from memory when dropped and never printed.
pub struct Passphrase(Zeroizing<String>);

/// Where a saved key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// The private file.
    pub private: PathBuf,
    /// The public file.
    pub public: PathBuf,
}

/// A key cannot be made, saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gives no randomness.
    #[error("cannot get randomness from the system for a new key")]
    Randomness(#[source] getrandom::Error),
    /// No RSA key can be made, for want of randomness.
    #[error("cannot make a new RSA key")]
    Generate(#[source] rsa::Error),
    /// A passphrase of no characters protects nothing.
    #[error("an empty passphrase protects nothing")]
    EmptyPassphrase,
    /// A file of that name is already there; keys are never overwritten.
    #[error("{} is already there, and a key is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A key file cannot be written.
    #[error("cannot write the key file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A key file cannot be read.
    #[error("cannot read the key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read the private key.
    #[error("the private key {} is open to others (mode {mode:04o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no key that can be used.
    #[error("cannot use the private key {}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: PemError,
    },
    /// The key cannot be written as PEM.
    #[error("cannot encode the private key")]
    Encode(#[source] PemError),
}

impl KeyError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Randomness(_) | Self::Generate(_) | Self::Write { .. } | Self::Encode(_) => None,
            Self::EmptyPassphrase => Some("give a passphrase, or none at all".to_owned()),
            Self::Exists { path } => Some(format!(
                "choose another name, or move {} away",
                path.display()
            )),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("make a key with `baker key new`, or name one with `--key`".to_owned())
            }
            Self::Read { .. } => None,
            Self::Exposed { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::Content {
                source: PemError::NoPassphrase | PemError::Decrypt(_),
                ..
            } => Some("give the passphrase in BAKER_KEY_PASSPHRASE or when asked".to_owned()),
            Self::Content { .. } => {
                Some("name a private key in PKCS#8 PEM (`baker key new`)".to_owned())
            }
        }
    }

    /// True when the key is encrypted and no passphrase was given: time to ask for one.
    #[must_use]
    pub fn needs_passphrase(&self) -> bool {
        matches!(
            self,
            Self::Content {
                source: PemError::NoPassphrase,
                ..
            }
        )
    }
}

impl Passphrase {
    /// Takes a passphrase.
    ///
    /// # Errors
    /// It is empty.
    pub fn new(text: String) -> Result<Self, KeyError> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            Err(KeyError::EmptyPassphrase)
        } else {
            Ok(Self(text))
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

impl Key {
    /// A new key from the system's randomness. RSA takes a second or so.
    ///
    /// # Errors
    /// The system gives none.
    pub fn generate(name: &str, purpose: Purpose, algorithm: Algorithm) -> Result<Self, KeyError> {
        Self::of(name, purpose, Secret::generate(algorithm)?).map_err(KeyError::Encode)
    }

    /// The Ed25519 key that RFC 8032 derives from 32 secret bytes.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn from_seed(name: &str, purpose: Purpose, seed: &[u8; 32]) -> Self {
        Self::of(name, purpose, Secret::Ed25519(SigningKey::from_bytes(seed)))
            .expect("every Ed25519 key can be written")
    }

    fn of(name: &str, purpose: Purpose, secret: Secret) -> Result<Self, PemError> {
        let public = PublicKey::new(name, purpose, secret.material()?)?;
        Ok(Self { public, secret })
    }

    /// The public part.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }

    /// Writes the private file (mode 0600) and, beside it, the public file (`.pub`, mode 0644).
    ///
    /// # Errors
    /// Either file is already there, or cannot be written; neither is left behind then.
    pub fn save(&self, path: &Path, passphrase: Option<&Passphrase>) -> Result<KeyFiles, KeyError> {
        let files = KeyFiles {
            private: path.to_owned(),
            public: public_path(path),
        };
        // Looked at first so that no private file is made that would have to be taken back.
        if files.public.symlink_metadata().is_ok() {
            return Err(KeyError::Exists { path: files.public });
        }
        self.save_private(&files.private, passphrase)?;
        let public = self.public().to_text();
        if let Err(error) = write_new(&files.public, public.as_bytes(), 0o644) {
            // Ours alone: `write_new` made it a moment ago. The first error is the one to tell.
            drop(std::fs::remove_file(&files.private));
            return Err(error);
        }
        Ok(files)
    }

    /// Writes the private file alone (mode 0600), for keys whose public part is a certificate.
    ///
    /// # Errors
    /// The file is already there, or cannot be written.
    pub fn save_private(
        &self,
        path: &Path,
        passphrase: Option<&Passphrase>,
    ) -> Result<(), KeyError> {
        let document = self.secret.document().map_err(KeyError::Encode)?;
        let pem =
            pem::seal(&document, passphrase.map(Passphrase::as_bytes)).map_err(KeyError::Encode)?;
        let text = Zeroizing::new(self.public.purpose().comment() + &pem);
        write_new(path, text.as_bytes(), 0o600)
    }

    /// Reads a private file.
    ///
    /// # Errors
    /// The file is missing, open to others, no key, or encrypted and the passphrase is missing
    /// ([`KeyError::needs_passphrase`]) or does not fit.
    pub fn load(path: &Path, passphrase: Option<&Passphrase>) -> Result<Self, KeyError> {
        let text = read_private(path)?;
        let content = |source| KeyError::Content {
            path: path.to_owned(),
            source,
        };
        let secret = pem::decode_private(&text, passphrase.map(Passphrase::as_bytes));
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        let secret = secret.map_err(content)?;
        Self::of(&name, Purpose::of_text(&text), secret).map_err(content)
    }
}

impl Signer for Key {
    fn public(&self) -> PublicKey {
        self.public.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SigningError> {
        let bytes = self.secret.sign(message);
        let failed = |source| SigningError::File {
            name: self.public.name().to_owned(),
            source: Box::new(KeyError::Encode(source)),
        };
        Ok(Signature {
            algorithm: self.public.algorithm(),
            bytes: bytes.map_err(failed)?,
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.public.name())
            .field("purpose", &self.public.purpose())
            .finish_non_exhaustive()
    }
}

/// `NAME.pub` beside `NAME`.
fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyError> {
    atomic::write(path, bytes, mode, Existing::Keep).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists {
            path: path.to_owned(),
        },
        _ => KeyError::Write {
            path: path.to_owned(),
            source,
        },
    })
}

/// The text of a private file. Permissions are those of the opened file, so nobody can swap it
/// between the check and the reading. Symbolic links are followed: secret stores use them.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let failed = |source| KeyError::Read {
        path: path.to_owned(),
        source,
    };
    let real = path.canonicalize().map_err(failed)?;
    let file = atomic::open_regular(&real).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let bytes = Zeroizing::new(atomic::read_limited(&file, FILE_LIMIT).map_err(failed)?);
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    Ok(Zeroizing::new(text.to_owned()))
}
