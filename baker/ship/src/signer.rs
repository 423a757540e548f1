//! Who signs: a key file, a token, a program, or whatever else has a private key.
//!
//! Takes a message, gives a signature. Whatever signs for a release goes through
//! [`for_release`], which believes no signer: what does not fit the public key is no signature.

use crate::algorithm::Algorithm;
use crate::hook::HookError;
use crate::key::KeyError;
use crate::public::PublicKey;
use crate::token::TokenError;

/// Something that holds a private key.
///
/// A signer is given the whole message, not its digest: Ed25519 can't do with less, and a device
/// may want to show what it signs.
pub trait Signer: Send + Sync {
    /// The public part of the key.
    fn public(&self) -> PublicKey;

    /// The signature over `message`.
    ///
    /// # Errors
    /// The key cannot be used now.
    fn sign(&self, message: &[u8]) -> Result<Signature, SigningError>;
}

/// A signature as [`Algorithm`] says that it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// How it was made.
    pub algorithm: Algorithm,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// There is no signature.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// A key that is not for this.
    #[error("the key `{name}` signs with {algorithm}, which is for {} only", purpose(*algorithm))]
    Algorithm {
        /// Name of the key.
        name: String,
        /// How it signs.
        algorithm: Algorithm,
    },
    /// The signer gave something else than a signature by its key.
    #[error("what the key `{name}` gave is no signature by it over these bytes")]
    Wrong {
        /// Name of the key.
        name: String,
    },
    /// A key that is elsewhere did not sign this.
    #[error("the key `{name}` has not signed this, but something else")]
    NotSigned {
        /// Name of the key.
        name: String,
    },
    /// A key out of a file cannot sign.
    #[error("cannot sign with the key `{name}`")]
    File {
        /// Name of the key.
        name: String,
        /// Why.
        #[source]
        source: Box<KeyError>,
    },
    /// A key program does not sign.
    #[error("cannot sign with the key `{name}`")]
    Hook {
        /// Name of the key.
        name: String,
        /// Why.
        #[source]
        source: Box<HookError>,
    },
    /// A token does not sign.
    #[error("cannot sign with the key `{name}`")]
    Token {
        /// Name of the key.
        name: String,
        /// Why.
        #[source]
        source: Box<TokenError>,
    },
}

impl SigningError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Algorithm { algorithm, .. } if algorithm.signs_boot_programs() => Some(
                "name a key of Ed25519 or ECDSA P-256 with --key (baker key new FILE)".to_owned(),
            ),
            Self::Algorithm { .. } => {
                Some("name keys of RSA or ECDSA P-256 (baker key secure-boot FOLDER)".to_owned())
            }
            Self::Wrong { name } => Some(format!(
                "see whether the private key belongs to the public key `{name}`"
            )),
            Self::NotSigned { .. } => Some(
                "make a new request for what is to be signed now, and have that signed".to_owned(),
            ),
            Self::File { source, .. } => source.help(),
            Self::Hook { source, .. } => Some(source.help()),
            Self::Token { source, .. } => source.help(),
        }
    }
}

/// The signature of `signer` over a manifest or statement, checked.
///
/// # Errors
/// The key is not for releases, cannot be used now, or did not make what came back.
pub fn for_release(signer: &dyn Signer, message: &[u8]) -> Result<Signature, SigningError> {
    let public = signer.public();
    let algorithm = public.algorithm();
    let name = || public.name().to_owned();
    if !algorithm.signs_releases() {
        return Err(SigningError::Algorithm {
            name: name(),
            algorithm,
        });
    }
    let signature = signer.sign(message)?;
    if signature.algorithm == algorithm && public.accepts(message, &signature.bytes) {
        Ok(signature)
    } else {
        Err(SigningError::Wrong { name: name() })
    }
}

fn purpose(algorithm: Algorithm) -> &'static str {
    match algorithm.signs_releases() {
        true => "releases",
        false => "boot programs",
    }
}
