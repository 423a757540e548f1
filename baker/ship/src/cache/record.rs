//! Who vouches for a shared result.
//!
//! A record is a DSSE envelope (see [`crate::dsse`]) of at most [`super::RECORD_LIMIT`] bytes around:
//!
//! ```json
//! {"record-version":1,
//!  "kind":"packed","key":"<64 hex digits>",
//!  "sha256":"<digest of the blob>","size":34567,
//!  "objects":[{"sha256":"<digest>","size":123}]}
//! ```
//!
//! | field | is |
//! |---|---|
//! | `kind`, `key` | what the result is, and of what: a record says the same in whatever place it lies, so that two cannot change places |
//! | `sha256`, `size` | the result, as it lies in the cache and in a store: nothing is compressed for the way, for everything that is shared is compressed already |
//! | `objects` | what the result names by its digest and is nothing without; absent when there is nothing |
//!
//! The type of the payload stands under the signature too: no signature over something else, such
//! as a release, is one over a record.

use std::fs::File;
use std::io;
use std::path::Path;

use baker_model::{Digest, Digester};
use serde::{Deserialize, Serialize};

use super::{BLOB_LIMIT, RECORD_LIMIT, Slot};
use crate::dsse::{Answer, DsseError, Envelope};
use crate::folder::BUFFER;
use crate::signer::{Signer, SigningError};
use crate::trust::Trust;

/// The type of the payload.
pub const KEPT_TYPE: &str = "application/vnd.baker.kept+json";

/// The version of records that this baker writes, and the only one that it reads.
pub const RECORD_VERSION: u32 = 1;

/// The most objects that a result may name.
const OBJECTS_LIMIT: usize = 16;

/// What an entry consists of, as its signer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The result.
    pub result: Blob,
    /// What it names and is nothing without.
    pub objects: Vec<Blob>,
}

/// Bytes by digest and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Blob {
    /// Their digest.
    pub sha256: Digest,
    /// Their number.
    pub size: u64,
}

/// The payload as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    record_version: u32,
    kind: String,
    key: Digest,
    sha256: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    objects: Vec<Blob>,
}

/// A record that is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// More bytes than a record has.
    #[error("its record has more than {RECORD_LIMIT} bytes")]
    TooLarge,
    /// No envelope.
    #[error("its record is no signed envelope")]
    Envelope(#[source] DsseError),
    /// Something else that somebody signed.
    #[error("its record is signed as `{found}`, which is something else")]
    OtherType {
        /// The type of the payload, cut to some 80 characters.
        found: String,
    },
    /// A signature in the name of a trusted key that is not that key's.
    #[error("the signature in the name of the cache key `{name}` is not over this record")]
    Forged {
        /// Name of the key.
        name: String,
    },
    /// Nobody signed whom we trust, or too few did.
    #[error("{found} trusted cache keys signed its record, {threshold} must; it names {named}")]
    Stranger {
        /// Trusted keys with a good signature, those without a successor.
        found: usize,
        /// How many there must be.
        threshold: usize,
        /// The key ids that the record names.
        named: String,
    },
    /// A signed payload that is no record.
    #[error("its record, signed by `{signer}`, cannot be parsed")]
    Syntax {
        /// Name of the key.
        signer: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A signed record of another baker.
    #[error(
        "its record, signed by `{signer}`, has the version {found}; this baker reads {RECORD_VERSION}"
    )]
    Version {
        /// Name of the key.
        signer: String,
        /// The version.
        found: u32,
    },
    /// A signed record that lies where another one belongs.
    #[error("its record, signed by `{signer}`, is that of {found}")]
    Swapped {
        /// Name of the key.
        signer: String,
        /// What it is the record of.
        found: String,
    },
    /// More bytes or objects than are ever brought.
    #[error("its record, signed by `{signer}`, names more than is ever brought")]
    Sizes {
        /// Name of the key.
        signer: String,
    },
}

impl Blob {
    /// These bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            sha256: Digest::of(bytes),
            size: bytes.len() as u64,
        }
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let (mut digester, mut size) = (Digester::new(), 0);
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = io::Read::read(&mut file, &mut buffer)?;
            if count == 0 {
                let sha256 = digester.finish();
                return Ok(Self { sha256, size });
            }
            digester.update(&buffer[..count]);
            size += count as u64;
        }
    }
}

impl Kept {
    /// An entry of one blob.
    #[must_use]
    pub const fn new(result: Blob) -> Self {
        Self {
            result,
            objects: Vec::new(),
        }
    }

    /// All that it consists of: the result first.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.result).chain(&self.objects)
    }

    /// Bytes of all of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blobs()
            .fold(0, |bytes, blob| bytes.saturating_add(blob.size))
    }

    /// The record of this entry for `slot`.
    ///
    /// # Errors
    /// The signer gives no signature.
    pub fn sign(&self, slot: &Slot, signer: &dyn Signer) -> Result<Vec<u8>, SigningError> {
        let written = Written {
            record_version: RECORD_VERSION,
            kind: slot.kind.to_owned(),
            key: slot.key,
            sha256: self.result.sha256,
            size: self.result.size,
            objects: self.objects.clone(),
        };
        let payload = serde_json::to_vec(&written).expect("a record holds only plain data");
        let mut envelope = Envelope::new(KEPT_TYPE, payload);
        envelope.sign(signer)?;
        Ok(envelope.to_line())
    }

    /// Reads the record of `slot`. Nothing of the payload is looked at before its signatures are
    /// checked.
    ///
    /// # Errors
    /// It is no record, of something else, or signed by nobody whom `trust` knows. A key that has a
    /// successor counts no more: a record has no date.
    pub fn open(bytes: &[u8], slot: &Slot, trust: &Trust) -> Result<Self, RecordError> {
        if bytes.len() as u64 > RECORD_LIMIT {
            return Err(RecordError::TooLarge);
        }
        let envelope = Envelope::parse(bytes).map_err(RecordError::Envelope)?;
        if envelope.payload_type() != KEPT_TYPE {
            let found = envelope.payload_type().chars().take(80);
            let found = found.flat_map(char::escape_debug).collect();
            return Err(RecordError::OtherType { found });
        }
        let signer = signer_of(&envelope, trust)?;
        let written: Written = match serde_json::from_slice(envelope.payload()) {
            Ok(written) => written,
            Err(source) => return Err(RecordError::Syntax { signer, source }),
        };
        if written.record_version != RECORD_VERSION {
            let found = written.record_version;
            return Err(RecordError::Version { signer, found });
        }
        if written.kind != slot.kind || written.key != slot.key {
            let found = format!("{}-{}", written.kind.escape_debug(), written.key);
            return Err(RecordError::Swapped { signer, found });
        }
        let kept = Self {
            result: Blob {
                sha256: written.sha256,
                size: written.size,
            },
            objects: written.objects,
        };
        if kept.objects.len() > OBJECTS_LIMIT || kept.bytes() > BLOB_LIMIT {
            return Err(RecordError::Sizes { signer });
        }
        Ok(kept)
    }
}

/// The name of a trusted key that signed; as many must have signed as the trust asks for.
fn signer_of(envelope: &Envelope, trust: &Trust) -> Result<String, RecordError> {
    let (mut names, mut ids, mut named) = (Vec::new(), Vec::new(), Vec::new());
    for answer in envelope.answers(trust) {
        match answer {
            Answer::Forged(signer) => return Err(RecordError::Forged { name: signer.name }),
            Answer::Good { signer, .. } => {
                named.push(signer.name.clone());
                let counts = trust.retired(&signer.key_id).is_none();
                if counts && !ids.contains(&signer.key_id) {
                    ids.push(signer.key_id);
                    names.push(signer.name);
                }
            }
            Answer::Unknown(id) => {
                let shown = id.chars().take(64).flat_map(char::escape_debug);
                named.push(shown.collect());
            }
        }
    }
    let threshold = trust.threshold().get();
    if names.len() < threshold {
        named.truncate(4);
        return Err(RecordError::Stranger {
            found: names.len(),
            threshold,
            named: named.join(", "),
        });
    }
    Ok(names.swap_remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Purpose};

    const SLOT: Slot = Slot {
        kind: "packed",
        key: Digest::from_bytes([7; 32]),
    };

    fn key(name: &str, seed: u8) -> Key {
        Key::from_seed(name, Purpose::Release, &[seed; 32])
    }

    fn kept() -> Kept {
        Kept {
            result: Blob::of(b"result"),
            objects: vec![Blob::of(b"object")],
        }
    }

    fn signed(payload: &str, payload_type: &str, key: &Key) -> Vec<u8> {
        let mut envelope = Envelope::new(payload_type, payload.as_bytes().to_vec());
        envelope.sign(key).unwrap();
        envelope.to_line()
    }

    fn payload(version: u32, size: u64) -> String {
        format!(
            "{{\"record-version\":{version},\"kind\":\"packed\",\"key\":\"{}\",\"sha256\":\"{}\",\
             \"size\":{size}}}",
            SLOT.key, SLOT.key
        )
    }

    #[test]
    fn a_record_comes_back_by_its_slot_and_key_alone() {
        let trust = Trust::of([key("a", 1).public()]);
        let record = kept().sign(&SLOT, &key("a", 1)).unwrap();
        assert_eq!(Kept::open(&record, &SLOT, &trust).unwrap(), kept());
        assert_eq!(
            SLOT.address(),
            Digest::of(format!("packed-{}", "07".repeat(32)).as_bytes())
        );
        // What other bakers write must be read for ever: the payload is pinned.
        let text = String::from_utf8(Envelope::parse(&record).unwrap().payload().to_vec());
        let expected = format!(
            "{{\"record-version\":1,\"kind\":\"packed\",\"key\":\"{}\",\"sha256\":\"{}\",\"size\":6,\
             \"objects\":[{{\"sha256\":\"{}\",\"size\":6}}]}}",
            SLOT.key,
            Digest::of(b"result"),
            Digest::of(b"object")
        );
        assert_eq!(text.unwrap(), expected);
    }

    #[test]
    fn what_is_signed_for_another_slot_is_refused() {
        let trust = Trust::of([key("a", 1).public()]);
        let record = kept().sign(&SLOT, &key("a", 1)).unwrap();
        let others = [
            Slot {
                kind: "initrd",
                ..SLOT
            },
            Slot {
                key: Digest::of(b"x"),
                ..SLOT
            },
        ];
        for other in others {
            let error = Kept::open(&record, &other, &trust).unwrap_err();
            let names = error.to_string().contains(&SLOT.to_string());
            assert!(
                matches!(error, RecordError::Swapped { .. }) && names,
                "{error}"
            );
        }
    }

    #[test]
    fn nobody_but_a_trusted_key_vouches() {
        let (ours, strange) = (key("a", 1), key("b", 2));
        let trust = Trust::of([ours.public()]);
        let record = kept().sign(&SLOT, &strange).unwrap();
        let error = Kept::open(&record, &SLOT, &trust).unwrap_err();
        let id = strange.public().id().to_string();
        assert!(
            matches!(error, RecordError::Stranger { found: 0, .. })
                && error.to_string().contains(&id),
            "{error}"
        );
        let nobody = Kept::open(&record, &SLOT, &Trust::default());
        assert!(matches!(nobody, Err(RecordError::Stranger { .. })));
        // The name of a key is no signature by it.
        let good = kept().sign(&SLOT, &ours).unwrap();
        let mut other = Envelope::new(KEPT_TYPE, payload(1, 5).into_bytes());
        let text = String::from_utf8(good.clone()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        other.add(ours.public().id(), b"no signature at all".to_vec());
        let mut forged: serde_json::Value = serde_json::from_slice(&other.to_line()).unwrap();
        for signatures in [forged["signatures"].clone(), value["signatures"].clone()] {
            forged["signatures"] = signatures;
            let bytes = serde_json::to_vec(&forged).unwrap();
            let error = Kept::open(&bytes, &SLOT, &trust).unwrap_err();
            assert!(
                matches!(&error, RecordError::Forged { name } if name == "a"),
                "{error}"
            );
        }
        let two = Trust::of([ours.public(), strange.public()]);
        let two = two.with_threshold(std::num::NonZeroUsize::new(2).unwrap());
        let few = Kept::open(&good, &SLOT, &two).unwrap_err();
        assert!(matches!(few, RecordError::Stranger { found: 1, .. }));
    }

    #[test]
    fn a_record_with_any_byte_missing_or_changed_is_refused() {
        let trust = Trust::of([key("a", 1).public()]);
        let record = kept().sign(&SLOT, &key("a", 1)).unwrap();
        for length in 0..record.len() {
            assert!(
                Kept::open(&record[..length], &SLOT, &trust).is_err(),
                "cut to {length}"
            );
        }
        for at in 0..record.len() {
            let mut bytes = record.clone();
            bytes[at] ^= 1;
            // The key id proves nothing, so it may be any text; what was signed never changes.
            if let Ok(read) = Kept::open(&bytes, &SLOT, &trust) {
                assert_eq!(read, kept(), "byte {at} changed");
            }
        }
    }

    #[test]
    fn other_types_versions_and_sizes_are_refused() {
        let ours = key("a", 1);
        let trust = Trust::of([ours.public()]);
        let open = |bytes: &[u8]| Kept::open(bytes, &SLOT, &trust);
        assert!(open(&signed(&payload(1, 5), KEPT_TYPE, &ours)).is_ok());
        let other = open(&signed(&payload(1, 5), crate::dsse::IN_TOTO, &ours));
        assert!(matches!(other, Err(RecordError::OtherType { .. })));
        let newer = open(&signed(&payload(2, 5), KEPT_TYPE, &ours));
        assert!(matches!(newer, Err(RecordError::Version { found: 2, .. })));
        let large = open(&signed(&payload(1, BLOB_LIMIT + 1), KEPT_TYPE, &ours));
        assert!(matches!(large, Err(RecordError::Sizes { .. })));
        let syntax = open(&signed("{}", KEPT_TYPE, &ours));
        assert!(matches!(syntax, Err(RecordError::Syntax { .. })));
        let mut long = signed(&payload(1, 5), KEPT_TYPE, &ours);
        long.resize(usize::try_from(RECORD_LIMIT).unwrap() + 1, b' ');
        assert!(matches!(open(&long), Err(RecordError::TooLarge)));
        assert!(matches!(open(b"{}"), Err(RecordError::Envelope(_))));
    }
}
