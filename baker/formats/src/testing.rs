//! Keys of tests. Their private halves stand in the repository: they sign nothing that anyone
//! trusts.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};

use crate::x509::{Certificate, PublicKey, Request};

/// A private key and how it signs.
pub(crate) enum TestKey {
    Rsa(Box<RsaKeyPair>),
    EcdsaP256(Box<EcdsaKeyPair>),
}

impl TestKey {
    pub(crate) fn rsa() -> Self {
        let key = RsaKeyPair::from_pkcs8(include_bytes!("testing/rsa.pk8")).unwrap();
        Self::Rsa(Box::new(key))
    }

    pub(crate) fn ecdsa() -> Self {
        let (kind, key) = (
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            include_bytes!("testing/p256.pk8"),
        );
        Self::EcdsaP256(Box::new(
            EcdsaKeyPair::from_pkcs8(kind, key, &SystemRandom::new()).unwrap(),
        ))
    }

    pub(crate) fn public(&self) -> PublicKey {
        match self {
            Self::Rsa(key) => PublicKey::Rsa(key.public_key().as_ref().to_vec()),
            Self::EcdsaP256(key) => PublicKey::EcdsaP256(key.public_key().as_ref().to_vec()),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let randomness = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &randomness, message, &mut signature)
                    .unwrap();
                signature
            }
            Self::EcdsaP256(key) => key.sign(&randomness, message).unwrap().as_ref().to_vec(),
        }
    }

    /// A certificate for 2026 to 2051.
    pub(crate) fn certificate(&self, name: &str) -> Certificate {
        let request = Request {
            name,
            key: &self.public(),
            not_before: 1_767_225_600,
            not_after: 2_556_144_000,
        };
        let unsigned = request.prepare().unwrap();
        unsigned.attach(&self.sign(unsigned.message())).unwrap()
    }
}
