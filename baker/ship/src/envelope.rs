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
//!       "signature": "<base64>"
//!     }
//!   ]
//! }
//! ```
//!
//! Each signature is plain Ed25519 (RFC 8032), or ECDSA on P-256 with SHA-256 (in DER; algorithm
//! `ecdsa-p256-sha256`), over the bytes of `manifest.json` and nothing else, so `openssl pkeyutl
//! -verify -rawin` or `openssl dgst -sha256 -verify` check it. `development` is not covered by the signature;
//! the public key that one trusts says the same, and a difference between the two is a problem.
//! There is one way to write an envelope; a reader takes no other.

use baker_model::Digest;
use base64ct::{Base64, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::algorithm::Algorithm;
use crate::public::PublicKey;
use crate::signer::{self, Signature, Signer, SigningError};

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

/// The bytes of a signature; base64 with padding in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawSignature(pub Vec<u8>);

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
    /// An envelope that nobody has signed yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            version: ENVELOPE_VERSION,
            signatures: Vec::new(),
        }
    }

    /// Adds the signature of one more key over `message`; a signature of the same key is replaced.
    ///
    /// # Errors
    /// The signer gives none; the envelope is as it was.
    pub fn sign(&mut self, message: &[u8], signer: &dyn Signer) -> Result<(), SigningError> {
        let signature = signer::for_release(signer, message)?;
        self.add(&signer.public(), signature);
        Ok(())
    }

    /// Adds a signature made elsewhere.
    pub fn add(&mut self, public: &PublicKey, signature: Signature) {
        let signature = ManifestSignature {
            key_id: public.id(),
            algorithm: signature.algorithm,
            development: public.purpose().is_development(),
            signature: RawSignature(signature.bytes),
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

impl Default for Envelope {
    fn default() -> Self {
        Self::new()
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
        let bytes = Base64::decode_vec(&text);
        bytes
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a signature is base64"))
    }
}
