//! A repository of a registry that speaks the OCI distribution specification 1.1.
//!
//! | cache | registry |
//! |---|---|
//! | entry `packed-<key>` | manifest with an artifact type, under that tag |
//! | its record | an annotation of the manifest, so that one request is enough to judge an entry |
//! | its blobs | layers, so that whoever clears up the registry keeps them |
//!
//! The configuration is the empty one of the specification ("guidance for an empty descriptor").

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use baker_model::Interrupt;

use super::{Shelf, Slot};
use crate::folder::Watch;
use crate::target::{
    Client, Credentials, Descriptor, Document, EMPTY, MANIFEST_TYPE, Patience, Piece,
    RegistryTarget, TargetError,
};

/// What an entry is.
const ENTRY_TYPE: &str = "application/vnd.baker.kept.v1+json";

/// The annotation that holds the record.
const RECORD: &str = "vnd.baker.kept.record";

/// A repository of entries.
#[derive(Debug)]
pub struct RegistryShelf {
    target: RegistryTarget,
    host: String,
    repository: String,
}

impl RegistryShelf {
    /// The repository at `path` of the registry `host`; the other arguments are those of
    /// [`RegistryTarget::new`], and what ends waiting for it.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub fn new(
        host: &str,
        path: &str,
        credentials: Option<Credentials>,
        authority: Option<&Path>,
        interrupt: &Arc<Interrupt>,
    ) -> Result<Self, TargetError> {
        Ok(Self {
            target: RegistryTarget::patient(
                (host, ""),
                credentials,
                authority,
                Patience::cache(interrupt),
            )?,
            host: host.to_owned(),
            repository: path.to_owned(),
        })
    }

    fn client(&self) -> Client<'_> {
        self.target.client(&self.repository)
    }
}

impl Shelf for RegistryShelf {
    fn place(&self) -> String {
        format!("oci://{}/{}", self.host, self.repository)
    }

    fn record(&self, slot: &Slot) -> Result<Option<Vec<u8>>, TargetError> {
        let tag = slot.to_string();
        let found = self.target.tagged(&self.client(), &tag, ENTRY_TYPE)?;
        let record = found.and_then(|(mut document, _)| document.annotations.remove(RECORD));
        Ok(record.map(String::into_bytes))
    }

    fn put_record(&self, slot: &Slot, record: &[u8], blobs: &[Piece]) -> Result<(), TargetError> {
        let text = String::from_utf8(record.to_vec()).map_err(|error| TargetError::Malformed {
            what: format!("the record of {slot}"),
            cause: error.to_string(),
        })?;
        let client = self.client();
        client.put_bytes(EMPTY)?;
        let layers = blobs
            .iter()
            .map(|blob| Descriptor::new("application/octet-stream", blob.sha256, blob.size));
        let document = Document::new(ENTRY_TYPE, layers.collect()).annotated(RECORD, &text);
        client
            .put_manifest(&slot.to_string(), MANIFEST_TYPE, &document.to_bytes())
            .map(drop)
    }

    fn size_of(&self, blob: &Piece) -> Result<Option<u64>, TargetError> {
        self.client().blob_size(blob.sha256)
    }

    fn read(
        &self,
        blob: &Piece,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<bool, TargetError> {
        let client = self.client();
        if client.blob_size(blob.sha256)?.is_none() {
            return Ok(false);
        }
        client.read(blob, 0, to, watch)?;
        Ok(true)
    }

    fn put(&self, blob: &Piece, from: &Path, watch: Watch<'_>) -> Result<(), TargetError> {
        self.client().put_file(blob, from, watch)
    }
}
