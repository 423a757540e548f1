//! Public keys: what a signature is checked against.

use baker_model::Digest;
use ed25519_dalek::{Signature, VerifyingKey};
use p256::ecdsa::{self, signature::Verifier as _};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use crate::algorithm::Algorithm;
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

/// A public key with its name and purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    purpose: Purpose,
    material: Material,
    /// DER of SubjectPublicKeyInfo.
    der: Vec<u8>,
}

/// What a signature is checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Material {
    Ed25519(VerifyingKey),
    EcdsaP256(ecdsa::VerifyingKey),
    /// DER of PKCS#1 `RSAPublicKey`.
    Rsa(Box<[u8]>),
}

/// A text is no public key.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the public key `{name}`")]
pub struct PublicKeyError {
    /// Name of the key.
    name: String,
    /// What is wrong.
    source: PemError,
}

impl PublicKey {
    pub(crate) fn new(name: &str, purpose: Purpose, material: Material) -> Result<Self, PemError> {
        let der = pem::encode_public_der(&material)?;
        Ok(Self {
            name: name.to_owned(),
            purpose,
            material,
            der,
        })
    }

    /// Parses the text of a `.pub` file; `name` is shown to people.
    ///
    /// # Errors
    /// Not the PEM of a key that baker knows, or a key with which signatures can be forged.
    pub fn parse(name: &str, text: &str) -> Result<Self, PublicKeyError> {
        let failed = |source| PublicKeyError {
            name: name.to_owned(),
            source,
        };
        let material = pem::decode_public(text).map_err(failed)?;
        Self::new(name, Purpose::of_text(text), material).map_err(failed)
    }

    /// Reads DER of SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// As [`PublicKey::parse`].
    pub fn from_der(name: &str, purpose: Purpose, der: &[u8]) -> Result<Self, PublicKeyError> {
        pem::decode_public_der(der)
            .and_then(|material| Self::new(name, purpose, material))
            .map_err(|source| PublicKeyError {
                name: name.to_owned(),
                source,
            })
    }

    /// The text of a `.pub` file: SubjectPublicKeyInfo PEM, marked when for development.
    #[must_use]
    pub fn to_text(&self) -> String {
        let pem = pem::encode_public_document(&self.der, pem::PUBLIC)
            .expect("well-formed DER can always be written as PEM");
        self.purpose.comment() + &pem
    }

    /// DER of SubjectPublicKeyInfo.
    #[must_use]
    pub fn to_der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the SubjectPublicKeyInfo DER; the same as
    /// `openssl pkey -pubin -in KEY.pub -outform DER | sha256sum`.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(&self.der)
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

    /// How its signatures are made.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match &self.material {
            Material::Ed25519(_) => Algorithm::Ed25519,
            Material::EcdsaP256(_) => Algorithm::EcdsaP256Sha256,
            Material::Rsa(_) => Algorithm::RsaPkcs1Sha256,
        }
    }

    /// True when `signature` is this key's over `message`. Ed25519 is checked strictly, as RFC 8032
    /// section 8.4 advises, so that one message has one signature per key; of ECDSA that cannot be
    /// had, since of each signature anybody can make a second one.
    #[must_use]
    pub fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Ed25519(key) => signature.try_into().is_ok_and(|bytes| {
                key.verify_strict(message, &Signature::from_bytes(bytes))
                    .is_ok()
            }),
            Material::EcdsaP256(key) => ecdsa::DerSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Material::Rsa(key) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
                .verify(message, signature)
                .is_ok(),
        }
    }
}
