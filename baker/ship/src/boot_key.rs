//! Keys that firmware knows: RSA, because that is what firmware of today verifies.
//!
//! Made from the system's randomness and kept like signing keys: PKCS#8 PEM, mode 0600, encrypted
//! when there is a passphrase. Certificates are made elsewhere; this room only signs.
//!
//! The crate `rsa` makes keys and nothing else: its private operations are known to leak by their
//! timing (RUSTSEC-2023-0071). Signing is `ring`'s, in constant time; `ring` does not wipe its own
//! copy of the key, so that copy lives for one signature only.

use std::fmt;
use std::path::{Path, PathBuf};

use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::RsaPrivateKey;
use rsa::pkcs8::EncodePrivateKey as _;
use zeroize::Zeroizing;

use crate::key::{self, KeyError, Passphrase};
use crate::pem::{self, PemError};

/// Bits of new keys: what all firmware takes; much of it takes no more.
const BITS: usize = 2048;

/// A private RSA key, wiped from memory when dropped.
pub struct BootKey {
    /// Where it was read from; empty for a new one.
    path: PathBuf,
    /// PKCS#8 DER.
    document: Zeroizing<Vec<u8>>,
}

impl BootKey {
    /// A new key from the system's randomness. Takes a second or so.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut randomness = rsa::rand_core::OsRng;
        let key = RsaPrivateKey::new(&mut randomness, BITS).map_err(KeyError::Generate)?;
        let document = key
            .to_pkcs8_der()
            .map_err(|_| KeyError::Encode(PemError::NotRsa))?;
        Self::of(PathBuf::new(), document.as_bytes())
    }

    /// Reads a private file.
    ///
    /// # Errors
    /// The file is missing, open to others, no RSA key, or encrypted and the passphrase is missing
    /// ([`KeyError::needs_passphrase`]) or does not fit.
    pub fn load(path: &Path, passphrase: Option<&Passphrase>) -> Result<Self, KeyError> {
        let text = key::read_private(path)?;
        let content = |source| KeyError::Content {
            path: path.to_owned(),
            source,
        };
        let document = pem::open(&text, passphrase.map(Passphrase::as_bytes)).map_err(content)?;
        Self::of(path.to_owned(), document.as_bytes())
    }

    fn of(path: PathBuf, document: &[u8]) -> Result<Self, KeyError> {
        let key = Self {
            path,
            document: Zeroizing::new(document.to_vec()),
        };
        key.pair()?;
        Ok(key)
    }

    /// Writes the private file, mode 0600.
    ///
    /// # Errors
    /// The file is already there, or cannot be written.
    pub fn save(&self, path: &Path, passphrase: Option<&Passphrase>) -> Result<(), KeyError> {
        let pem = pem::seal(&self.document, passphrase.map(Passphrase::as_bytes))
            .map_err(KeyError::Encode)?;
        key::write_new(path, pem.as_bytes(), 0o600)
    }

    /// The public part: DER of PKCS#1 `RSAPublicKey`.
    ///
    /// # Errors
    /// Never for a key that was made or loaded.
    pub fn public(&self) -> Result<Vec<u8>, KeyError> {
        Ok(self.pair()?.public_key().as_ref().to_vec())
    }

    /// The signature over `message`: RSASSA-PKCS1-v1_5 with SHA-256. The same message always has
    /// the same one.
    ///
    /// # Errors
    /// Never for a key that was made or loaded.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let pair = self.pair()?;
        let mut signature = vec![0; pair.public().modulus_len()];
        // PKCS#1 v1.5 needs no randomness, the interface does.
        pair.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            message,
            &mut signature,
        )
        .map_err(|_| self.refused())?;
        Ok(signature)
    }

    fn pair(&self) -> Result<RsaKeyPair, KeyError> {
        RsaKeyPair::from_pkcs8(&self.document).map_err(|_| self.refused())
    }

    fn refused(&self) -> KeyError {
        KeyError::Content {
            path: self.path.clone(),
            source: PemError::NotRsa,
        }
    }
}

impl fmt::Debug for BootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootKey")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// PEM of a certificate.
///
/// # Errors
/// Never for bytes of a sensible size.
pub fn certificate_to_pem(der: &[u8]) -> Result<String, PemError> {
    pem::encode_public_document(der, pem::CERTIFICATE)
}

/// DER of the certificate in a PEM text.
///
/// # Errors
/// It is no PEM, or of something else.
pub fn certificate_from_pem(text: &str) -> Result<Vec<u8>, PemError> {
    pem::decode_public_document(text, pem::CERTIFICATE)
}
