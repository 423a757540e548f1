//! A registry that speaks the OCI distribution specification 1.1.
//!
//! | baker | registry |
//! |---|---|
//! | recipe `minimal` | repository `<path>/minimal` |
//! | piece | blob, and a layer with its name as title |
//! | release 1.0.0 | manifest with an artifact type, under the tag `1.0.0` |
//! | evidence of a release | manifest with that release as `subject`, whose layer is the piece |
//! | statement | the same with the statement's envelope as layer |
//! | channel `prod` | manifest whose one layer is the log, under the tag `prod` |
//!
//! A tag is the only thing that changes, and it changes in one step: blobs first, then the
//! manifest by its digest, then its referrers; all of it is read back; the tag comes last. Where a
//! registry keeps no referrers they are kept under the tag `sha256-<digest>`, as the specification
//! says.
//!
//! The specification has no compare-and-swap of tags. What baker can do it does: the tag is read
//! again right before it is moved and right after. Two who move one channel within the same
//! moment can both believe that they did; the history shows one of them and never half of one.

mod client;
mod document;

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use baker_model::recipe::is_channel_name;
use baker_model::{Digest, Interrupt, Silent};
use reqwest::header::HeaderValue;
use serde_json::Value;

pub(crate) use self::client::Client;
use self::client::{Referrers, parse};
use self::document::{
    CHANNEL_TYPE, INDEX_TYPE, Index, RELEASE_TYPE, STATEMENT_TYPE, TITLE, VERSION,
};
pub(crate) use self::document::{Descriptor, Document, EMPTY, MANIFEST_TYPE};
use super::http::{Credentials, Http, Patience, Transport};
use super::{ChannelId, LOG_LIMIT, Log, Piece, Record, ReleaseId, Target, TargetError, Upload};
use crate::dsse::Envelope;
use crate::folder::Watch;

/// The key of a statement's type in the annotations of its manifest, as other tools write it.
const PREDICATE: &str = "in-toto.io/predicate-type";

/// The largest statement that is read, bytes.
const STATEMENT_LIMIT: u64 = 16 << 20;

/// How often the list of referrers is written again when somebody else wrote it in between.
const ATTEMPTS: usize = 8;

/// A registry, and the path above its repositories.
#[derive(Debug)]
pub struct RegistryTarget {
    http: Http,
    host: String,
    path: String,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<HeaderValue>>,
}

impl RegistryTarget {
    /// The registry `host`, spoken to by TLS; `authority` is a PEM file of certificates to believe
    /// beside the host's own.
    ///
    /// # Errors
    /// The certificates cannot be used.
    pub fn new(
        host: &str,
        path: &str,
        credentials: Option<Credentials>,
        authority: Option<&Path>,
    ) -> Result<Self, TargetError> {
        Self::patient((host, path), credentials, authority, Patience::RELEASE)
    }

    /// The same, with another patience.
    pub(crate) fn patient(
        (host, path): (&str, &str),
        credentials: Option<Credentials>,
        authority: Option<&Path>,
        patience: Patience,
    ) -> Result<Self, TargetError> {
        Ok(Self {
            http: Http::new(authority, Transport::TlsOnly, patience)?,
            host: host.to_owned(),
            path: path.to_owned(),
            credentials,
            authorization: Mutex::default(),
        })
    }

    /// The repository `name` below the path.
    pub(crate) fn client(&self, name: &str) -> Client<'_> {
        let repository = match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}/{name}"),
        };
        Client {
            http: &self.http,
            host: &self.host,
            repository,
            credentials: self.credentials.as_ref(),
            authorization: &self.authorization,
        }
    }

    /// The manifest under a tag, when it is an artifact of this type.
    pub(crate) fn tagged(
        &self,
        client: &Client<'_>,
        tag: &str,
        artifact_type: &str,
    ) -> Result<Option<(Document, Digest)>, TargetError> {
        let Some(bytes) = client.manifest(tag)? else {
            return Ok(None);
        };
        let document: Document = parse(&format!("read {tag}"), &bytes)?;
        let is_ours = document.artifact_type.as_deref() == Some(artifact_type);
        Ok(is_ours.then(|| (document, Digest::of(&bytes))))
    }

    /// The manifests about a release: those that the registry lists and those under the tag.
    fn referrers(
        &self,
        client: &Client<'_>,
        subject: Digest,
    ) -> Result<Vec<Descriptor>, TargetError> {
        let mut found = client.referrers(subject)?.unwrap_or_default();
        for descriptor in self.listed(client, subject)? {
            if !found.iter().any(|other| other.digest == descriptor.digest) {
                found.push(descriptor);
            }
        }
        Ok(found)
    }

    /// The manifests in the list under the tag of referrers.
    fn listed(&self, client: &Client<'_>, subject: Digest) -> Result<Vec<Descriptor>, TargetError> {
        let tag = referrers_tag(subject);
        let Some(bytes) = client.manifest(&tag)? else {
            return Ok(Vec::new());
        };
        let index: Index = parse(&format!("read {tag}"), &bytes)?;
        Ok(index.manifests)
    }

    /// Puts a manifest with a subject, and makes sure that it can be found from there.
    fn refer(
        &self,
        client: &Client<'_>,
        document: &Document,
        subject: Digest,
    ) -> Result<(), TargetError> {
        let own = document.descriptor();
        let bytes = document.to_bytes();
        let kept = client.put_manifest(&own.digest, MANIFEST_TYPE, &bytes)?;
        if client.manifest(&own.digest)?.as_ref() != Some(&bytes) {
            return Err(self.not_kept(&own.digest));
        }
        if kept == Referrers::Kept {
            return Ok(());
        }
        let tag = referrers_tag(subject);
        for _ in 0..ATTEMPTS {
            let mut manifests = self.listed(client, subject)?;
            if manifests.iter().any(|other| other.digest == own.digest) {
                return Ok(());
            }
            manifests.push(own.clone());
            let index = Index::of(manifests).to_bytes();
            client.put_manifest(&tag, INDEX_TYPE, &index)?;
        }
        Err(self.not_kept(&tag))
    }

    fn not_kept(&self, what: &str) -> TargetError {
        TargetError::Remote {
            doing: format!("keep {what} in {}", self.host),
            cause: "what was put there does not come back".to_owned(),
        }
    }

    /// A small blob, its digest checked.
    fn small(
        &self,
        client: &Client<'_>,
        layer: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, TargetError> {
        let what = || format!("{} in {}", layer.digest, self.host);
        let refuse = |cause: &str| TargetError::Malformed {
            what: what(),
            cause: cause.to_owned(),
        };
        let sha256 = layer.sha256().ok_or_else(|| refuse("it has no SHA-256"))?;
        if layer.size > limit {
            return Err(refuse("it is too large"));
        }
        let piece = Piece {
            name: layer.digest.clone(),
            size: layer.size,
            sha256,
        };
        let (mut bytes, interrupt) = (Vec::new(), Interrupt::new());
        let watch = Watch {
            stage: "pull",
            listener: &Silent,
            interrupt: &interrupt,
        };
        client.read(&piece, 0, &mut bytes, watch)?;
        if Digest::of(&bytes) != sha256 {
            return Err(refuse("its bytes have another digest"));
        }
        Ok(bytes)
    }
}

impl Target for RegistryTarget {
    fn place(&self) -> String {
        let slash = if self.path.is_empty() { "" } else { "/" };
        format!("oci://{}{slash}{}", self.host, self.path)
    }

    fn begin<'a>(
        &'a self,
        record: &Record,
        _: Watch<'_>,
    ) -> Result<Box<dyn Upload + 'a>, TargetError> {
        Ok(Box::new(RegistryUpload {
            target: self,
            client: self.client(record.id.name()),
            record: record.clone(),
        }))
    }

    fn record(&self, id: &ReleaseId) -> Result<Option<Record>, TargetError> {
        let client = self.client(id.name());
        let Some((document, _)) = self.tagged(&client, &tag_of(id), RELEASE_TYPE)? else {
            return Ok(None);
        };
        let what = format!("{id} in {}", self.place());
        let layers = document.layers.iter().map(|layer| {
            Some(Piece {
                name: layer.annotations.get(TITLE)?.clone(),
                size: layer.size,
                sha256: layer.sha256()?,
            })
        });
        let pieces = layers.collect::<Option<Vec<_>>>();
        let pieces = pieces.ok_or_else(|| TargetError::Malformed {
            what: what.clone(),
            cause: "a layer has no title or no SHA-256".to_owned(),
        })?;
        Record::new(id.clone(), pieces, &what).map(Some)
    }

    fn releases(&self, name: &str) -> Result<Vec<ReleaseId>, TargetError> {
        let tags = self.client(name).tags()?;
        let versions = tags.iter().filter(|tag| tag.contains('.'));
        let ids = versions.filter_map(|tag| ReleaseId::new(name, &tag.replace('_', "+")));
        Ok(ids.collect())
    }

    fn size_of(&self, record: &Record, piece: &Piece) -> Result<Option<u64>, TargetError> {
        self.client(record.id.name()).blob_size(piece.sha256)
    }

    fn read(
        &self,
        record: &Record,
        piece: &Piece,
        from: u64,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        self.client(record.id.name()).read(piece, from, to, watch)
    }

    fn statements(&self, record: &Record) -> Result<Vec<Vec<u8>>, TargetError> {
        let client = self.client(record.id.name());
        let subject = Digest::of(&release_document(record).to_bytes());
        let mut found = Vec::new();
        for descriptor in self.referrers(&client, subject)? {
            let Some(bytes) = client.manifest(&descriptor.digest)? else {
                continue;
            };
            let document: Document = parse(&format!("read {}", descriptor.digest), &bytes)?;
            if document.artifact_type.as_deref() != Some(STATEMENT_TYPE) {
                continue;
            }
            for layer in &document.layers {
                found.push(self.small(&client, layer, STATEMENT_LIMIT)?);
            }
        }
        Ok(found)
    }

    fn add_statement(&self, record: &Record, envelope: &[u8]) -> Result<(), TargetError> {
        let client = self.client(record.id.name());
        client.put_bytes(EMPTY)?;
        client.put_bytes(envelope)?;
        let layer = Descriptor::of_bytes(STATEMENT_TYPE, envelope);
        let subject = release_document(record).descriptor();
        let document = statement_document(layer, predicate_of(envelope), subject.clone());
        let Some(subject) = subject.sha256() else {
            return Err(self.not_kept("the release"));
        };
        self.refer(&client, &document, subject)
    }

    fn channels(&self, name: &str) -> Result<Vec<String>, TargetError> {
        let tags = self.client(name).tags()?;
        Ok(tags
            .into_iter()
            .filter(|tag| is_channel_name(tag))
            .collect())
    }

    fn channel(&self, id: &ChannelId) -> Result<Log, TargetError> {
        let client = self.client(id.name());
        let Some((document, digest)) = self.tagged(&client, id.channel(), CHANNEL_TYPE)? else {
            return Ok(Log::default());
        };
        let [layer] = &document.layers[..] else {
            return Err(TargetError::Malformed {
                what: format!("{id} in {}", self.place()),
                cause: "it has not exactly one layer".to_owned(),
            });
        };
        let bytes = self.small(&client, layer, LOG_LIMIT)?;
        let state = Some(digest.to_string());
        Ok(Log { bytes, state })
    }

    fn move_channel(
        &self,
        id: &ChannelId,
        seen: &Log,
        line: &[u8],
        record: &Record,
    ) -> Result<(), TargetError> {
        let client = self.client(id.name());
        let mut log = seen.bytes.clone();
        log.extend_from_slice(line);
        log.push(b'\n');
        client.put_bytes(EMPTY)?;
        client.put_bytes(&log)?;
        let layer = Descriptor::of_bytes(CHANNEL_TYPE, &log);
        self.small(&client, &layer, LOG_LIMIT)?;
        let document = Document::new(
            CHANNEL_TYPE,
            vec![layer.titled(&format!("{}.channel", id.channel()))],
        );
        let document = document.annotated(VERSION, record.id.version());
        let moved = || TargetError::Moved {
            channel: id.to_string(),
        };
        if self.channel(id)?.state != seen.state {
            return Err(moved());
        }
        client.put_manifest(id.channel(), MANIFEST_TYPE, &document.to_bytes())?;
        if self.channel(id)?.bytes != log {
            return Err(moved());
        }
        Ok(())
    }
}

/// A release on its way into a registry.
struct RegistryUpload<'a> {
    target: &'a RegistryTarget,
    client: Client<'a>,
    record: Record,
}

impl Upload for RegistryUpload<'_> {
    fn put(&mut self, piece: &Piece, from: &Path, watch: Watch<'_>) -> Result<(), TargetError> {
        if self.client.blob_size(piece.sha256)? == Some(piece.size) {
            watch.advance(piece.size);
            return Ok(());
        }
        self.client.put_file(piece, from, watch)
    }

    fn read_back(
        &mut self,
        piece: &Piece,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        self.client.read(piece, 0, to, watch)
    }

    fn finish(self: Box<Self>) -> Result<(), TargetError> {
        let (target, client, record) = (self.target, &self.client, &self.record);
        let document = release_document(record);
        let (bytes, own) = (document.to_bytes(), document.descriptor());
        let digest = Digest::of(&bytes);
        client.put_bytes(EMPTY)?;
        client.put_manifest(&own.digest, MANIFEST_TYPE, &bytes)?;
        if client.manifest(&own.digest)?.as_ref() != Some(&bytes) {
            return Err(target.not_kept(&own.digest));
        }
        for piece in &record.pieces {
            if let Some(kind) = evidence_type(&piece.name) {
                let layer = Descriptor::new(kind, piece.sha256, piece.size).titled(&piece.name);
                let about = Document::new(kind, vec![layer]).about(own.clone());
                target.refer(client, &about, digest)?;
            }
        }
        // Somebody else may have been faster since this began.
        let tag = tag_of(&record.id);
        if let Some(there) = client.manifest(&tag)?
            && there != bytes
        {
            let place = format!("{} in {}", record.id, target.place());
            return Err(TargetError::AlreadyThere { place });
        }
        client.put_manifest(&tag, MANIFEST_TYPE, &bytes)?;
        Ok(())
    }
}

/// The tag of a version: tags have no `+`, and versions have no `_`.
fn tag_of(id: &ReleaseId) -> String {
    id.version().replace('+', "_")
}

/// Where referrers are kept for registries that do not ("Referrers Tag Schema").
fn referrers_tag(subject: Digest) -> String {
    format!("sha256-{subject}")
}

/// The manifest of a release. It follows from the record, so that its digest is known before
/// anything is sent.
fn release_document(record: &Record) -> Document {
    let layers = record.pieces.iter().map(|piece| {
        let kind = evidence_type(&piece.name).unwrap_or("application/octet-stream");
        Descriptor::new(kind, piece.sha256, piece.size).titled(&piece.name)
    });
    Document::new(RELEASE_TYPE, layers.collect())
        .annotated(TITLE, record.id.name())
        .annotated(VERSION, record.id.version())
}

fn statement_document(layer: Descriptor, predicate: Option<String>, about: Descriptor) -> Document {
    let document = Document::new(STATEMENT_TYPE, vec![layer]).about(about);
    match predicate {
        Some(predicate) => document.annotated(PREDICATE, &predicate),
        None => document,
    }
}

/// The media type of a file that other tools look for beside an artifact.
fn evidence_type(name: &str) -> Option<&'static str> {
    let ends = |end: &str| name.ends_with(end);
    if ends(".intoto.json") {
        Some(STATEMENT_TYPE)
    } else if ends(".spdx.json") {
        Some("application/spdx+json")
    } else if ends(".cdx.json") {
        Some("application/vnd.cyclonedx+json")
    } else {
        None
    }
}

/// The type of the predicate in an envelope, for those who look for it.
fn predicate_of(envelope: &[u8]) -> Option<String> {
    let envelope = Envelope::parse(envelope).ok()?;
    let statement: Value = serde_json::from_slice(envelope.payload()).ok()?;
    Some(statement.get("predicateType")?.as_str()?.to_owned())
}
