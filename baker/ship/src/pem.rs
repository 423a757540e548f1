//! Keys as PEM: PKCS#8 for private parts, SubjectPublicKeyInfo for public Ed25519 keys, and
//! certificates as they are.
//!
//! The one place that knows the crate `pkcs8` (RustCrypto, Apache-2.0 or MIT).

use ed25519_dalek::{SECRET_KEY_LENGTH, SigningKey};
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::der::{Document, SecretDocument, pem::LineEnding};
use pkcs8::spki::AlgorithmIdentifierRef;
use pkcs8::{EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef};
use zeroize::Zeroizing;

/// `id-Ed25519`, RFC 8410 section 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// DER of SubjectPublicKeyInfo up to the 32 bytes of the key (RFC 8410 section 4). DER leaves no
/// choice, so this prefix is the only one that a public Ed25519 key can have.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";

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
    #[error("the key is not an Ed25519 key")]
    Algorithm,
    /// A key of another kind than firmware takes.
    #[error("the key is not an RSA key of 2048 to 4096 bits")]
    NotRsa,
    /// An encrypted key, and no passphrase.
    #[error("the key is encrypted and no passphrase was given")]
    NoPassphrase,
    /// Decryption failed.
    #[error("the passphrase does not fit, or the file is damaged")]
    Decrypt(#[source] pkcs8::Error),
}

/// PKCS#8 PEM of a private Ed25519 key, see [`seal`].
pub(crate) fn encode_private(
    key: &SigningKey,
    passphrase: Option<&[u8]>,
) -> Result<Zeroizing<String>, PemError> {
    // RFC 8410 section 7: the private key octets are themselves an OCTET STRING of 32 bytes.
    let mut octets = Zeroizing::new([0; SECRET_KEY_LENGTH + 2]);
    octets[..2].copy_from_slice(&[0x04, 0x20]);
    octets[2..].copy_from_slice(key.as_bytes());
    let algorithm = AlgorithmIdentifierRef {
        oid: ED25519,
        parameters: None,
    };
    let octets = OctetStringRef::new(octets.as_slice()).map_err(PemError::Der)?;
    let info = PrivateKeyInfoRef::new(algorithm, octets);
    let document = SecretDocument::encode_msg(&info).map_err(PemError::Der)?;
    seal(document.as_bytes(), passphrase)
}

/// The private Ed25519 key in a PKCS#8 PEM text.
pub(crate) fn decode_private(
    text: &str,
    passphrase: Option<&[u8]>,
) -> Result<SigningKey, PemError> {
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

fn decode_private_der(document: &SecretDocument) -> Result<SigningKey, PemError> {
    let info: PrivateKeyInfoRef<'_> = document.decode_msg().map_err(PemError::Der)?;
    if info.algorithm.oid != ED25519 || info.algorithm.parameters.is_some() {
        return Err(PemError::Algorithm);
    }
    let octets = info.private_key.as_bytes();
    let secret = octets
        .strip_prefix(&[0x04, 0x20])
        .ok_or(PemError::Algorithm)?;
    let secret: &[u8; SECRET_KEY_LENGTH] = secret.try_into().map_err(|_| PemError::Algorithm)?;
    Ok(SigningKey::from_bytes(secret))
}

/// DER of SubjectPublicKeyInfo.
pub(crate) fn encode_public_der(key: &[u8; 32]) -> Vec<u8> {
    [&SPKI_PREFIX[..], &key[..]].concat()
}

/// PEM of SubjectPublicKeyInfo.
pub(crate) fn encode_public(key: &[u8; 32]) -> Result<String, PemError> {
    encode_public_document(&encode_public_der(key), PUBLIC)
}

/// The 32 bytes of the public key in a SubjectPublicKeyInfo PEM text.
pub(crate) fn decode_public(text: &str) -> Result<[u8; 32], PemError> {
    let der = decode_public_document(text, PUBLIC)?;
    let key = der.strip_prefix(&SPKI_PREFIX).ok_or(PemError::Algorithm)?;
    key.try_into().map_err(|_| PemError::Algorithm)
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
