//! Verification summaries: who checked a release, against which policy, with what result
//! (<https://slsa.dev/spec/v1.0/verification_summary>).

use std::collections::BTreeMap;

use baker_model::Digest;
use serde::{Deserialize, Serialize};

/// The type of the predicate.
pub const VSA_TYPE: &str = "https://slsa.dev/verification_summary/v1";

/// The predicate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Who checked.
    pub verifier: Verifier,
    /// When, RFC 3339 in UTC.
    pub time_verified: String,
    /// What the release is called where it lies.
    pub resource_uri: String,
    /// What was asked of it.
    pub policy: Reference,
    /// The statements and lists that were looked at.
    #[serde(default)]
    pub input_attestations: Vec<Reference>,
    /// Whether it holds.
    pub verification_result: Verdict,
    /// What was found to hold: a level of the SLSA build track, and baker's own words.
    pub verified_levels: Vec<String>,
    /// The version of the specification.
    #[serde(default)]
    pub slsa_version: String,
}

/// Who checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    /// A URI for it.
    pub id: String,
    /// Versions of its parts.
    #[serde(default)]
    pub version: BTreeMap<String, String>,
}

/// Something by place and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Where it is.
    pub uri: String,
    /// Hexadecimal digests by algorithm.
    pub digest: BTreeMap<String, String>,
}

/// Whether a release is what the policy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// It is.
    Passed,
    /// It is not.
    Failed,
}

impl Reference {
    /// Something known by its SHA-256.
    #[must_use]
    pub fn new(uri: String, sha256: Digest) -> Self {
        let digest = BTreeMap::from([("sha256".to_owned(), sha256.to_string())]);
        Self { uri, digest }
    }
}
