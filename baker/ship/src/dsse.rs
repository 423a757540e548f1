//! DSSE 1.0 envelopes: bytes of a named type and who signed them
//! (<https://github.com/secure-systems-lab/dsse>, `protocol.md` and `envelope.md`).
//!
//! ```json
//! {"payload":"<base64>","payloadType":"application/vnd.in-toto+json",
//!  "signatures":[{"keyid":"<see PublicKey::id>","sig":"<base64>"}]}
//! ```
//!
//! Takes a payload and keys, gives an envelope; takes an envelope and whom to trust, says who
//! signed. Opens nothing and never looks into the payload: what it means is to be read only after
//! its signatures are checked.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use baker_model::Digest;
use base64ct::{Base64, Base64Url, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::report::SignedBy;
use crate::signer::{self, Signer, SigningError};
use crate::trust::Trust;

/// The type of a payload that is an in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// A payload and the signatures over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload: Binary,
    payload_type: String,
    signatures: Vec<Signature>,
}

/// One signature. The key id is not signed: it helps to find the key and proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: Binary,
}

/// Bytes that stand in the file as base64.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Binary(Vec<u8>);

/// What became of one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A trusted key made it.
    Good {
        /// The key.
        signer: SignedBy,
        /// True when the key id of the signature is that key's, as baker writes it.
        named: bool,
    },
    /// It names a trusted key that did not make it.
    Forged(SignedBy),
    /// No trusted key made it; this is the key id that it names.
    Unknown(String),
}

/// An envelope cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DsseError {
    /// Not the JSON that an envelope is.
    #[error("cannot parse the envelope")]
    Syntax(#[source] serde_json::Error),
    /// An envelope must carry a signature.
    #[error("the envelope has no signature")]
    Unsigned,
    /// A signature in the name of a trusted key is not that key's.
    #[error("the signature in the name of `{name}` is not over this payload")]
    Forged {
        /// Name of the key.
        name: String,
    },
    /// Too few of those whom we trust signed.
    #[error("{found} trusted keys signed the envelope, {threshold} must")]
    TooFew {
        /// Trusted keys with a good signature.
        found: usize,
        /// How many there must be.
        threshold: NonZeroUsize,
    },
}

/// The bytes that are signed: type and payload with their lengths, so that no payload can be read
/// as one of another type.
#[must_use]
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let (type_length, length) = (payload_type.len(), payload.len());
    let mut bytes = format!("DSSEv1 {type_length} {payload_type} {length} ").into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// An envelope that nobody has signed yet.
    #[must_use]
    pub fn new(payload_type: &str, payload: Vec<u8>) -> Self {
        Self {
            payload: Binary(payload),
            payload_type: payload_type.to_owned(),
            signatures: Vec::new(),
        }
    }

    /// What a signature is made over; for keys that are elsewhere.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        pre_authentication_encoding(&self.payload_type, &self.payload.0)
    }

    /// Adds the signature of `signer`; an earlier one of the same key is replaced.
    ///
    /// # Errors
    /// The signer gives none; the envelope is as it was.
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<(), SigningError> {
        let signature = signer::for_release(signer, &self.message())?;
        self.add(signer.public().id(), signature.bytes);
        Ok(())
    }

    /// Adds a signature made elsewhere over [`Envelope::message`]. Signatures are sorted by key
    /// id, so that the order of signing leaves no trace.
    pub fn add(&mut self, key_id: Digest, signature: Vec<u8>) {
        let keyid = key_id.to_string();
        self.signatures.retain(|other| other.keyid != keyid);
        let sig = Binary(signature);
        self.signatures.push(Signature { keyid, sig });
        self.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
    }

    /// The type of the payload.
    #[must_use]
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// The payload. **Check the signatures before believing it.**
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload.0
    }

    /// The bytes of the file; ends in a newline.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("an envelope holds only plain data");
        bytes.push(b'\n');
        bytes
    }

    /// The envelope on one line without its end, for lists of envelopes.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an envelope holds only plain data")
    }

    /// Parses the bytes of a file, also one that another tool wrote: unknown keys are ignored,
    /// both alphabets of base64 are read, a key id may be missing.
    ///
    /// # Errors
    /// Not an envelope, or one without signatures.
    pub fn parse(bytes: &[u8]) -> Result<Self, DsseError> {
        let envelope: Self = serde_json::from_slice(bytes).map_err(DsseError::Syntax)?;
        if envelope.signatures.is_empty() {
            return Err(DsseError::Unsigned);
        }
        Ok(envelope)
    }

    /// What became of each signature, in their order.
    #[must_use]
    pub fn answers(&self, trust: &Trust) -> Vec<Answer> {
        let message = self.message();
        let answer = |signature: &Signature| answer(signature, &message, trust);
        self.signatures.iter().map(answer).collect()
    }

    /// The trusted keys that signed, each once.
    ///
    /// # Errors
    /// Fewer than `threshold` did, or somebody used the name of one that did not.
    pub fn verify(
        &self,
        trust: &Trust,
        threshold: NonZeroUsize,
    ) -> Result<Vec<SignedBy>, DsseError> {
        let mut signers: Vec<SignedBy> = Vec::new();
        let mut seen = BTreeSet::new();
        for answer in self.answers(trust) {
            match answer {
                Answer::Good { signer, .. } if seen.insert(signer.key_id) => signers.push(signer),
                Answer::Forged(SignedBy { name, .. }) => return Err(DsseError::Forged { name }),
                Answer::Good { .. } | Answer::Unknown(_) => {}
            }
        }
        let found = signers.len();
        if found < threshold.get() {
            return Err(DsseError::TooFew { found, threshold });
        }
        Ok(signers)
    }
}

/// Other tools name keys otherwise, or not at all: then every trusted key is tried.
fn answer(signature: &Signature, message: &[u8], trust: &Trust) -> Answer {
    let mut keys = trust.keys().iter();
    let made = keys.find(|key| key.accepts(message, &signature.sig.0));
    let id: Option<Digest> = signature.keyid.parse().ok();
    let named = id.and_then(|id| trust.get(&id));
    match (made, named) {
        (Some(key), _) => Answer::Good {
            named: signature.keyid == key.id().to_string(),
            signer: SignedBy::of(key),
        },
        (None, Some(key)) => Answer::Forged(SignedBy::of(key)),
        (None, None) => Answer::Unknown(signature.keyid.clone()),
    }
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Base64::decode_vec(&text)
            .or_else(|_| Base64Url::decode_vec(&text))
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Purpose};

    fn key(name: &str, seed: u8) -> Key {
        Key::from_seed(name, Purpose::Release, &[seed; 32])
    }

    fn number(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    #[test]
    fn what_is_signed_is_what_the_protocol_says() {
        // The example of protocol.md, "Test Vectors".
        assert_eq!(
            pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn as_many_must_sign_as_the_threshold_says() {
        let keys = [key("a", 1), key("b", 2), key("c", 3)];
        let trust = Trust::of([keys[0].public(), keys[1].public()]);
        let mut envelope = Envelope::new(IN_TOTO, b"{}".to_vec());
        assert!(matches!(
            Envelope::parse(&envelope.to_bytes()),
            Err(DsseError::Unsigned)
        ));
        envelope.sign(&keys[2]).unwrap();
        let none = envelope.verify(&trust, number(1));
        assert!(matches!(none, Err(DsseError::TooFew { found: 0, .. })));
        envelope.sign(&keys[0]).unwrap();
        envelope.sign(&keys[0]).unwrap();
        assert_eq!(envelope.verify(&trust, number(1)).unwrap()[0].name, "a");
        // One key is one signer, whatever its signatures are called.
        let mut twice = envelope.clone();
        let mut copy = envelope.signatures[0].clone();
        "alias".clone_into(&mut copy.keyid);
        twice.signatures.push(copy);
        assert!(twice.verify(&trust, number(2)).is_err());
        envelope.sign(&keys[1]).unwrap();
        assert_eq!(envelope.verify(&trust, number(2)).unwrap().len(), 2);
        assert!(envelope.verify(&trust, number(3)).is_err());
        let again = Envelope::parse(&envelope.to_bytes()).unwrap();
        assert_eq!(again, envelope);
        assert_eq!(
            (again.payload(), again.payload_type()),
            (&b"{}"[..], IN_TOTO)
        );
    }

    #[test]
    fn another_payload_or_type_is_a_forgery() {
        let signer = key("a", 1);
        let trust = Trust::of([signer.public()]);
        let mut envelope = Envelope::new(IN_TOTO, b"{}".to_vec());
        envelope.sign(&signer).unwrap();
        let mut payload = envelope.clone();
        payload.payload.0.push(b' ');
        let mut of_type = envelope.clone();
        of_type.payload_type.push('x');
        let mut short = envelope.clone();
        short.signatures[0].sig.0.pop();
        for forged in [payload, of_type, short] {
            let error = forged.verify(&trust, number(1)).unwrap_err();
            assert!(matches!(error, DsseError::Forged { .. }), "{error}");
        }
    }

    #[test]
    fn envelopes_of_other_tools_are_read() {
        let signer = key("a", 1);
        let payload = [0xfb, 0xff, 0xfe];
        let message = pre_authentication_encoding("t", &payload);
        let sig = Base64Url::encode_string(&signer.sign(&message).unwrap().bytes);
        let text = format!(
            r#"{{"payloadType":"t","more":1,"signatures":[{{"sig":"{sig}","cert":"x"}}],
            "payload":"{}"}}"#,
            Base64Url::encode_string(&payload)
        );
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        let trust = Trust::of([signer.public()]);
        assert_eq!(envelope.verify(&trust, number(1)).unwrap().len(), 1);
        assert!(matches!(
            envelope.answers(&trust)[0],
            Answer::Good { named: false, .. }
        ));
        for broken in [
            "{}",
            "[]",
            r#"{"payload":"!","payloadType":"t","signatures":[]}"#,
        ] {
            let error = Envelope::parse(broken.as_bytes()).unwrap_err();
            assert!(matches!(error, DsseError::Syntax(_)), "{broken}");
        }
    }
}
