//! Keys as PEM: PKCS#8 for private parts, SubjectPublicKeyInfo for public ones, and certificates
//! as they are.
//!
//! The one place that knows the crate `pkcs8` (RustCrypto, Apache-2.0 or MIT).

use ed25519_dalek::{SECRET_KEY_LENGTH, SigningKey, VerifyingKey};
use p256::ecdsa;
use pkcs8::der::asn1::{AnyRef, BitStringRef, OctetStringRef};
use pkcs8::der::{Decode as _, Document, SecretDocument, pem::LineEnding};
use pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use pkcs8::{EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef};
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::{RsaPublicKey, traits::PublicKeyParts as _};
use zeroize::Zeroizing;

use crate::public::Material;
use crate::secret::Secret;

/// `id-Ed25519`, RFC 8410 section 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// `id-ecPublicKey`, RFC 5480 section 2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// `secp256r1`, RFC 5480 section 2.1.1.1.
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// `rsaEncryption`, RFC 3279 section 2.3.1.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// DER of SubjectPublicKeyInfo up to the 32 bytes of the key (RFC 8410 section 4). DER leaves no
/// choice, so this prefix is the only one that a public Ed25519 key can have.
const ED25519_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// DER of SubjectPublicKeyInfo up to the 65 bytes of an uncompressed point on P-256 (RFC 5480).
/// Compressed points are refused: one key would have two ids.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
pub(crate) const PUBLIC: &str = "PUBLIC KEY";
const CERTIFICATE: &str = "CERTIFICATE";

/// Why a PEM file is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The text or the DER inside is malformed, or cannot be written.
    #[error("malformed PEM or DER")]
    Der(#[source] pkcs8::der::Error),
    /// The DER is no PKCS#8, or encryption failed.
    #[error("malformed PKCS#8")]
    Pkcs8(#[source] pkcs8::Error),
    /// A PEM file of something else.
    #[error("the PEM label is `{found}`, expected `{expected}`")]
    Label {
        /// The label found.
        found: String,
        /// The label or labels expected.
        expected: &'static str,
    },
    /// A key of another kind.
    #[error("the key is not one of Ed25519, ECDSA P-256 or RSA")]
    Algorithm,
    /// An RSA key of a size that firmware does not take, or a malformed one.
    #[error("the RSA key is malformed, or has not 2048 to 4096 bits")]
    Rsa,
    /// Not a point of the curve, or one for which anybody can forge signatures.
    #[error("the public key is no point of its curve that could be used")]
    Weak,
    /// An encrypted key, and no passphrase.
    #[error("the key is encrypted and no passphrase was given")]
    NoPassphrase,
    /// Decryption failed.
    #[error("the passphrase does not fit, or the file is damaged")]
    Decrypt(#[source] pkcs8::Error),
}

/// PKCS#8 DER of a private Ed25519 key.
pub(crate) fn encode_ed25519(key: &SigningKey) -> Result<Zeroizing<Vec<u8>>, PemError> {
    // RFC 8410 section 7: the private key octets are themselves an OCTET STRING of 32 bytes.
    let mut octets = Zeroizing::new([0; SECRET_KEY_LENGTH + 2]);
    octets[..2].copy_from_slice(&[0x04, 0x20]);
    octets[2..].copy_from_slice(key.as_bytes());
    let algorithm = AlgorithmIdentifierRef {
        oid: ED25519,
        parameters: None,
    };
    encode_private(algorithm, octets.as_slice())
}

/// PKCS#8 DER of a private P-256 key.
pub(crate) fn encode_p256(key: &ecdsa::SigningKey) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let octets = p256::SecretKey::from(key)
        .to_sec1_der()
        .map_err(|_| PemError::Algorithm)?;
    let algorithm = AlgorithmIdentifierRef {
        oid: EC,
        parameters: Some((&P256).into()),
    };
    encode_private(algorithm, &octets)
}

fn encode_private(
    algorithm: AlgorithmIdentifierRef<'_>,
    octets: &[u8],
) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let octets = OctetStringRef::new(octets).map_err(PemError::Der)?;
    let info = PrivateKeyInfoRef::new(algorithm, octets);
    let document = SecretDocument::encode_msg(&info).map_err(PemError::Der)?;
    Ok(Zeroizing::new(document.as_bytes().to_vec()))
}

/// The private key in a PKCS#8 PEM text.
pub(crate) fn decode_private(text: &str, passphrase: Option<&[u8]>) -> Result<Secret, PemError> {
    decode_private_der(&open(text, passphrase)?)
}

/// PEM of PKCS#8 DER; encrypted when there is a passphrase: PBES2 with scrypt (N = 2^14, r = 8,
/// p = 1, the most that OpenSSL 3 takes without being told) and AES-256-CBC.
pub(crate) fn seal(der: &[u8], passphrase: Option<&[u8]>) -> Result<Zeroizing<String>, PemError> {
    let document = SecretDocument::try_from(der).map_err(PemError::Der)?;
    let (label, document) = match passphrase {
        None => (PLAIN, document),
        Some(passphrase) => {
            let info: PrivateKeyInfoRef<'_> = document.decode_msg().map_err(PemError::Der)?;
            let mut randomness = getrandom::SysRng;
            let sealed = info.encrypt_with_rng(&mut randomness, passphrase);
            (ENCRYPTED, sealed.map_err(PemError::Pkcs8)?)
        }
    };
    document
        .to_pem(label, LineEnding::LF)
        .map_err(PemError::Der)
}

/// PKCS#8 DER out of a PEM text.
pub(crate) fn open(text: &str, passphrase: Option<&[u8]>) -> Result<SecretDocument, PemError> {
    let (label, document) = SecretDocument::from_pem(text).map_err(PemError::Der)?;
    match label {
        PLAIN => Ok(document),
        ENCRYPTED => {
            let passphrase = passphrase.ok_or(PemError::NoPassphrase)?;
            let info: EncryptedPrivateKeyInfoRef<'_> =
                document.decode_msg().map_err(PemError::Der)?;
            info.decrypt(passphrase).map_err(PemError::Decrypt)
        }
        other => {
            let expected = "PRIVATE KEY` or `ENCRYPTED PRIVATE KEY";
            Err(PemError::Label {
                found: other.to_owned(),
                expected,
            })
        }
    }
}

fn decode_private_der(document: &SecretDocument) -> Result<Secret, PemError> {
    let info: PrivateKeyInfoRef<'_> = document.decode_msg().map_err(PemError::Der)?;
    let octets = info.private_key.as_bytes();
    match info.algorithm.oid {
        ED25519 if info.algorithm.parameters.is_none() => {
            let secret = octets.strip_prefix(&[0x04, 0x20]);
            let secret: &[u8; SECRET_KEY_LENGTH] = secret
                .and_then(|secret| secret.try_into().ok())
                .ok_or(PemError::Algorithm)?;
            Ok(Secret::Ed25519(SigningKey::from_bytes(secret)))
        }
        EC if info.algorithm.parameters == Some((&P256).into()) => {
            let key = p256::SecretKey::from_sec1_der(octets).map_err(|_| PemError::Algorithm)?;
            Ok(Secret::EcdsaP256(key.into()))
        }
        RSA => Secret::rsa(document.as_bytes()),
        _ => Err(PemError::Algorithm),
    }
}

/// DER of SubjectPublicKeyInfo.
pub(crate) fn encode_public_der(key: &Material) -> Result<Vec<u8>, PemError> {
    match key {
        Material::Ed25519(key) => Ok([&ED25519_PREFIX[..], &key.as_bytes()[..]].concat()),
        Material::EcdsaP256(key) => {
            let point = key.to_encoded_point(false);
            Ok([&P256_PREFIX[..], point.as_bytes()].concat())
        }
        Material::Rsa(key) => {
            let info = SubjectPublicKeyInfoRef {
                algorithm: AlgorithmIdentifierRef {
                    oid: RSA,
                    parameters: Some(AnyRef::NULL),
                },
                subject_public_key: BitStringRef::from_bytes(key).map_err(PemError::Der)?,
            };
            let document = Document::encode_msg(&info).map_err(PemError::Der)?;
            Ok(document.as_bytes().to_vec())
        }
    }
}

/// DER of SubjectPublicKeyInfo for the bytes of a point; none when it can be on neither curve.
pub(crate) fn curve_der(point: &[u8]) -> Option<Vec<u8>> {
    let prefix: &[u8] = match point.len() {
        32 => &ED25519_PREFIX,
        65 => &P256_PREFIX,
        _ => return None,
    };
    Some([prefix, point].concat())
}

/// The key in DER of SubjectPublicKeyInfo. There is one way to write each key.
pub(crate) fn decode_public_der(der: &[u8]) -> Result<Material, PemError> {
    if let Some(key) = der.strip_prefix(&ED25519_PREFIX) {
        let key: &[u8; 32] = key.try_into().map_err(|_| PemError::Algorithm)?;
        return match VerifyingKey::from_bytes(key) {
            Ok(key) if !key.is_weak() => Ok(Material::Ed25519(key)),
            _ => Err(PemError::Weak),
        };
    }
    if let Some(point) = der.strip_prefix(&P256_PREFIX) {
        // Points of no more bytes than an uncompressed one has; that of infinity is refused.
        let key = ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(|_| PemError::Weak)?;
        return Ok(Material::EcdsaP256(key));
    }
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(PemError::Der)?;
    if info.algorithm.oid != RSA {
        return Err(PemError::Algorithm);
    }
    let key = info.subject_public_key.raw_bytes();
    let size = RsaPublicKey::from_pkcs1_der(key).map_err(|_| PemError::Rsa)?;
    if !(256..=512).contains(&size.size()) {
        return Err(PemError::Rsa);
    }
    Ok(Material::Rsa(key.into()))
}

/// The key in a SubjectPublicKeyInfo PEM text.
pub(crate) fn decode_public(text: &str) -> Result<Material, PemError> {
    decode_public_der(&decode_public_document(text, PUBLIC)?)
}

/// PEM of a certificate.
///
/// # Errors
/// Never for bytes of a sensible size.
pub fn certificate_to_pem(der: &[u8]) -> Result<String, PemError> {
    encode_public_document(der, CERTIFICATE)
}

/// DER of the certificate in a PEM text.
///
/// # Errors
/// It is no PEM, or of something else.
pub fn certificate_from_pem(text: &str) -> Result<Vec<u8>, PemError> {
    decode_public_document(text, CERTIFICATE)
}

/// PEM of DER that is no secret.
pub(crate) fn encode_public_document(der: &[u8], label: &'static str) -> Result<String, PemError> {
    let document = Document::try_from(der).map_err(PemError::Der)?;
    document
        .to_pem(label, LineEnding::LF)
        .map_err(PemError::Der)
}

/// The DER in a PEM text with this label.
pub(crate) fn decode_public_document(
    text: &str,
    expected: &'static str,
) -> Result<Vec<u8>, PemError> {
    let (label, document) = Document::from_pem(text).map_err(PemError::Der)?;
    if label == expected {
        Ok(document.as_bytes().to_vec())
    } else {
        Err(PemError::Label {
            found: label.to_owned(),
            expected,
        })
    }
}
