//! `manifest.json.sig`: who signed the manifest.
//!
//! ```json
//! {
//!   "version": 1,
//!   "signatures": [
//!     {
//!       "key-id": "<SHA-256 of the SubjectPublicKeyInfo DER of the key, hex>",
//!       "algorithm": "ed25519",
//!       "development": false,
//!       "signature": "<64 bytes, base64>"
//!     }
//!   ]
//! }
//! ```
//!
//! Each signature is plain Ed25519 (RFC 8032) over the bytes of `manifest.json` and nothing else,
//! so `openssl pkeyutl -verify -rawin` checks it. `development` is not covered by the signature;
//! the public key that one trusts says the same, and a difference between the two is a problem.
//! There is one way to write an envelope; a reader takes no other.

use baker_model::Digest;
use base64ct::{Base64, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::key::Key;

/// The version of the envelope that this baker writes.
pub const ENVELOPE_VERSION: u32 = 1;

/// Signatures over one manifest, sorted by key id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Envelope {
    /// Format version, [`ENVELOPE_VERSION`].
    pub version: u32,
    /// At least one signature; at most one per key.
    pub signatures: Vec<ManifestSignature>,
}

/// One signature over the bytes of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ManifestSignature {
    /// Id of the key, see [`crate::PublicKey::id`].
    pub key_id: Digest,
    /// How it was made.
    pub algorithm: Algorithm,
    /// True when the key is a local development key.
    pub development: bool,
    /// The raw signature.
    pub signature: RawSignature,
}

/// Signature algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Ed25519 without prehash or context, RFC 8032.
    Ed25519,
}

/// The 64 bytes of an Ed25519 signature; base64 with padding in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawSignature(pub [u8; 64]);

/// The bytes are no envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not the JSON that an envelope is.
    #[error("cannot parse the signatures")]
    Syntax(#[source] serde_json::Error),
    /// An envelope of another baker.
    #[error("the signatures have version {found}, this baker reads version {ENVELOPE_VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The same content, written otherwise than baker writes it.
    #[error("the signatures are not written as baker writes them; the file was changed")]
    NotCanonical,
}

impl Envelope {
    /// An envelope with the signature of `key` over `message`.
    #[must_use]
    pub fn new(message: &[u8], key: &Key) -> Self {
        let mut envelope = Self {
            version: ENVELOPE_VERSION,
            signatures: Vec::new(),
        };
        envelope.add(message, key);
        envelope
    }

    /// Adds the signature of one more key; a signature of the same key is replaced.
    pub fn add(&mut self, message: &[u8], key: &Key) {
        let public = key.public();
        let signature = ManifestSignature {
            key_id: public.id(),
            algorithm: Algorithm::Ed25519,
            development: public.purpose().is_development(),
            signature: RawSignature(key.sign(message)),
        };
        self.signatures
            .retain(|other| other.key_id != signature.key_id);
        self.signatures.push(signature);
        self.signatures.sort_by_key(|signature| signature.key_id);
    }

    /// The bytes of the file. Ends in a newline.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("an envelope holds only plain data");
        bytes.push(b'\n');
        bytes
    }

    /// Parses the bytes of the file.
    ///
    /// # Errors
    /// Not an envelope, one of an unknown version, or one written differently.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let header: Header = serde_json::from_slice(bytes).map_err(EnvelopeError::Syntax)?;
        if header.version != ENVELOPE_VERSION {
            return Err(EnvelopeError::Version {
                found: header.version,
            });
        }
        let envelope: Self = serde_json::from_slice(bytes).map_err(EnvelopeError::Syntax)?;
        if envelope.to_bytes() == bytes {
            Ok(envelope)
        } else {
            Err(EnvelopeError::NotCanonical)
        }
    }
}

impl Serialize for RawSignature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for RawSignature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refuse = || serde::de::Error::custom("a signature is 64 bytes in base64");
        let bytes = Base64::decode_vec(&text).map_err(|_| refuse())?;
        bytes.try_into().map(Self).map_err(|_| refuse())
    }
}
