//! The JSON of a registry: manifests and indexes of the OCI image specification 1.1.

use std::collections::BTreeMap;

use baker_model::Digest;
use serde::{Deserialize, Serialize};

/// Media type of a manifest.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index.
pub(super) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of the empty configuration ("guidance for an empty descriptor").
pub(super) const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The bytes of the empty configuration.
pub(crate) const EMPTY: &[u8] = b"{}";
/// What a release is.
pub(super) const RELEASE_TYPE: &str = "application/vnd.baker.release.v1+json";
/// What a channel is.
pub(super) const CHANNEL_TYPE: &str = "application/vnd.baker.channel.v1+jsonl";
/// What a statement is, as the attestations of other tools are called.
pub(super) const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";
/// The file of a layer.
pub(super) const TITLE: &str = "org.opencontainers.image.title";
/// The version of a release.
pub(super) const VERSION: &str = "org.opencontainers.image.version";

/// Something by type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(super) media_type: String,
    /// `sha256:<hex>`.
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// A manifest. Keys that baker does not write are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    pub(super) schema_version: u32,
    pub(super) media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    pub(super) config: Descriptor,
    #[serde(default)]
    pub(super) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A list of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub(super) schema_version: u32,
    pub(super) media_type: String,
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, sha256: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: format!("sha256:{sha256}"),
            size,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    pub(super) fn of_bytes(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    pub(super) fn titled(mut self, title: &str) -> Self {
        self.annotations.insert(TITLE.to_owned(), title.to_owned());
        self
    }

    /// The digest, when it is a SHA-256.
    pub(super) fn sha256(&self) -> Option<Digest> {
        self.digest.strip_prefix("sha256:")?.parse().ok()
    }
}

impl Document {
    /// An artifact of these layers.
    pub(crate) fn new(artifact_type: &str, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            artifact_type: Some(artifact_type.to_owned()),
            config: Descriptor::of_bytes(EMPTY_TYPE, EMPTY),
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    pub(crate) fn annotated(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(super) fn about(mut self, subject: Descriptor) -> Self {
        self.subject = Some(subject);
        self
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest holds only plain data")
    }

    /// What others call the manifest with these bytes.
    pub(super) fn descriptor(&self) -> Descriptor {
        let mut descriptor = Descriptor::of_bytes(&self.media_type, &self.to_bytes());
        descriptor.artifact_type.clone_from(&self.artifact_type);
        descriptor.annotations.clone_from(&self.annotations);
        descriptor
    }
}

impl Index {
    pub(super) fn of(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: INDEX_TYPE.to_owned(),
            manifests,
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an index holds only plain data")
    }
}
