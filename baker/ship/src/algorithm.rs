//! How signatures are made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Signature algorithms. The words in files and on command lines are those of
/// [`Algorithm::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Ed25519 without prehash or context (RFC 8032): 64 bytes.
    Ed25519,
    /// ECDSA on P-256 with SHA-256 (FIPS 186-5), as DER of `ECDSA-Sig-Value`.
    EcdsaP256Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017): as many bytes as the modulus has. For firmware
    /// only; releases are not signed with it.
    RsaPkcs1Sha256,
}

impl Algorithm {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::RsaPkcs1Sha256 => "rsa-pkcs1-sha256",
        }
    }

    /// True when manifests and statements may be signed with it.
    #[must_use]
    pub const fn signs_releases(self) -> bool {
        match self {
            Self::Ed25519 | Self::EcdsaP256Sha256 => true,
            Self::RsaPkcs1Sha256 => false,
        }
    }

    /// True when firmware knows it, so that boot programs may be signed with it.
    #[must_use]
    pub const fn signs_boot_programs(self) -> bool {
        match self {
            Self::EcdsaP256Sha256 | Self::RsaPkcs1Sha256 => true,
            Self::Ed25519 => false,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
