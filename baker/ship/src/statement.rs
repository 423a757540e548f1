//! in-toto statements: what is said of which artefacts
//! (<https://github.com/in-toto/attestation>, `spec/v1/statement.md`).

use std::collections::BTreeMap;

use baker_model::Digest;
use baker_model::manifest::ReleaseFile;
use serde::{Deserialize, Serialize};

/// The type of a statement of version 1.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// A statement with a predicate of type `P`. Unknown keys are ignored, as the specification wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement<P> {
    /// [`STATEMENT`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// What the statement is about.
    pub subject: Vec<Resource>,
    /// URI of the predicate's type.
    pub predicate_type: String,
    /// What is said.
    pub predicate: P,
}

/// A thing by name and digest (`spec/v1/resource_descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Hexadecimal digests by algorithm.
    pub digest: BTreeMap<String, String>,
}

impl Resource {
    /// A thing known by its SHA-256.
    #[must_use]
    pub fn new(name: &str, sha256: Digest) -> Self {
        Self {
            name: name.to_owned(),
            digest: BTreeMap::from([("sha256".to_owned(), sha256.to_string())]),
        }
    }

    /// A file of a release.
    #[must_use]
    pub fn of_file(file: &ReleaseFile) -> Self {
        Self::new(&file.name, file.sha256)
    }
}

impl<P: Serialize> Statement<P> {
    /// A statement about `subject`.
    #[must_use]
    pub fn new(subject: Vec<Resource>, predicate_type: &str, predicate: P) -> Self {
        Self {
            kind: STATEMENT.to_owned(),
            subject,
            predicate_type: predicate_type.to_owned(),
            predicate,
        }
    }

    /// The bytes to sign.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a statement holds only plain data")
    }
}
