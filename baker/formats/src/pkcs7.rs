//! PKCS#7 `SignedData` with one signer, as firmware wants it (RFC 2315, RFC 5652).
//!
//! Used by Authenticode and by signed variable updates. No signing time is ever written: the same
//! key over the same bytes gives the same structure.

use baker_model::Digest;

use crate::der::{self, DerError, Element, Reader, element, oid, sequence, set, tag};
use crate::x509::{Certificate, id};

/// 1.2.840.113549.1.7.1
pub(crate) const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
/// 1.2.840.113549.1.9.3
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 3];
/// 1.2.840.113549.1.9.4
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 4];

/// The attributes that a signature covers instead of the content itself: the content's type and
/// its digest. A set; its bytes are what the key signs.
pub(crate) fn attributes(content_type: &[u8], content: &[u8]) -> Vec<u8> {
    let attribute = |kind: &[u8], value: &[u8]| sequence(&[&oid(kind), &set(&[value])]);
    let digest = Digest::of(content);
    set(&[
        &attribute(CONTENT_TYPE, &oid(content_type)),
        &attribute(
            MESSAGE_DIGEST,
            &element(tag::OCTET_STRING, &[digest.as_bytes()]),
        ),
    ])
}

/// `SignedData` that is to be written.
pub(crate) struct SignedData<'a> {
    /// Who signed.
    pub(crate) certificate: &'a Certificate,
    /// Type of the content.
    pub(crate) content_type: &'a [u8],
    /// The content with its own tag; none when it is elsewhere.
    pub(crate) content: Option<&'a [u8]>,
    /// The set that was signed, see [`attributes`]; none when the content itself was.
    pub(crate) attributes: Option<&'a [u8]>,
    /// The signature.
    pub(crate) signature: &'a [u8],
}

impl SignedData<'_> {
    /// `SignedData` alone, as signed variables want it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let one = element(tag::INTEGER, &[&[1]]);
        let sha256 = der::algorithm(id::SHA256);
        let content = self
            .content
            .map(|content| element(tag::context(0), &[content]))
            .unwrap_or_default();
        // Implicit: the same set under another tag.
        let attributes = self.attributes.map(|attributes| {
            let mut attributes = attributes.to_vec();
            attributes[0] = tag::context(0);
            attributes
        });
        let signer = sequence(&[
            &one,
            &self.certificate.issuer_and_serial(),
            &sha256,
            &attributes.unwrap_or_default(),
            &self.certificate.key().signer_algorithm(),
            &element(tag::OCTET_STRING, &[self.signature]),
        ]);
        sequence(&[
            &one,
            &set(&[&sha256]),
            &sequence(&[&oid(self.content_type), &content]),
            &element(tag::context(0), &[self.certificate.der()]),
            &set(&[&signer]),
        ])
    }

    /// Inside of `ContentInfo`, as Authenticode wants it.
    pub(crate) fn encode_with_type(&self) -> Vec<u8> {
        with_type(&self.encode())
    }
}

/// `SignedData` inside of `ContentInfo`.
pub(crate) fn with_type(signed: &[u8]) -> Vec<u8> {
    sequence(&[&oid(SIGNED_DATA), &element(tag::context(0), &[signed])])
}

/// `SignedData` that was read.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    /// Type of the content.
    pub(crate) content_type: &'a [u8],
    /// The content; none when it is elsewhere.
    pub(crate) content: Option<Element<'a>>,
    /// Certificates that it brings along, DER.
    pub(crate) certificates: Vec<&'a [u8]>,
    signers: Vec<Signer<'a>>,
}

#[derive(Debug)]
struct Signer<'a> {
    /// `IssuerAndSerialNumber`.
    certificate: &'a [u8],
    digest: &'a [u8],
    attributes: Option<Element<'a>>,
    signature: &'a [u8],
}

impl<'a> Parsed<'a> {
    /// Reads `ContentInfo`.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, DerError> {
        // Signers pad the table of certificates to 8 bytes, some inside of the entry.
        let mut inside = Reader::new(bytes).expect(tag::SEQUENCE)?.reader();
        if inside.expect(tag::OID)?.content != SIGNED_DATA {
            return Err(inside.problem("it is not signed data"));
        }
        let mut wrapped = inside.expect(tag::context(0))?.reader();
        let mut data = wrapped.expect(tag::SEQUENCE)?.reader();
        data.expect(tag::INTEGER)?;
        data.expect(tag::SET)?;
        let mut content_info = data.expect(tag::SEQUENCE)?.reader();
        let content_type = content_info.expect(tag::OID)?.content;
        let content = content_info
            .optional(tag::context(0))?
            .map(|wrapped| wrapped.reader().next())
            .transpose()?;
        let mut certificates = Vec::new();
        if let Some(list) = data.optional(tag::context(0))? {
            let mut list = list.reader();
            while !list.is_empty() {
                certificates.push(list.next()?.whole);
            }
        }
        data.optional(tag::context(1))?;
        let mut list = data.expect(tag::SET)?.reader();
        let mut signers = Vec::new();
        while !list.is_empty() {
            signers.push(signer(list.expect(tag::SEQUENCE)?.reader())?);
        }
        Ok(Self {
            content_type,
            content,
            certificates,
            signers,
        })
    }

    /// True when one signer is `certificate` and its signature stands over the content.
    pub(crate) fn is_signed_by(&self, certificate: &Certificate) -> bool {
        self.signature_by(certificate).is_some()
    }

    /// The signature of `certificate` over the content, when there is a good one.
    pub(crate) fn signature_by(&self, certificate: &Certificate) -> Option<&'a [u8]> {
        let name = certificate.issuer_and_serial();
        let named = self
            .signers
            .iter()
            .filter(|signer| signer.certificate == name);
        let content = self.content.map(|content| content.content);
        let mut good = named
            .filter(|signer| signer.digest == id::SHA256)
            .filter(|signer| match (signer.attributes, content) {
                (Some(found), Some(content)) => {
                    let mut message = found.whole.to_vec();
                    message[0] = tag::SET;
                    covers(found, self.content_type, content)
                        && certificate.key().accepts(&message, signer.signature)
                }
                (None, Some(content)) => certificate.key().accepts(content, signer.signature),
                (_, None) => false,
            });
        good.next().map(|signer| signer.signature)
    }
}

fn signer(mut signer: Reader<'_>) -> Result<Signer<'_>, DerError> {
    signer.expect(tag::INTEGER)?;
    let certificate = signer.expect(tag::SEQUENCE)?.whole;
    let digest = signer.expect(tag::SEQUENCE)?.reader().expect(tag::OID)?;
    let attributes = signer.optional(tag::context(0))?;
    signer.expect(tag::SEQUENCE)?;
    Ok(Signer {
        certificate,
        digest: digest.content,
        attributes,
        signature: signer.expect(tag::OCTET_STRING)?.content,
    })
}

/// True when the attributes name this type and the digest of this content, each once.
fn covers(attributes: Element<'_>, content_type: &[u8], content: &[u8]) -> bool {
    let values = |wanted: &[u8]| -> Result<Vec<&[u8]>, DerError> {
        let (mut list, mut found) = (attributes.reader(), Vec::new());
        while !list.is_empty() {
            let mut pair = list.expect(tag::SEQUENCE)?.reader();
            let kind = pair.expect(tag::OID)?.content;
            let mut set = pair.expect(tag::SET)?.reader();
            while kind == wanted && !set.is_empty() {
                found.push(set.next()?.content);
            }
        }
        Ok(found)
    };
    let digest = Digest::of(content);
    values(CONTENT_TYPE) == Ok(vec![content_type])
        && values(MESSAGE_DIGEST) == Ok(vec![digest.as_bytes().as_slice()])
}
