//! Authenticode: signatures of UEFI programs.
//!
//! Takes a program and a certificate, gives what the key has to sign; takes the signature, gives
//! the signed program. So the key may be in a file, on a token or in another building. Reads
//! signatures back and checks them against a certificate that the caller trusts; never judges
//! chains or times.
//!
//! ```text
//! hashed    the file, but for CheckSum, the directory entry of the certificate table, that table
//! signed    PKCS#7 SignedData over SpcIndirectDataContent, which holds the hash
//! at end    the table: entries of { length u32, revision 0x0200, type 2, PKCS#7 }, each at a
//!           multiple of 8
//! ```
//! After Microsoft's "Windows Authenticode Portable Executable Signature Format" and section 32.5.1
//! of the UEFI specification.

use std::ops::Range;

use baker_model::{Digest, Digester};

use super::append::{checked_sum, put, unsigned};
use super::image::{Image, PeError, optional};
use crate::der::{self, DerError, Reader, element, oid, sequence, tag};
use crate::pkcs7::{self, Parsed, SignedData};
use crate::x509::{Certificate, id};

/// `SPC_INDIRECT_DATA_OBJID`, 1.3.6.1.4.1.311.2.1.4
const INDIRECT_DATA: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 4];
/// `SPC_PE_IMAGE_DATA_OBJID`, 1.3.6.1.4.1.311.2.1.15
const PE_IMAGE_DATA: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 15];
/// The file name that Authenticode demands and nobody reads.
const FILE: &str = "<<<Obsolete>>>";

/// Entries of the certificate table begin at multiples of this.
const ALIGNMENT: usize = 8;
/// Bytes of an entry in front of its PKCS#7.
const ENTRY_HEADER: usize = 8;
/// `WIN_CERT_REVISION_2_0`.
const REVISION: u16 = 0x0200;
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
const PKCS_SIGNED_DATA: u16 = 2;

/// A program cannot be signed, or its signatures do not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticodeError {
    /// It is no program that can be signed.
    #[error("cannot sign or check the UEFI program")]
    Pe(#[from] PeError),
    /// A signature in it is malformed.
    #[error("cannot read the signature of the UEFI program")]
    Der(#[from] DerError),
    /// The signature to attach is not by the key of the certificate.
    #[error("the signature is not one by the key of the certificate `{name}`")]
    Signature {
        /// Name of the certificate.
        name: String,
    },
    /// It has no signature.
    #[error("the UEFI program is not signed")]
    Unsigned,
    /// It has signatures, by others.
    #[error(
        "the UEFI program is signed by {}, not by `{wanted}`",
        found.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    )]
    Stranger {
        /// Name of the certificate that is trusted.
        wanted: String,
        /// Names of the certificates found.
        found: Vec<String>,
    },
    /// It was changed after it was signed.
    #[error("the UEFI program was altered: its digest is {found}, {signed} was signed")]
    Altered {
        /// The digest in the signature.
        signed: Digest,
        /// The digest of the program.
        found: Digest,
    },
}

/// The Authenticode SHA-256 digest of a program, signed or not.
///
/// # Errors
/// It is no PE32+ file, has no directory entry for signatures, or its sections overlap or leave
/// gaps, over which verifiers disagree.
pub fn digest(program: &[u8]) -> Result<Digest, PeError> {
    let headers = Image::parse(program)?;
    let end = table(program, &headers)?.map_or(program.len(), |table| table.start);
    digest_of(&program[..end], &headers)
}

fn digest_of(program: &[u8], headers: &Image) -> Result<Digest, PeError> {
    let entry = entry(headers)?;
    check_order(headers)?;
    let sum = headers.optional + optional::CHECK_SUM;
    let mut digester = Digester::new();
    for part in [0..sum, sum + 4..entry, entry + 8..program.len()] {
        let cut = PeError::Format {
            offset: part.start,
            problem: "it is cut off",
        };
        digester.update(program.get(part).ok_or(cut)?);
    }
    // What is signed ends at a multiple of 8, where the table will begin.
    let padding = program.len().next_multiple_of(ALIGNMENT) - program.len();
    digester.update(&[0; ALIGNMENT][..padding]);
    Ok(digester.finish())
}

/// Offset of the directory entry of the certificate table.
fn entry(headers: &Image) -> Result<usize, PeError> {
    if headers.has_certificate_entry {
        return Ok(headers.optional + optional::CERTIFICATES);
    }
    Err(PeError::Format {
        offset: headers.optional,
        problem: "it has no directory entry for signatures",
    })
}

/// Firmware hashes headers and sections in the order of their offsets, then what follows. That is
/// the whole file only when they touch.
fn check_order(headers: &Image) -> Result<(), PeError> {
    let filled = headers
        .sections
        .iter()
        .filter(|section| section.raw_size > 0);
    let mut places: Vec<_> = filled
        .map(|section| (section.raw_offset, section.raw_size))
        .collect();
    places.sort_unstable();
    let mut end = u64::from(headers.size_of_headers);
    for (offset, size) in places {
        if u64::from(offset) != end {
            return Err(PeError::Format {
                offset: offset as usize,
                problem: "a section does not begin where the one before it ends",
            });
        }
        end += u64::from(size);
    }
    Ok(())
}

/// Where the certificate table lies; it must be the last of the file.
fn table(program: &[u8], headers: &Image) -> Result<Option<Range<usize>>, PeError> {
    let Some((offset, size)) = headers.certificates else {
        return Ok(None);
    };
    let start = unsigned(program, headers)?.len();
    debug_assert_eq!(start, offset as usize);
    Ok(Some(start..start + size as usize))
}

/// The program without its signatures.
///
/// # Errors
/// It is no PE32+ file, or its signatures are not at its end.
pub fn strip(program: &[u8]) -> Result<Vec<u8>, PeError> {
    let headers = Image::parse(program)?;
    let mut bytes = unsigned(program, &headers)?;
    set_checksum(&mut bytes, &headers);
    Ok(bytes)
}

fn set_checksum(bytes: &mut [u8], headers: &Image) {
    let field = headers.optional + optional::CHECK_SUM;
    let sum = checked_sum(bytes, field);
    put(bytes, field, sum);
}

/// A program that lacks nothing but its signature.
#[derive(Debug, Clone)]
pub struct Unsigned {
    program: Vec<u8>,
    headers: Image,
    certificate: Certificate,
    content: Vec<u8>,
    message: Vec<u8>,
}

/// The program of somebody who has no key, with the signatures that `signed` carries; and whether
/// they are for this program: whether the digest that was signed is its digest.
///
/// # Errors
/// One of them is no program, or `signed` carries no signature that can be read.
pub fn adopt(program: &[u8], signed: &[u8]) -> Result<(Vec<u8>, bool), AuthenticodeError> {
    attach_table(program, certificate_table(signed)?)
}

/// The certificate table of a signed program: all its signatures, as they lie in it.
///
/// # Errors
/// It is no PE32+ file, or it has no signature.
pub fn certificate_table(signed: &[u8]) -> Result<&[u8], AuthenticodeError> {
    let headers = Image::parse(signed)?;
    let range = table(signed, &headers)?.ok_or(AuthenticodeError::Unsigned)?;
    Ok(signed.get(range).unwrap_or_default())
}

/// The program with a certificate table in place of any that it has; and whether all signatures in
/// the table are for this program.
///
/// # Errors
/// It is no program, or the table holds no signature that can be read.
pub fn attach_table(program: &[u8], entries: &[u8]) -> Result<(Vec<u8>, bool), AuthenticodeError> {
    let taken = signatures_in(entries, 0)?;
    if taken.is_empty() {
        return Err(AuthenticodeError::Unsigned);
    }
    let headers = Image::parse(program)?;
    let mut bytes = unsigned(program, &headers)?;
    let digest = digest_of(&bytes, &headers)?;
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    let too_large = |_| PeError::TooLarge;
    let start = u32::try_from(bytes.len()).map_err(too_large)?;
    let size = u32::try_from(entries.len()).map_err(too_large)?;
    bytes.extend_from_slice(entries);
    let entry = entry(&headers)?;
    put(&mut bytes, entry, start);
    put(&mut bytes, entry + 4, size);
    set_checksum(&mut bytes, &headers);
    let agrees = taken
        .iter()
        .all(|signature| signature.digest == Some(digest));
    Ok((bytes, agrees))
}

/// The program with the signature by `certificate` that `signed` carries, put together anew: all
/// that others may have added to the table of `signed` is not in it.
///
/// # Errors
/// One of them is no program, or `signed` carries no signature by `certificate` over `program`.
pub fn carry_over(
    program: &[u8],
    signed: &[u8],
    certificate: &Certificate,
) -> Result<Vec<u8>, AuthenticodeError> {
    for signature in signatures(signed)? {
        if let Some(bytes) = Parsed::read(&signature.der)?.signature_by(certificate) {
            return prepare(program, certificate)?.attach(bytes);
        }
    }
    Err(AuthenticodeError::Unsigned)
}

/// What is needed to sign `program` in the name of `certificate`. Signatures that it has already
/// are left out.
///
/// # Errors
/// The program cannot be signed.
pub fn prepare(program: &[u8], certificate: &Certificate) -> Result<Unsigned, AuthenticodeError> {
    let headers = Image::parse(program)?;
    let mut program = unsigned(program, &headers)?;
    let digest = digest_of(&program, &headers)?;
    program.resize(program.len().next_multiple_of(ALIGNMENT), 0);
    let content = indirect_data(&digest);
    // The digest is over the inside of the sequence.
    let inside = Reader::new(&content).expect(tag::SEQUENCE)?.content;
    let message = pkcs7::attributes(INDIRECT_DATA, inside);
    Ok(Unsigned {
        program,
        headers,
        certificate: certificate.clone(),
        content,
        message,
    })
}

impl Unsigned {
    /// What the key has to sign: RSASSA-PKCS1-v1_5 or ECDSA (DER), with SHA-256.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The signed program.
    ///
    /// # Errors
    /// The signature is not by the key of the certificate.
    pub fn attach(self, signature: &[u8]) -> Result<Vec<u8>, AuthenticodeError> {
        if !self.certificate.key().accepts(&self.message, signature) {
            return Err(AuthenticodeError::Signature {
                name: self.certificate.name(),
            });
        }
        let signed = SignedData {
            certificate: &self.certificate,
            content_type: INDIRECT_DATA,
            content: Some(&self.content),
            attributes: Some(&self.message),
            signature,
        };
        let signed = signed.encode_with_type();
        let too_large = |_| PeError::TooLarge;
        let length = u32::try_from(ENTRY_HEADER + signed.len()).map_err(too_large)?;
        let mut bytes = self.program;
        let start = u32::try_from(bytes.len()).map_err(too_large)?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&REVISION.to_le_bytes());
        bytes.extend_from_slice(&PKCS_SIGNED_DATA.to_le_bytes());
        bytes.extend_from_slice(&signed);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        let end = u32::try_from(bytes.len()).map_err(too_large)?;
        let entry = entry(&self.headers)?;
        put(&mut bytes, entry, start);
        put(&mut bytes, entry + 4, end - start);
        set_checksum(&mut bytes, &self.headers);
        Ok(bytes)
    }
}

/// `SpcIndirectDataContent`: a digest, and words about what it is a digest of.
fn indirect_data(digest: &Digest) -> Vec<u8> {
    let name: Vec<u8> = FILE.encode_utf16().flat_map(u16::to_be_bytes).collect();
    // SpcLink, alternative `file`: a SpcString, alternative `unicode`.
    let file = element(
        tag::context(2),
        &[&element(tag::context_primitive(0), &[&name])],
    );
    let image = sequence(&[
        &element(tag::BIT_STRING, &[&[0]]),
        &element(tag::context(0), &[&file]),
    ]);
    sequence(&[
        &sequence(&[&oid(PE_IMAGE_DATA), &image]),
        &sequence(&[
            &der::algorithm(id::SHA256),
            &element(tag::OCTET_STRING, &[digest.as_bytes()]),
        ]),
    ])
}

/// One signature of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The digest that was signed; none when it is not SHA-256.
    pub digest: Option<Digest>,
    /// Names of the certificates that it brings along.
    pub names: Vec<String>,
    /// DER of PKCS#7.
    pub der: Vec<u8>,
}

/// The signatures of a program, in their order. Nothing is checked.
///
/// # Errors
/// It is no PE32+ file, or the table or a signature is malformed.
pub fn signatures(program: &[u8]) -> Result<Vec<Signature>, AuthenticodeError> {
    let headers = Image::parse(program)?;
    let Some(table) = table(program, &headers)? else {
        return Ok(Vec::new());
    };
    let start = table.start;
    signatures_in(program.get(table).unwrap_or_default(), start)
}

/// The signatures of a certificate table that begins at `start` of its file.
fn signatures_in(mut rest: &[u8], start: usize) -> Result<Vec<Signature>, AuthenticodeError> {
    let mut found = Vec::new();
    while let Some((header, _)) = rest.split_first_chunk::<ENTRY_HEADER>() {
        let [a, b, c, d, _, _, kind, high] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let body = rest.get(ENTRY_HEADER..length).ok_or(PeError::Format {
            offset: start,
            problem: "its certificate table is damaged",
        })?;
        if u16::from_le_bytes([kind, high]) == PKCS_SIGNED_DATA {
            found.push(signature(body)?);
        }
        rest = rest
            .get(length.next_multiple_of(ALIGNMENT)..)
            .unwrap_or_default();
    }
    Ok(found)
}

fn signature(der: &[u8]) -> Result<Signature, DerError> {
    let parsed = Parsed::read(der)?;
    let certificates = parsed.certificates.iter();
    Ok(Signature {
        digest: signed_digest(&parsed)?,
        names: certificates
            .filter_map(|der| Certificate::parse(der).ok())
            .map(|certificate| certificate.name())
            .collect(),
        der: der.to_vec(),
    })
}

fn signed_digest(parsed: &Parsed<'_>) -> Result<Option<Digest>, DerError> {
    let Some(content) = parsed.content else {
        return Ok(None);
    };
    if parsed.content_type != INDIRECT_DATA {
        return Ok(None);
    }
    let mut content = content.reader();
    content.expect(tag::SEQUENCE)?;
    let mut info = content.expect(tag::SEQUENCE)?.reader();
    let algorithm = info.expect(tag::SEQUENCE)?.reader().expect(tag::OID)?;
    let bytes = info.expect(tag::OCTET_STRING)?.content;
    let known = (algorithm.content == id::SHA256).then_some(bytes);
    Ok(known
        .and_then(|bytes| bytes.try_into().ok())
        .map(Digest::from_bytes))
}

/// Checks that `program` carries a signature by the key of `certificate`, as firmware with this
/// certificate in its `db` would.
///
/// # Errors
/// It does not, and why.
pub fn verify(program: &[u8], certificate: &Certificate) -> Result<(), AuthenticodeError> {
    let all = signatures(program)?;
    if all.is_empty() {
        return Err(AuthenticodeError::Unsigned);
    }
    let found = digest(program)?;
    let mut altered = None;
    for signature in &all {
        if !Parsed::read(&signature.der)?.is_signed_by(certificate) {
            continue;
        }
        match signature.digest {
            Some(signed) if signed == found => return Ok(()),
            other => altered = other.or(altered),
        }
    }
    Err(match altered {
        Some(signed) => AuthenticodeError::Altered { signed, found },
        None => AuthenticodeError::Stranger {
            wanted: certificate.name(),
            found: all
                .into_iter()
                .flat_map(|signature| signature.names)
                .collect(),
        },
    })
}

#[cfg(test)]
#[path = "authenticode_tests.rs"]
mod tests;
