//! A bucket that speaks the S3 protocol.
//!
//! ```text
//! prefix/blobs/sha256/<hex>                     pieces, each once whatever releases name it
//! prefix/releases/minimal/1.0.0.json            what a release consists of; it comes last
//! prefix/statements/minimal/1.0.0/<hex>.json    what was said about it, by digest of the envelope
//! prefix/channels/minimal/prod.jsonl            where a channel pointed, one envelope per line
//! ```
//!
//! Pieces are known by their digest, so publishers that run at once write the same bytes or other
//! keys. A release is made with `If-None-Match: *` and never replaced; a channel is moved with
//! `If-Match` of the state that was read, so that of two who move it at once one is told. A store
//! that ignores the two headers keeps none of these promises: see PUBLISHING.md.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use baker_model::recipe::is_channel_name;
use baker_model::{Digest, Interrupt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{
    Certificate, ClientOptions, Error, GetOptions, GetRange, MultipartUpload, ObjectStore,
    ObjectStoreExt, PutMode, PutOptions, RetryConfig, UpdateVersion,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use super::http::{self, Patience, read_file};
use super::{ChannelId, LOG_LIMIT, Log, Piece, Record, ReleaseId, Target, TargetError, Upload};
use crate::folder::Watch;

/// Bytes that are sent or fetched by one request; parts of an upload have at least 5 MiB.
const PART: u64 = 8 << 20;

/// The largest record or statement that is read, bytes.
const SMALL_LIMIT: u64 = 16 << 20;

/// The version of records that this baker writes.
const RECORD_VERSION: u32 = 1;

/// Where a bucket is and how to get in.
#[derive(Debug, Clone, Default)]
pub struct BucketAccess {
    /// Address of the store; that of the region when there is none.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Id of the access key; requests are not signed without it.
    pub key_id: Option<String>,
    /// Its secret.
    pub secret: Option<Secret>,
    /// Token of a temporary key.
    pub token: Option<Secret>,
}

/// A text that is wiped from memory when dropped and never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// This text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A bucket, and the prefix of all keys in it.
#[derive(Debug)]
pub struct BucketTarget {
    runtime: Runtime,
    store: Arc<AmazonS3>,
    bucket: String,
    prefix: String,
    patience: Patience,
}

/// `releases/<name>/<version>.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    record_version: u32,
    name: String,
    version: String,
    files: Vec<WrittenFile>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenFile {
    name: String,
    size: u64,
    sha256: Digest,
}

/// The bytes of a small object, and the store's word for its state.
type Small = (Vec<u8>, Option<String>);

impl BucketTarget {
    /// The bucket; `authority` is a PEM file of certificates to believe beside the host's own.
    ///
    /// # Errors
    /// The certificates or the endpoint cannot be used.
    pub fn new(
        bucket: &str,
        prefix: &str,
        access: &BucketAccess,
        authority: Option<&Path>,
    ) -> Result<Self, TargetError> {
        Self::patient((bucket, prefix), access, authority, Patience::RELEASE)
    }

    /// The same, with another patience.
    pub(crate) fn patient(
        (bucket, prefix): (&str, &str),
        access: &BucketAccess,
        authority: Option<&Path>,
        patience: Patience,
    ) -> Result<Self, TargetError> {
        // Another crate of the process may have chosen a provider before; that one will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        let failed = |cause: String| TargetError::Remote {
            doing: format!("use the bucket {bucket}"),
            cause,
        };
        let mut options = ClientOptions::new().with_connect_timeout(patience.connect);
        if let Some(path) = authority {
            let certificates = Certificate::from_pem_bundle(&read_file(path)?);
            for certificate in certificates.map_err(|e| failed(crate::report::chain(&e)))? {
                options = options.with_root_certificate(certificate);
            }
        }
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_retry(RetryConfig {
                retry_timeout: patience.retry,
                ..RetryConfig::default()
            })
            .with_region(access.region.as_deref().unwrap_or("us-east-1"));
        if let Some(endpoint) = &access.endpoint {
            // Only what the person has configured by its name goes without TLS.
            options = options.with_allow_http(endpoint.starts_with("http://"));
            builder = builder.with_endpoint(endpoint);
        }
        builder = match (&access.key_id, &access.secret) {
            (Some(id), Some(secret)) => builder
                .with_access_key_id(id)
                .with_secret_access_key(secret.0.as_str()),
            _ => builder.with_skip_signature(true),
        };
        if let Some(token) = &access.token {
            builder = builder.with_token(token.0.as_str());
        }
        let store = builder.with_client_options(options).build();
        let store = store.map_err(|error| failed(crate::report::chain(&error)))?;
        Ok(Self {
            runtime: http::runtime().map_err(|error| failed(error.to_string()))?,
            store: Arc::new(store),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            patience,
        })
    }

    /// The key of `rest` below the prefix.
    pub(crate) fn key(&self, rest: &str) -> Key {
        match self.prefix.as_str() {
            "" => Key::from(rest),
            prefix => Key::from(format!("{prefix}/{rest}")),
        }
    }

    fn blob_key(&self, sha256: Digest) -> Key {
        self.key(&format!("blobs/sha256/{sha256}"))
    }

    fn record_key(&self, id: &ReleaseId) -> Key {
        self.key(&format!("releases/{}/{}.json", id.name(), id.version()))
    }

    fn channel_key(&self, id: &ChannelId) -> Key {
        self.key(&format!("channels/{}/{}.jsonl", id.name(), id.channel()))
    }

    fn statements_key(&self, id: &ReleaseId) -> Key {
        self.key(&format!("statements/{}/{}", id.name(), id.version()))
    }

    /// Waits for an answer of the store.
    fn wait<T>(
        &self,
        doing: &str,
        future: impl Future<Output = Result<T, Error>>,
        interrupt: Option<&Interrupt>,
    ) -> Result<T, TargetError> {
        let answer = self.ask(doing, future, interrupt)?;
        answer.map_err(|error| self.failure(doing, &error))
    }

    /// The same, with the store's own errors still to be told apart.
    fn ask<T>(
        &self,
        doing: &str,
        future: impl Future<Output = Result<T, Error>>,
        interrupt: Option<&Interrupt>,
    ) -> Result<Result<T, Error>, TargetError> {
        let infallible = async { Ok::<_, std::convert::Infallible>(future.await) };
        // The client has a limit of its own for each request; it is longer than people like to wait.
        let limit = interrupt.is_none().then_some(self.patience.stall);
        let interrupt = interrupt.or(self.patience.interrupt.as_deref());
        http::wait(&self.runtime, doing, infallible, interrupt, limit)
    }

    fn failure(&self, doing: &str, error: &Error) -> TargetError {
        match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                TargetError::Unauthorized {
                    host: format!("the bucket {}", self.bucket),
                }
            }
            error => TargetError::Remote {
                doing: doing.to_owned(),
                cause: crate::report::chain(error),
            },
        }
    }

    /// A small object and its state; none when it is not there.
    pub(crate) fn small(&self, key: &Key, limit: u64) -> Result<Option<Small>, TargetError> {
        let doing = format!("read {key} from {}", self.bucket);
        let read = async {
            let found = self.store.get_opts(key, GetOptions::new()).await?;
            let (size, state) = (found.meta.size, found.meta.e_tag.clone());
            let bytes = if size > limit {
                None
            } else {
                Some(found.bytes().await?)
            };
            Ok((bytes, state))
        };
        match self.ask(&doing, read, None)? {
            Ok((Some(bytes), state)) => Ok(Some((bytes.to_vec(), state))),
            Ok((None, _)) => Err(TargetError::Malformed {
                what: format!("{key} in {}", self.bucket),
                cause: format!("it has more than {limit} bytes"),
            }),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failure(&doing, &error)),
        }
    }

    /// Puts a small object; false when `mode` forbids it.
    pub(crate) fn put_small(
        &self,
        key: &Key,
        bytes: &[u8],
        mode: PutMode,
    ) -> Result<bool, TargetError> {
        let doing = format!("put {key} into {}", self.bucket);
        let options = PutOptions::from(mode);
        let put = self.store.put_opts(key, bytes.to_vec().into(), options);
        match self.ask(&doing, put, None)? {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                // The first of several attempts may have succeeded without an answer.
                let there = self.small(key, SMALL_LIMIT.max(LOG_LIMIT))?;
                Ok(there.is_some_and(|(there, _)| there == bytes))
            }
            Err(error) => Err(self.failure(&doing, &error)),
        }
    }

    /// The names right below a key, without `end`, sorted.
    fn names(&self, key: &Key, end: &str) -> Result<Vec<String>, TargetError> {
        let doing = format!("list {key} in {}", self.bucket);
        let listed = self.wait(&doing, self.store.list_with_delimiter(Some(key)), None)?;
        let files = listed
            .objects
            .iter()
            .filter_map(|object| object.location.filename());
        let mut names: Vec<String> = files
            .filter_map(|file| file.strip_suffix(end).map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Puts a file in one request, or in parts when it is large.
    pub(crate) fn put_at(
        &self,
        (key, piece): (&Key, &Piece),
        from: &Path,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        let failed = |error| TargetError::of_read(from, error);
        let mut file = crate::atomic::open_regular(from).map_err(failed)?;
        let doing = format!("put `{}`", piece.name);
        let mut part = || -> std::io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            (&mut file).take(PART).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        if piece.size <= PART {
            let bytes = part().map_err(failed)?;
            let put = self
                .store
                .put_opts(key, bytes.into(), PutOptions::default());
            self.wait(&doing, put, Some(watch.interrupt))?;
            watch.advance(piece.size);
            return Ok(());
        }
        let mut upload = self.wait(&doing, self.store.put_multipart(key), None)?;
        let sent = self.put_parts(&doing, upload.as_mut(), &mut part, watch);
        let sent = sent.map_err(|error| match error {
            PartError::Read(error) => failed(error),
            PartError::Target(error) => error,
        });
        match sent {
            Ok(()) => self.wait(&doing, upload.complete(), None).map(|_| ()),
            Err(error) => {
                // Parts without an end cost money; the first error is the one to tell.
                drop(self.wait(&doing, upload.abort(), None));
                Err(error)
            }
        }
    }

    fn put_parts(
        &self,
        doing: &str,
        upload: &mut dyn MultipartUpload,
        part: &mut dyn FnMut() -> std::io::Result<Vec<u8>>,
        watch: Watch<'_>,
    ) -> Result<(), PartError> {
        loop {
            let bytes = part().map_err(PartError::Read)?;
            let size = bytes.len() as u64;
            if size == 0 {
                return Ok(());
            }
            let put = upload.put_part(bytes.into());
            self.wait(doing, put, Some(watch.interrupt))
                .map_err(PartError::Target)?;
            watch.advance(size);
        }
    }

    /// Bytes of a blob; none when it is not there.
    pub(crate) fn size_at(&self, key: &Key, piece: &Piece) -> Result<Option<u64>, TargetError> {
        let doing = format!("look for `{}`", piece.name);
        match self.ask(&doing, self.store.head(key), None)? {
            Ok(found) => Ok(Some(found.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failure(&doing, &error)),
        }
    }

    /// Reads a blob in ranges.
    pub(crate) fn read_at(
        &self,
        (key, piece): (&Key, &Piece),
        from: u64,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        let doing = format!("read `{}`", piece.name);
        let mut at = from;
        while at < piece.size {
            let end = piece.size.min(at + PART);
            let options = GetOptions::new().with_range(Some(GetRange::Bounded(at..end)));
            let get = async { self.store.get_opts(key, options).await?.bytes().await };
            let bytes = self.wait(&doing, get, Some(watch.interrupt))?;
            if bytes.is_empty() {
                break;
            }
            to.write_all(&bytes)
                .map_err(|e| TargetError::of_write(Path::new(&piece.name), piece.size, e))?;
            at += bytes.len() as u64;
        }
        Ok(())
    }
}

/// A part cannot be sent.
enum PartError {
    /// The file.
    Read(std::io::Error),
    /// The bucket.
    Target(TargetError),
}

impl Target for BucketTarget {
    fn place(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("s3://{}{slash}{}", self.bucket, self.prefix)
    }

    fn begin<'a>(
        &'a self,
        record: &Record,
        _: Watch<'_>,
    ) -> Result<Box<dyn Upload + 'a>, TargetError> {
        Ok(Box::new(BucketUpload {
            target: self,
            record: record.clone(),
        }))
    }

    fn record(&self, id: &ReleaseId) -> Result<Option<Record>, TargetError> {
        let Some((bytes, _)) = self.small(&self.record_key(id), SMALL_LIMIT)? else {
            return Ok(None);
        };
        let what = format!("{id} in {}", self.place());
        let refuse = |cause: String| TargetError::Malformed {
            what: what.clone(),
            cause,
        };
        let written: Written =
            serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        let found = ReleaseId::new(&written.name, &written.version);
        if written.record_version != RECORD_VERSION || found.as_ref() != Some(id) {
            return Err(refuse("it is the record of something else".to_owned()));
        }
        let pieces = written.files.into_iter().map(|file| Piece {
            name: file.name,
            size: file.size,
            sha256: file.sha256,
        });
        Record::new(id.clone(), pieces.collect(), &what).map(Some)
    }

    fn releases(&self, name: &str) -> Result<Vec<ReleaseId>, TargetError> {
        let versions = self.names(&self.key(&format!("releases/{name}")), ".json")?;
        Ok(versions
            .iter()
            .filter_map(|version| ReleaseId::new(name, version))
            .collect())
    }

    fn size_of(&self, _: &Record, piece: &Piece) -> Result<Option<u64>, TargetError> {
        self.size_at(&self.blob_key(piece.sha256), piece)
    }

    fn read(
        &self,
        _: &Record,
        piece: &Piece,
        from: u64,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        self.read_at((&self.blob_key(piece.sha256), piece), from, to, watch)
    }

    fn statements(&self, record: &Record) -> Result<Vec<Vec<u8>>, TargetError> {
        let folder = self.statements_key(&record.id);
        let mut found = Vec::new();
        for name in self.names(&folder, ".json")? {
            let key = folder.clone().join(format!("{name}.json"));
            found.extend(self.small(&key, SMALL_LIMIT)?.map(|(bytes, _)| bytes));
        }
        Ok(found)
    }

    fn add_statement(&self, record: &Record, envelope: &[u8]) -> Result<(), TargetError> {
        let name = format!("{}.json", Digest::of(envelope));
        let key = self.statements_key(&record.id).join(name);
        // The name is the digest: whatever is there by that name says the same.
        self.put_small(&key, envelope, PutMode::Overwrite)?;
        Ok(())
    }

    fn channels(&self, name: &str) -> Result<Vec<String>, TargetError> {
        let names = self.names(&self.key(&format!("channels/{name}")), ".jsonl")?;
        Ok(names
            .into_iter()
            .filter(|name| is_channel_name(name))
            .collect())
    }

    fn channel(&self, id: &ChannelId) -> Result<Log, TargetError> {
        let found = self.small(&self.channel_key(id), LOG_LIMIT)?;
        let (bytes, state) = found.unwrap_or_default();
        Ok(Log { bytes, state })
    }

    fn move_channel(
        &self,
        id: &ChannelId,
        seen: &Log,
        line: &[u8],
        _: &Record,
    ) -> Result<(), TargetError> {
        let mut bytes = seen.bytes.clone();
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        let mode = match &seen.state {
            None => PutMode::Create,
            Some(state) => PutMode::Update(UpdateVersion {
                e_tag: Some(state.clone()),
                version: None,
            }),
        };
        if self.put_small(&self.channel_key(id), &bytes, mode)? {
            return Ok(());
        }
        Err(TargetError::Moved {
            channel: id.to_string(),
        })
    }
}

/// A release on its way into a bucket.
struct BucketUpload<'a> {
    target: &'a BucketTarget,
    record: Record,
}

impl Upload for BucketUpload<'_> {
    fn put(&mut self, piece: &Piece, from: &Path, watch: Watch<'_>) -> Result<(), TargetError> {
        if self.target.size_of(&self.record, piece)? == Some(piece.size) {
            watch.advance(piece.size);
            return Ok(());
        }
        let key = self.target.blob_key(piece.sha256);
        self.target.put_at((&key, piece), from, watch)
    }

    fn read_back(
        &mut self,
        piece: &Piece,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        let key = self.target.blob_key(piece.sha256);
        self.target.read_at((&key, piece), 0, to, watch)
    }

    fn finish(self: Box<Self>) -> Result<(), TargetError> {
        let id = &self.record.id;
        let files = self.record.pieces.iter().map(|piece| WrittenFile {
            name: piece.name.clone(),
            size: piece.size,
            sha256: piece.sha256,
        });
        let written = Written {
            record_version: RECORD_VERSION,
            name: id.name().to_owned(),
            version: id.version().to_owned(),
            files: files.collect(),
        };
        let bytes = serde_json::to_vec(&written).expect("a record holds only plain data");
        if self
            .target
            .put_small(&self.target.record_key(id), &bytes, PutMode::Create)?
        {
            return Ok(());
        }
        Err(TargetError::AlreadyThere {
            place: format!("{id} in {}", self.target.place()),
        })
    }
}
