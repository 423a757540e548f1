//! Rotation: a key names the one that takes its place, in a DSSE envelope that it signs.
//!
//! Whoever trusts the old key trusts the new one too, beside the old one. The old one may be
//! retired with a day: of releases whose lock is younger its signatures count no more. That day is
//! held against the signed time of the release, so verification needs no clock; a stolen key could
//! claim any time, which is what revocation is for.

use baker_model::Digest;
use baker_model::plan::Day;
use serde::{Deserialize, Serialize};

use crate::dsse::Envelope;
use crate::public::PublicKey;
use crate::report::chain;

/// How the name of a file ends that holds one.
pub const FILE_END: &str = ".rotation.json";

/// The type of the payload.
pub const ROTATION: &str = "application/vnd.baker.rotation+json";

/// A key and the one that takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rotation {
    /// Id of the old key.
    pub old: Digest,
    /// Name of the new key, for people.
    pub name: String,
    /// The new key: the text of its `.pub` file.
    pub new: String,
    /// The last day of releases that the old key may sign; none when both are to stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire: Option<Day>,
}

impl Rotation {
    /// From `old` to `new`.
    #[must_use]
    pub fn new(old: &PublicKey, new: &PublicKey, retire: Option<Day>) -> Self {
        Self {
            old: old.id(),
            name: new.name().to_owned(),
            new: new.to_text(),
            retire,
        }
    }

    /// An envelope that the old key is to sign.
    #[must_use]
    pub fn envelope(&self) -> Envelope {
        let payload = serde_json::to_vec(self).expect("a rotation holds only plain data");
        Envelope::new(ROTATION, payload)
    }

    /// Reads an envelope; who signed it is not looked at.
    pub(crate) fn read(envelope: &Envelope) -> Result<Self, String> {
        if envelope.payload_type() != ROTATION {
            return Err(format!(
                "its payload is of type `{}`",
                envelope.payload_type()
            ));
        }
        serde_json::from_slice(envelope.payload()).map_err(|error| chain(&error))
    }

    /// The new key.
    pub(crate) fn key(&self) -> Result<PublicKey, String> {
        let key = PublicKey::parse(&self.name, &self.new).map_err(|error| chain(&error))?;
        match key.algorithm().signs_releases() {
            true => Ok(key),
            false => Err(format!("the new key signs with {}", key.algorithm())),
        }
    }
}
