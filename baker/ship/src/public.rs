//! Public keys: what a signature is checked against.

use baker_model::Digest;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::pem::{self, PemError};

/// Words of the comment line that marks both files of a development key.
const DEVELOPMENT_MARK: &str = "# baker local development key";

/// What a key is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signs releases that others rely on.
    Release,
    /// Made on a developer's machine to try things out; everything it signs says so.
    Development,
}

impl Purpose {
    /// The comment lines that stand before the PEM of a key of this purpose.
    pub(crate) fn comment(self) -> String {
        match self {
            Self::Release => String::new(),
            Self::Development => {
                format!("{DEVELOPMENT_MARK}: trust it on this machine only, never in production\n")
            }
        }
    }

    /// The purpose that the comment lines of a PEM text name.
    pub(crate) fn of_text(text: &str) -> Self {
        let mut comments = text
            .lines()
            .take_while(|line| !line.starts_with("-----BEGIN"));
        if comments.any(|line| line.starts_with(DEVELOPMENT_MARK)) {
            Self::Development
        } else {
            Self::Release
        }
    }

    /// True for [`Purpose::Development`].
    #[must_use]
    pub fn is_development(self) -> bool {
        self == Self::Development
    }
}

/// A public Ed25519 key with its name and purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    purpose: Purpose,
    key: VerifyingKey,
}

/// A text is no public key.
#[derive(Debug, thiserror::Error)]
pub enum PublicKeyError {
    /// No SubjectPublicKeyInfo PEM of an Ed25519 key.
    #[error("cannot read the public key `{name}`")]
    Pem {
        /// Name of the key.
        name: String,
        /// What is wrong.
        #[source]
        source: PemError,
    },
    /// Not a point of the curve, or one of small order, for which anybody can forge signatures.
    #[error("the public key `{name}` is not a usable Ed25519 point")]
    Weak {
        /// Name of the key.
        name: String,
    },
}

impl PublicKey {
    pub(crate) fn new(name: &str, purpose: Purpose, key: VerifyingKey) -> Self {
        Self {
            name: name.to_owned(),
            purpose,
            key,
        }
    }

    /// Parses the text of a `.pub` file; `name` is shown to people.
    ///
    /// # Errors
    /// Not the PEM of an Ed25519 key, or a key with which signatures can be forged.
    pub fn parse(name: &str, text: &str) -> Result<Self, PublicKeyError> {
        let bytes = pem::decode_public(text).map_err(|source| PublicKeyError::Pem {
            name: name.to_owned(),
            source,
        })?;
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self::new(name, Purpose::of_text(text), key)),
            _ => Err(PublicKeyError::Weak {
                name: name.to_owned(),
            }),
        }
    }

    /// The text of a `.pub` file: SubjectPublicKeyInfo PEM, marked when for development.
    #[must_use]
    pub fn to_text(&self) -> String {
        let pem = pem::encode_public(self.key.as_bytes())
            .expect("44 bytes of well-formed DER can always be written as PEM");
        self.purpose.comment() + &pem
    }

    /// SHA-256 of the SubjectPublicKeyInfo DER; the same as
    /// `openssl pkey -pubin -in KEY.pub -outform DER | sha256sum`.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(&pem::encode_public_der(self.key.as_bytes()))
    }

    /// The name that people know the key by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the key is made for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// True when `signature` is this key's over `message`; strict as RFC 8032 section 8.4 advises,
    /// so that one message has one signature per key.
    pub(crate) fn accepts(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key
            .verify_strict(message, &Signature::from_bytes(signature))
            .is_ok()
    }
}
