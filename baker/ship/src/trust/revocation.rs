//! Revocation lists: keys and releases that are not to be believed any more, in a DSSE envelope
//! that a trusted key signed. `baker verify` obeys those of the trust folder.
//!
//! A list is about what it names and about nothing else: to take something back, sign a further
//! list. Whoever withholds a list from a machine withholds the revocation; that is for the channel
//! to see to that brings lists there.

use baker_model::Digest;
use baker_model::plan::Day;
use serde::{Deserialize, Serialize};

use crate::dsse::Envelope;
use crate::report::chain;

/// How the name of a file ends that holds one.
pub const FILE_END: &str = ".revocations.json";

/// The type of the payload.
pub const REVOCATIONS: &str = "application/vnd.baker.revocations+json";

/// What is not to be believed any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Revocations {
    /// The day on which the list was made.
    pub issued: Day,
    /// Keys that are lost or stolen: none of their signatures counts, old or new.
    #[serde(default)]
    pub keys: Vec<RevokedKey>,
    /// Releases that must not be used.
    #[serde(default)]
    pub releases: Vec<Withdrawn>,
}

/// A key that is lost or stolen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RevokedKey {
    /// Its id.
    pub key_id: Digest,
    /// Why.
    pub reason: String,
}

/// A release that must not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Withdrawn {
    /// SHA-256 of its `manifest.json`.
    pub manifest: Digest,
    /// Why.
    pub reason: String,
}

impl Revocations {
    /// An envelope that is to be signed.
    #[must_use]
    pub fn envelope(&self) -> Envelope {
        let payload = serde_json::to_vec(self).expect("a list holds only plain data");
        Envelope::new(REVOCATIONS, payload)
    }

    /// Reads an envelope whose signatures were checked.
    pub(crate) fn read(envelope: &Envelope) -> Result<Self, String> {
        if envelope.payload_type() != REVOCATIONS {
            return Err(format!(
                "its payload is of type `{}`",
                envelope.payload_type()
            ));
        }
        let list: Self =
            serde_json::from_slice(envelope.payload()).map_err(|error| chain(&error))?;
        let reasons = list.keys.iter().map(|key| &key.reason);
        let mut reasons = reasons.chain(list.releases.iter().map(|release| &release.reason));
        match reasons.any(|reason| reason.trim().is_empty()) {
            true => Err("it revokes something without a reason".to_owned()),
            false => Ok(list),
        }
    }
}
