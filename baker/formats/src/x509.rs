//! X.509 certificates, as far as Secure Boot needs them: making self-signed ones, reading any.
//!
//! Takes and gives DER; knows no private key. What a key has to sign is given out as bytes, and
//! the signature is taken back, checked and put in: the key may be in a file or on a token.
//! Validity is not judged here, because firmware has no clock that it could trust.
//!
//! After RFC 5280; keys are RSA (RFC 3279, RFC 4055) or ECDSA on P-256 (RFC 5480), always with
//! SHA-256.

use std::fmt;

use baker_model::Digest;
use baker_model::plan::Day;
use ring::signature::{ECDSA_P256_SHA256_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use crate::der::{self, DerError, Reader, element, oid, sequence, set, tag};

/// Object identifiers, encoded.
pub(crate) mod id {
    /// 1.2.840.113549.1.1.1
    pub(crate) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    /// 1.2.840.113549.1.1.11
    pub(crate) const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    /// 1.2.840.10045.2.1
    pub(crate) const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    /// 1.2.840.10045.3.1.7
    pub(crate) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    /// 1.2.840.10045.4.3.2
    pub(crate) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    /// 2.16.840.1.101.3.4.2.1
    pub(crate) const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    /// 2.5.4.3
    pub(super) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    /// 2.5.29.14
    pub(super) const SUBJECT_KEY: &[u8] = &[0x55, 0x1d, 14];
    /// 2.5.29.15
    pub(super) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
    /// 2.5.29.19
    pub(super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
}

/// The longest common name that X.509 allows (`ub-common-name`), characters.
const COMMON_NAME_LIMIT: usize = 64;

/// The bytes are no certificate, or none can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum X509Error {
    /// Not the DER of a certificate or public key.
    #[error("cannot read it as an X.509 certificate")]
    Der(#[from] DerError),
    /// Neither RSA with 2048 to 8192 bits nor ECDSA on P-256.
    #[error("the key is neither RSA with 2048 to 8192 bits nor ECDSA on P-256")]
    Key,
    /// The name cannot be a common name.
    #[error("`{name}` cannot be the name in a certificate: 1 to 64 printable characters")]
    Name {
        /// The name.
        name: String,
    },
    /// The signature is not by the certificate's own key.
    #[error("the signature is not one by the key of the certificate")]
    Signature,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA: DER of PKCS#1 `RSAPublicKey`.
    Rsa(Vec<u8>),
    /// ECDSA on P-256: the uncompressed point.
    EcdsaP256(Vec<u8>),
}

impl PublicKey {
    /// Reads DER of `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// It is no DER, or a key of another kind.
    pub fn parse(info: &[u8]) -> Result<Self, X509Error> {
        let mut reader = Reader::new(info);
        let mut inside = reader.expect(tag::SEQUENCE)?.reader();
        reader.finish()?;
        let mut algorithm = inside.expect(tag::SEQUENCE)?.reader();
        let bits = inside.expect(tag::BIT_STRING)?;
        inside.finish()?;
        let key = bits.content.strip_prefix(&[0]).ok_or(X509Error::Key)?;
        let kind = algorithm.expect(tag::OID)?.content;
        if kind == id::RSA {
            let mut whole = Reader::new(key);
            let mut numbers = whole.expect(tag::SEQUENCE)?.reader();
            let modulus = numbers.expect(tag::INTEGER)?.content;
            // One byte more than the number has, for the sign.
            if !(257..=1025).contains(&modulus.len()) {
                return Err(X509Error::Key);
            }
            Ok(Self::Rsa(key.to_vec()))
        } else if kind == id::EC && algorithm.expect(tag::OID)?.content == id::P256 {
            if key.len() != 65 || key[0] != 4 {
                return Err(X509Error::Key);
            }
            Ok(Self::EcdsaP256(key.to_vec()))
        } else {
            Err(X509Error::Key)
        }
    }

    /// True when `signature` is one by this key over `message`: RSASSA-PKCS1-v1_5 or ECDSA (DER),
    /// both with SHA-256.
    #[must_use]
    pub fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified =
            match self {
                Self::Rsa(key) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
                    .verify(message, signature),
                Self::EcdsaP256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                    .verify(message, signature),
            };
        verified.is_ok()
    }

    /// DER of `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn info(&self) -> Vec<u8> {
        let (algorithm, key) = match self {
            Self::Rsa(key) => (der::algorithm(id::RSA), key),
            Self::EcdsaP256(point) => (sequence(&[&oid(id::EC), &oid(id::P256)]), point),
        };
        sequence(&[&algorithm, &element(tag::BIT_STRING, &[&[0], key])])
    }

    /// `AlgorithmIdentifier` of its signatures in a certificate.
    fn certificate_algorithm(&self) -> Vec<u8> {
        match self {
            Self::Rsa(_) => der::algorithm(id::RSA_SHA256),
            Self::EcdsaP256(_) => sequence(&[&oid(id::ECDSA_SHA256)]),
        }
    }

    /// `AlgorithmIdentifier` of its signatures in PKCS#7, where the digest is named apart.
    pub(crate) fn signer_algorithm(&self) -> Vec<u8> {
        match self {
            Self::Rsa(_) => der::algorithm(id::RSA),
            Self::EcdsaP256(_) => sequence(&[&oid(id::ECDSA_SHA256)]),
        }
    }
}

/// A certificate that was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    serial: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    key: PublicKey,
}

impl Certificate {
    /// Reads DER. Who signed it is not looked at: trust comes from where it lies.
    ///
    /// # Errors
    /// It is no certificate, or one with a key of another kind.
    pub fn parse(der: &[u8]) -> Result<Self, X509Error> {
        let mut reader = Reader::new(der);
        let mut inside = reader.expect(tag::SEQUENCE)?.reader();
        reader.finish()?;
        let mut tbs = inside.expect(tag::SEQUENCE)?.reader();
        tbs.optional(tag::context(0))?;
        let serial = tbs.expect(tag::INTEGER)?.whole;
        tbs.expect(tag::SEQUENCE)?;
        let issuer = tbs.expect(tag::SEQUENCE)?.whole;
        tbs.expect(tag::SEQUENCE)?;
        let subject = tbs.expect(tag::SEQUENCE)?.whole;
        let key = PublicKey::parse(tbs.expect(tag::SEQUENCE)?.whole)?;
        Ok(Self {
            der: der.to_vec(),
            serial: serial.to_vec(),
            issuer: issuer.to_vec(),
            subject: subject.to_vec(),
            key,
        })
    }

    /// The DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// SHA-256 of the DER, the usual fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// The common name of its subject; empty when it has none.
    #[must_use]
    pub fn name(&self) -> String {
        common_name(&self.subject).unwrap_or_default()
    }

    /// `IssuerAndSerialNumber`, by which PKCS#7 names a certificate.
    pub(crate) fn issuer_and_serial(&self) -> Vec<u8> {
        sequence(&[&self.issuer, &self.serial])
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("name", &self.name())
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

fn common_name(subject: &[u8]) -> Option<String> {
    let mut names = Reader::new(subject).expect(tag::SEQUENCE).ok()?.reader();
    while !names.is_empty() {
        let mut one = names.expect(tag::SET).ok()?.reader();
        let mut pair = one.expect(tag::SEQUENCE).ok()?.reader();
        if pair.expect(tag::OID).ok()?.content == id::COMMON_NAME {
            let text = pair.next().ok()?.content;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
    }
    None
}

/// A self-signed certificate that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Common name of subject and issuer: 1 to 64 characters.
    pub name: &'a str,
    /// The key that it is for.
    pub key: &'a PublicKey,
    /// Begin of its validity, seconds since 1970-01-01 UTC; rounded down to the day.
    pub not_before: u64,
    /// End of its validity, the same way.
    pub not_after: u64,
}

/// A certificate that lacks nothing but its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    to_be_signed: Vec<u8>,
    key: PublicKey,
}

impl Request<'_> {
    /// The certificate without signature. Its serial number comes from the key, so equal requests
    /// give equal bytes.
    ///
    /// # Errors
    /// The name cannot be used.
    pub fn prepare(&self) -> Result<Unsigned, X509Error> {
        let length = self.name.chars().count();
        if !(1..=COMMON_NAME_LIMIT).contains(&length) || self.name.chars().any(char::is_control) {
            return Err(X509Error::Name {
                name: self.name.to_owned(),
            });
        }
        let key = self.key.info();
        let name = sequence(&[&set(&[&sequence(&[
            &oid(id::COMMON_NAME),
            &element(tag::UTF8_STRING, &[self.name.as_bytes()]),
        ])])]);
        let identity = Digest::of(&key);
        // Positive and without leading zeros, as a number must be: 0x40 to 0x7f first.
        let mut serial = identity.as_bytes()[..16].to_vec();
        serial[0] = serial[0] & 0x3f | 0x40;
        let to_be_signed = sequence(&[
            &element(tag::context(0), &[&element(tag::INTEGER, &[&[2]])]),
            &element(tag::INTEGER, &[&serial]),
            &self.key.certificate_algorithm(),
            &name,
            &sequence(&[&time(self.not_before), &time(self.not_after)]),
            &name,
            &key,
            &element(tag::context(3), &[&extensions(&identity.as_bytes()[..20])]),
        ]);
        Ok(Unsigned {
            to_be_signed,
            key: self.key.clone(),
        })
    }
}

impl Unsigned {
    /// What the key has to sign: RSASSA-PKCS1-v1_5 or ECDSA (DER), with SHA-256.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.to_be_signed
    }

    /// The finished certificate.
    ///
    /// # Errors
    /// The signature is not by the key that the certificate is for.
    pub fn attach(&self, signature: &[u8]) -> Result<Certificate, X509Error> {
        if !self.key.accepts(&self.to_be_signed, signature) {
            return Err(X509Error::Signature);
        }
        Certificate::parse(&sequence(&[
            &self.to_be_signed,
            &self.key.certificate_algorithm(),
            &element(tag::BIT_STRING, &[&[0], signature]),
        ]))
    }
}

/// What a key that signs boot files, and no other certificate, says of itself.
fn extensions(key_id: &[u8]) -> Vec<u8> {
    let critical = element(tag::BOOLEAN, &[&[0xff]]);
    let octets = |value: &[u8]| element(tag::OCTET_STRING, &[value]);
    // Bit 0, digitalSignature; seven bits of the byte are unused.
    let usage = element(tag::BIT_STRING, &[&[7, 0x80]]);
    sequence(&[
        &sequence(&[
            &oid(id::BASIC_CONSTRAINTS),
            &critical,
            &octets(&sequence(&[])),
        ]),
        &sequence(&[&oid(id::KEY_USAGE), &critical, &octets(&usage)]),
        &sequence(&[&oid(id::SUBJECT_KEY), &octets(&octets(key_id))]),
    ])
}

/// A day as RFC 5280 section 4.1.2.5 writes it: two digits of the year until 2049, then four.
fn time(seconds: u64) -> Vec<u8> {
    let day = Day::of_unix(seconds).to_string().replace('-', "");
    let text = format!("{day}000000Z");
    if day.as_str() < "20500101" {
        element(tag::UTC_TIME, &[&text.as_bytes()[2..]])
    } else {
        element(tag::GENERALIZED_TIME, &[text.as_bytes()])
    }
}

#[cfg(test)]
mod tests;
