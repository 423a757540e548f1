//! Signed updates of variables: what `.auth` files hold.
//!
//! ```text
//!  0  time, EFI_TIME                      24  gEfiCertPkcs7Guid
//! 16  bytes from here to the list, u32    40  PKCS#7 SignedData, no content
//! 20  0x0200, 0x0ef1                      then  the new value
//! ```
//! Signed are name, vendor, attributes, time and value, one after the other
//! (`EFI_VARIABLE_AUTHENTICATION_2`, UEFI section 8.2.2). edk2 looks for the digest's name at a
//! fixed place, so `SignedData` stands alone and has no attributes of its own.

use super::{Guid, KEY_ATTRIBUTES, KeyRole, Time};
use crate::pkcs7::{self, SignedData};
use crate::x509::Certificate;

/// `WIN_CERTIFICATE` with a GUID: length, revision, type.
const CERTIFICATE_HEADER: usize = 8;
/// `WIN_CERT_REVISION_2_0` and `WIN_CERT_TYPE_EFI_GUID`.
const REVISION_AND_TYPE: [u8; 4] = [0, 2, 0xf1, 0x0e];

/// The update cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The signature to attach is not by the key of the certificate.
    #[error("the signature is not one by the key of the certificate `{name}`")]
    Signature {
        /// Name of the certificate.
        name: String,
    },
    /// The value is too large to be a variable.
    #[error("the update of `{variable}` is larger than 4 GiB")]
    TooLarge {
        /// Name of the variable.
        variable: &'static str,
    },
}

/// A new value for `PK`, `KEK` or `db`.
#[derive(Debug, Clone, Copy)]
pub struct Update<'a> {
    /// Which variable.
    pub role: KeyRole,
    /// Its value, [`super::signature_list`].
    pub value: &'a [u8],
    /// When it was made. Firmware refuses updates that are not newer than what it has.
    pub time: Time,
    /// Who signs: the platform key for itself and `KEK`, `KEK` for `db`.
    pub signer: &'a Certificate,
}

/// An update that lacks nothing but its signature.
#[derive(Debug, Clone)]
pub struct Unsigned<'a> {
    update: Update<'a>,
    message: Vec<u8>,
}

impl<'a> Update<'a> {
    /// What is needed to sign the update.
    #[must_use]
    pub fn prepare(self) -> Unsigned<'a> {
        let name = self.role.name().encode_utf16().flat_map(u16::to_le_bytes);
        let mut message: Vec<u8> = name.collect();
        message.extend_from_slice(&self.role.vendor().0);
        message.extend_from_slice(&KEY_ATTRIBUTES.to_le_bytes());
        message.extend_from_slice(&self.time.0);
        message.extend_from_slice(self.value);
        Unsigned {
            update: self,
            message,
        }
    }
}

impl Unsigned<'_> {
    /// What the key has to sign: RSASSA-PKCS1-v1_5, with SHA-256.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The bytes of the `.auth` file.
    ///
    /// # Errors
    /// The signature is not by the key of the certificate.
    pub fn attach(&self, signature: &[u8]) -> Result<Vec<u8>, UpdateError> {
        let Update {
            role,
            value,
            time,
            signer,
        } = self.update;
        if !signer.key().accepts(&self.message, signature) {
            return Err(UpdateError::Signature {
                name: signer.name(),
            });
        }
        let signed = SignedData {
            certificate: signer,
            content_type: pkcs7::DATA,
            content: None,
            attributes: None,
            signature,
        };
        let signed = signed.encode();
        let length = CERTIFICATE_HEADER + Guid::CERT_PKCS7.0.len() + signed.len();
        let length = u32::try_from(length).map_err(|_| UpdateError::TooLarge {
            variable: role.name(),
        })?;
        Ok([
            &time.0[..],
            &length.to_le_bytes(),
            &REVISION_AND_TYPE,
            &Guid::CERT_PKCS7.0,
            &signed,
            value,
        ]
        .concat())
    }
}
