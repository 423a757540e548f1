//! The private half of a key in memory, wiped when dropped.
//!
//! Signatures are the same every time: Ed25519 by itself, ECDSA after RFC 6979, RSA by PKCS#1
//! v1.5. So a release signed twice has the same bytes, wherever it was signed.
//!
//! The crate `rsa` makes keys and nothing else: its private operations are known to leak by their
//! timing (RUSTSEC-2023-0071). Signing is `ring`'s, in constant time; `ring` does not wipe its own
//! copy of the key, so that copy lives for one signature only.

use ed25519_dalek::Signer as _;
use p256::ecdsa;
use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::RsaPrivateKey;
use rsa::pkcs8::EncodePrivateKey as _;
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::key::KeyError;
use crate::pem::{self, PemError};
use crate::public::Material;

/// Bits of new RSA keys: what all firmware takes; much of it takes no more.
const RSA_BITS: usize = 2048;

/// A private key.
pub(crate) enum Secret {
    Ed25519(ed25519_dalek::SigningKey),
    EcdsaP256(ecdsa::SigningKey),
    /// PKCS#8 DER.
    Rsa(Zeroizing<Vec<u8>>),
}

impl Secret {
    /// A new one from the system's randomness. RSA takes a second or so.
    pub(crate) fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        match algorithm {
            Algorithm::Ed25519 => Ok(Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(
                &*randomness()?,
            ))),
            Algorithm::EcdsaP256Sha256 => loop {
                // One number in 2^32 is no private key; then another is drawn.
                if let Ok(key) = ecdsa::SigningKey::from_slice(&*randomness()?) {
                    return Ok(Self::EcdsaP256(key));
                }
            },
            Algorithm::RsaPkcs1Sha256 => {
                let mut system = rsa::rand_core::OsRng;
                let key = RsaPrivateKey::new(&mut system, RSA_BITS).map_err(KeyError::Generate)?;
                let document = key
                    .to_pkcs8_der()
                    .map_err(|_| KeyError::Encode(PemError::Algorithm))?;
                Self::rsa(document.as_bytes()).map_err(KeyError::Encode)
            }
        }
    }

    /// The RSA key in PKCS#8 DER.
    pub(crate) fn rsa(document: &[u8]) -> Result<Self, PemError> {
        RsaKeyPair::from_pkcs8(document).map_err(|_| PemError::Rsa)?;
        Ok(Self::Rsa(Zeroizing::new(document.to_vec())))
    }

    /// The public half.
    pub(crate) fn material(&self) -> Result<Material, PemError> {
        match self {
            Self::Ed25519(key) => Ok(Material::Ed25519(key.verifying_key())),
            Self::EcdsaP256(key) => Ok(Material::EcdsaP256(*key.verifying_key())),
            Self::Rsa(document) => Ok(Material::Rsa(pair(document)?.public_key().as_ref().into())),
        }
    }

    /// PKCS#8 DER.
    pub(crate) fn document(&self) -> Result<Zeroizing<Vec<u8>>, PemError> {
        match self {
            Self::Ed25519(key) => pem::encode_ed25519(key),
            Self::EcdsaP256(key) => pem::encode_p256(key),
            Self::Rsa(document) => Ok(document.clone()),
        }
    }

    /// The signature over `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, PemError> {
        match self {
            Self::Ed25519(key) => Ok(key.sign(message).to_bytes().to_vec()),
            Self::EcdsaP256(key) => {
                use ecdsa::signature::Signer as _;
                let signature: ecdsa::DerSignature = key.sign(message);
                Ok(signature.as_bytes().to_vec())
            }
            Self::Rsa(document) => {
                let pair = pair(document)?;
                let mut signature = vec![0; pair.public().modulus_len()];
                // PKCS#1 v1.5 needs no randomness, the interface does.
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .map_err(|_| PemError::Rsa)?;
                Ok(signature)
            }
        }
    }
}

fn pair(document: &[u8]) -> Result<RsaKeyPair, PemError> {
    RsaKeyPair::from_pkcs8(document).map_err(|_| PemError::Rsa)
}

fn randomness() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(KeyError::Randomness)?;
    Ok(bytes)
}
