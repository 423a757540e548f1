//! `EFI_SIGNATURE_LIST`: the content of `PK`, `KEK` and `db`, and of `.esl` files.
//!
//! ```text
//!  0  type of the entries, a GUID        28  then entries:
//! 16  bytes of the whole list, u32            0  owner, a GUID
//! 20  bytes of a header: 0, u32              16  the certificate, DER
//! 24  bytes of one entry, u32
//! ```

use super::{Guid, StoreError};
use crate::x509::Certificate;

/// Bytes of a list in front of its entries.
const HEADER: usize = 28;
/// Bytes of an entry in front of its certificate.
const OWNER: usize = 16;

/// The list with this one certificate.
#[must_use]
pub fn signature_list(owner: Guid, certificate: &Certificate) -> Vec<u8> {
    let der = certificate.der();
    // A certificate has a few kilobytes; `u32::MAX` would make a list that no reader takes.
    let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes();
    [
        &Guid::CERT_X509.0[..],
        &size(HEADER + OWNER + der.len()),
        &size(0),
        &size(OWNER + der.len()),
        &owner.0,
        der,
    ]
    .concat()
}

/// The owner that lists made for this platform key name.
#[must_use]
pub fn owner(platform: &Certificate) -> Guid {
    Guid::of_uuid(
        platform
            .fingerprint()
            .derive("secure-boot owner")
            .to_uuid_bytes(),
    )
}

/// The certificates in lists that follow one another, with their owners. Entries of other kinds
/// are left out.
///
/// # Errors
/// The lists are malformed, or a certificate cannot be read.
pub fn read_signature_lists(mut bytes: &[u8]) -> Result<Vec<(Guid, Certificate)>, StoreError> {
    let damaged = StoreError::List;
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let header = bytes.get(..HEADER).ok_or(damaged.clone())?;
        let number = |at: usize| {
            let bytes = header[at..].first_chunk().copied().unwrap_or_default();
            u32::from_le_bytes(bytes) as usize
        };
        let (whole, extra, entry) = (number(16), number(20), number(24));
        let list = bytes.get(..whole).ok_or(damaged.clone())?;
        let entries = HEADER
            .checked_add(extra)
            .and_then(|start| list.get(start..))
            .ok_or(damaged.clone())?;
        if entry <= OWNER || !entries.len().is_multiple_of(entry) {
            return Err(damaged);
        }
        if header.starts_with(&Guid::CERT_X509.0) {
            for entry in entries.chunks_exact(entry) {
                let owner = entry.first_chunk().copied().unwrap_or_default();
                let certificate =
                    Certificate::parse(&entry[OWNER..]).map_err(StoreError::Certificate)?;
                found.push((Guid(owner), certificate));
            }
        }
        bytes = &bytes[whole..];
    }
    Ok(found)
}
