//! Where releases are published: a folder, a registry or a bucket, behind one trait.
//!
//! A target holds three kinds of things, and every target keeps the same promises about them:
//!
//! | thing | is | promise |
//! |---|---|---|
//! | release | pieces and the [`Record`] that names them | invisible until its record is there, which comes last; never replaced |
//! | statements | signed envelopes about one release | only added to |
//! | channel | a [`Log`] of signed pointers, one per line | one line more, or as it was |
//!
//! A target believes nobody and knows no keys: what is true is decided by whoever reads. It is
//! given bytes and gives bytes; [`crate::publish`], [`crate::pull`] and [`crate::promote`] are
//! the same for all of them.

mod bucket;
mod error;
mod folder;
mod http;
mod lock;
mod partial;
mod place;
mod registry;
mod transfer;

use std::fmt;
use std::io::Write;
use std::path::Path;

use baker_model::recipe::is_channel_name;
use baker_model::{Digest, Manifest};

pub use bucket::{BucketAccess, BucketTarget, Secret};
pub use error::TargetError;
pub use folder::{FolderTarget, Source};
pub(crate) use folder::{read_all, record_of};
pub use http::Credentials;
pub(crate) use http::{Http, Patience, Transport};
pub(crate) use lock::Lock;
pub(crate) use partial::rename_no_replace;
pub use place::{Place, PlaceError, Reference, Which};
pub use registry::RegistryTarget;
pub(crate) use registry::{Client, Descriptor, Document, EMPTY, MANIFEST_TYPE};

use crate::folder::Watch;
use crate::names::{self, MANIFEST, RESERVED, objection_to_component};

/// The largest channel or list of statements that is read, bytes: some ten thousand entries.
pub(crate) const LOG_LIMIT: u64 = 16 << 20;

/// A release by name and version; both are safe as one component of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReleaseId {
    name: String,
    version: String,
}

impl ReleaseId {
    /// A release of this name and version; none when they could lead elsewhere.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Option<Self> {
        let is_good = |text: &str| objection_to_component(text).is_none() && !text.starts_with('.');
        (is_good(name) && is_good(version)).then(|| Self {
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }

    /// Name of the recipe.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Version of the release.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Name of its folder, see [`crate::release_folder_name`].
    #[must_use]
    pub fn folder(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.version)
    }
}

/// A channel of one recipe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelId {
    name: String,
    channel: String,
}

impl ChannelId {
    /// The channel `channel` of the recipe `name`; none when either is no such name.
    #[must_use]
    pub fn new(name: &str, channel: &str) -> Option<Self> {
        let is_good = ReleaseId::new(name, "0").is_some() && is_channel_name(channel);
        is_good.then(|| Self {
            name: name.to_owned(),
            channel: channel.to_owned(),
        })
    }

    /// Name of the recipe.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of the channel.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.channel)
    }
}

/// One file of a release, as a target keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// Path inside the release.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Their digest.
    pub sha256: Digest,
}

/// What a release consists of, the manifest and its signatures included. It is not signed and
/// proves nothing: it says what to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which release.
    pub id: ReleaseId,
    /// Its files, sorted by name, each name once and safe.
    pub pieces: Vec<Piece>,
}

impl Record {
    /// The piece of this name.
    #[must_use]
    pub fn piece(&self, name: &str) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.name == name)
    }

    /// Digest of `manifest.json`: the identity of the release.
    #[must_use]
    pub fn release(&self) -> Option<Digest> {
        self.piece(MANIFEST).map(|piece| piece.sha256)
    }

    /// Bytes of all pieces together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let sizes = self.pieces.iter().map(|piece| piece.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// The record of these pieces, the signed lists among them; `what` is for the error.
    ///
    /// # Errors
    /// A name could lead out of the release, stands twice, or there is no manifest.
    pub(crate) fn new(
        id: ReleaseId,
        mut pieces: Vec<Piece>,
        what: &str,
    ) -> Result<Self, TargetError> {
        let refuse = |cause: String| TargetError::Malformed {
            what: what.to_owned(),
            cause,
        };
        pieces.sort();
        for piece in &pieces {
            let name = piece.name.as_str();
            let objection = names::objection_to(name).filter(|_| !RESERVED.contains(&name));
            if let Some(why) = objection {
                let name = name.escape_debug();
                return Err(refuse(format!(
                    "it names `{name}`, which is not allowed: {why}"
                )));
            }
        }
        if let Some(pair) = pieces.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(refuse(format!("it names `{}` twice", pair[0].name)));
        }
        let record = Self { id, pieces };
        match record.release() {
            Some(_) => Ok(record),
            None => Err(refuse(format!("it names no {MANIFEST}"))),
        }
    }

    /// The record of a release with this manifest and these lists beside it.
    pub(crate) fn of(
        manifest: &Manifest,
        lists: Vec<Piece>,
        what: &str,
    ) -> Result<Self, TargetError> {
        let id = ReleaseId::new(&manifest.name, &manifest.version);
        let id = id.ok_or_else(|| TargetError::Malformed {
            what: what.to_owned(),
            cause: "its name or version is not allowed".to_owned(),
        })?;
        let named = manifest.files.iter().map(|file| Piece {
            name: file.name.clone(),
            size: file.size,
            sha256: file.sha256,
        });
        Self::new(id, named.chain(lists).collect(), what)
    }
}

/// A channel as it was read, and what [`Target::move_channel`] needs to see that it still is so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// One signed pointer per line; empty when the channel was never moved.
    pub bytes: Vec<u8>,
    /// The target's own word for this state; none when there is no channel yet.
    pub state: Option<String>,
}

/// A place for releases.
///
/// All methods block; those that move much look at the interrupt of their watch.
pub trait Target: Send + Sync {
    /// Where it is, for people; never holds a credential.
    fn place(&self) -> String;

    /// Begins to publish a release. Nothing of it is visible before [`Upload::finish`].
    ///
    /// # Errors
    /// The target cannot be written to.
    fn begin<'a>(
        &'a self,
        record: &Record,
        watch: Watch<'_>,
    ) -> Result<Box<dyn Upload + 'a>, TargetError>;

    /// What the release consists of; none when there is no such release.
    ///
    /// # Errors
    /// The target cannot be read, or holds something that is no record.
    fn record(&self, id: &ReleaseId) -> Result<Option<Record>, TargetError>;

    /// All releases of a recipe, sorted by version as text.
    ///
    /// # Errors
    /// The target cannot be read.
    fn releases(&self, name: &str) -> Result<Vec<ReleaseId>, TargetError>;

    /// Bytes of a piece as the target has it; none when it is not there.
    ///
    /// # Errors
    /// The target cannot be read.
    fn size_of(&self, record: &Record, piece: &Piece) -> Result<Option<u64>, TargetError>;

    /// Reads a piece from byte `from` to its end. Gives what the target has: **the caller
    /// compares the digest.** No more than the piece's size is handed over.
    ///
    /// # Errors
    /// The target cannot be read, `to` refuses, or a person asked to stop.
    fn read(
        &self,
        record: &Record,
        piece: &Piece,
        from: u64,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError>;

    /// The statements about a release, each the bytes of an envelope, in the target's order.
    ///
    /// # Errors
    /// The target cannot be read.
    fn statements(&self, record: &Record) -> Result<Vec<Vec<u8>>, TargetError>;

    /// Adds a statement; one that is there already is not added again.
    ///
    /// # Errors
    /// The target cannot be written to.
    fn add_statement(&self, record: &Record, envelope: &[u8]) -> Result<(), TargetError>;

    /// The names of a recipe's channels, sorted.
    ///
    /// # Errors
    /// The target cannot be read.
    fn channels(&self, name: &str) -> Result<Vec<String>, TargetError>;

    /// The log of a channel; empty when there is none.
    ///
    /// # Errors
    /// The target cannot be read.
    fn channel(&self, id: &ChannelId) -> Result<Log, TargetError>;

    /// Makes a channel `seen.bytes` followed by `line`, if it still is `seen`. `record` is the
    /// release that the line points to.
    ///
    /// # Errors
    /// [`TargetError::Moved`] when somebody else was faster; the target cannot be written to.
    fn move_channel(
        &self,
        id: &ChannelId,
        seen: &Log,
        line: &[u8],
        record: &Record,
    ) -> Result<(), TargetError>;
}

/// A release on its way into a target. **Dropped without [`Upload::finish`], it never was.**
pub trait Upload {
    /// Puts the bytes of `from` there as `piece`, unless the target has them already.
    ///
    /// # Errors
    /// The file cannot be read, or the target cannot be written to.
    fn put(&mut self, piece: &Piece, from: &Path, watch: Watch<'_>) -> Result<(), TargetError>;

    /// Reads a piece back out of the target.
    ///
    /// # Errors
    /// The target cannot be read.
    fn read_back(
        &mut self,
        piece: &Piece,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError>;

    /// Makes the release visible in one step, if there is none of its name and version.
    ///
    /// # Errors
    /// [`TargetError::AlreadyThere`] when there is; the target cannot be written to.
    fn finish(self: Box<Self>) -> Result<(), TargetError>;
}
