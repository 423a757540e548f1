//! Results of bakes that machines share: what one has made, others bring instead of making it again.
//!
//! ```text
//! <place>/ac/<address>     a record: who vouches for what (see [`record`])
//! <place>/cas/<sha256>     a blob: the bytes that records name by their digest
//! ```
//! The address of `packed-<key>` is the SHA-256 of this very text, so a record is found with no other
//! tools than `printf %s packed-<key> | sha256sum`. This is the layout of the HTTP caches that build
//! tools know: any server that answers GET, HEAD and PUT holds it, and folders and buckets have the
//! same names. A registry has one repository instead, with a manifest per record under the tag
//! `<kind>-<key>` (see [`registry`]).
//!
//! A key of work is no digest of its result, so nobody can tell by the key whether a result is the
//! right one: an entry counts only when a trusted key has signed its record, and its blobs only when
//! they have the digests in it. A shelf is never believed, and knows no keys.
//!
//! Records may be replaced and blobs may vanish at any time; whoever finds less than a whole entry
//! has found nothing.

mod bucket;
mod folder;
mod http;
mod place;
pub mod record;
mod registry;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use baker_model::{Digest, Digester, Interrupt, Silent};

pub use bucket::BucketShelf;
pub use folder::FolderShelf;
pub use http::{Authorization, HttpShelf};
pub use place::CachePlace;
pub use record::{Blob, Kept, RecordError};
pub use registry::RegistryShelf;

use crate::folder::Watch;
use crate::signer::{Signer, SigningError};
use crate::target::{Piece, TargetError};
use crate::trust::Trust;

/// The largest record that is read, bytes; one has less than a thousand.
pub const RECORD_LIMIT: u64 = 64 << 10;

/// The largest blob that is read, bytes.
pub const BLOB_LIMIT: u64 = 16 << 30;

/// Name of the stage in events.
const STAGE: &str = "cache";

/// What an entry is called: what kind of result it is, and the key of everything that went into it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// First word of its name: lower-case letters.
    pub kind: &'static str,
    /// The key.
    pub key: Digest,
}

impl Slot {
    /// The SHA-256 of its name, which records are found by.
    #[must_use]
    pub fn address(&self) -> Digest {
        Digest::of(self.to_string().as_bytes())
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.kind, self.key)
    }
}

/// A place for entries. All methods block, and may be called by several threads at once.
pub trait Shelf: Send + Sync {
    /// Where it is, for people; never holds a credential.
    fn place(&self) -> String;

    /// The record of an entry, at most [`RECORD_LIMIT`] bytes; none when there is none.
    ///
    /// # Errors
    /// The shelf cannot be read.
    fn record(&self, slot: &Slot) -> Result<Option<Vec<u8>>, TargetError>;

    /// Puts a record there, in place of an earlier one; its blobs are there.
    ///
    /// # Errors
    /// The shelf cannot be written to.
    fn put_record(&self, slot: &Slot, record: &[u8], blobs: &[Piece]) -> Result<(), TargetError>;

    /// Bytes of a blob as the shelf has it; none when it is not there.
    ///
    /// # Errors
    /// The shelf cannot be read.
    fn size_of(&self, blob: &Piece) -> Result<Option<u64>, TargetError>;

    /// Reads a blob; false when it is not there. Gives what the shelf has: **the caller compares the
    /// digest.** No more than the blob's size is handed over.
    ///
    /// # Errors
    /// The shelf cannot be read, `to` refuses, or a person asked to stop.
    fn read(&self, blob: &Piece, to: &mut dyn Write, watch: Watch<'_>)
    -> Result<bool, TargetError>;

    /// Puts the bytes of `from` there.
    ///
    /// # Errors
    /// The file cannot be read, or the shelf not be written to.
    fn put(&self, blob: &Piece, from: &Path, watch: Watch<'_>) -> Result<(), TargetError>;
}

/// An entry cannot be brought or shared.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// What the cache has by this name is not to be believed.
    #[error("the entry {slot} of {place} is refused")]
    Refused {
        /// The entry.
        slot: Slot,
        /// The cache.
        place: String,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// The bytes are not those that the record names.
    #[error(
        "the entry {slot} of {place} is refused: its blob {expected} has other bytes than were signed"
    )]
    Damaged {
        /// The entry.
        slot: Slot,
        /// The cache.
        place: String,
        /// The digest that was signed.
        expected: Digest,
    },
    /// The file to share was another one at its end.
    #[error("{} changed while it was shared", path.display())]
    Changed {
        /// The file.
        path: std::path::PathBuf,
    },
    /// Nobody signed.
    #[error("cannot sign the entry {slot}")]
    Signing {
        /// The entry.
        slot: Slot,
        /// Why.
        #[source]
        source: SigningError,
    },
    /// The cache cannot be used.
    #[error(transparent)]
    Shelf(#[from] TargetError),
}

impl CacheError {
    /// True when only this entry is lost, and others may be well.
    #[must_use]
    pub const fn is_of_entry(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Damaged { .. } | Self::Changed { .. } => true,
            Self::Shelf(error) => matches!(
                error,
                TargetError::Malformed { .. } | TargetError::Corrupt { .. }
            ),
            Self::Signing { .. } => false,
        }
    }
}

/// An entry to share.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// What it consists of.
    pub kept: &'a Kept,
    /// The files of its blobs, in the order of [`Kept::blobs`].
    pub files: &'a [&'a Path],
    /// What to do with blobs that are there.
    pub present: Present,
}

/// What to do with blobs that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// Leaves those that have the right size.
    Left,
    /// Sends them again: one with the right size may have other bytes.
    Replaced,
}

/// What trusted keys say of an entry; none when there is no such entry.
///
/// # Errors
/// The record is refused, or the shelf cannot be read.
pub fn look(shelf: &dyn Shelf, slot: &Slot, trust: &Trust) -> Result<Option<Kept>, CacheError> {
    let Some(bytes) = shelf.record(slot)? else {
        return Ok(None);
    };
    let kept = Kept::open(&bytes, slot, trust).map_err(|source| CacheError::Refused {
        slot: slot.clone(),
        place: shelf.place(),
        source,
    })?;
    Ok(Some(kept))
}

/// Hands over a blob of an entry; false when it is not there. **What came before an error is worth
/// nothing.**
///
/// # Errors
/// The blob has another digest, the shelf cannot be read, or a person asked to stop.
pub fn bring(
    shelf: &dyn Shelf,
    slot: &Slot,
    blob: &Blob,
    to: &mut dyn Write,
    interrupt: &Interrupt,
) -> Result<bool, CacheError> {
    let mut hashing = Hashing {
        digester: Digester::new(),
        to,
    };
    let watch = watch(interrupt);
    if !shelf.read(&piece(slot, blob), &mut hashing, watch)? {
        return Ok(false);
    }
    if hashing.digester.finish() != blob.sha256 {
        return Err(CacheError::Damaged {
            slot: slot.clone(),
            place: shelf.place(),
            expected: blob.sha256,
        });
    }
    Ok(true)
}

/// Puts an entry there: its blobs, then the record, signed. Gives the number of bytes sent.
///
/// # Errors
/// A file cannot be read or changed meanwhile, nobody signs, or the shelf cannot be written to.
pub fn share(
    shelf: &dyn Shelf,
    slot: &Slot,
    offer: Offer<'_>,
    signer: &dyn Signer,
    interrupt: &Interrupt,
) -> Result<u64, CacheError> {
    let pieces: Vec<Piece> = offer.kept.blobs().map(|blob| piece(slot, blob)).collect();
    let mut sent = 0;
    for (piece, path) in pieces.iter().zip(offer.files) {
        if offer.present == Present::Left && shelf.size_of(piece)? == Some(piece.size) {
            continue;
        }
        shelf.put(piece, path, watch(interrupt))?;
        sent += piece.size;
        // A bake beside this one may have put another file there; a record of it would be a lie.
        let failed = |error| TargetError::of_read(path, error);
        let now = Blob::of_file(path).map_err(failed)?;
        if (now.sha256, now.size) != (piece.sha256, piece.size) {
            let path = path.to_path_buf();
            return Err(CacheError::Changed { path });
        }
    }
    let record = offer.kept.sign(slot, signer);
    let record = record.map_err(|source| CacheError::Signing {
        slot: slot.clone(),
        source,
    })?;
    shelf.put_record(slot, &record, &pieces)?;
    Ok(sent + record.len() as u64)
}

/// True when a cache has all blobs of an entry.
///
/// # Errors
/// The shelf cannot be read.
pub fn is_whole(shelf: &dyn Shelf, slot: &Slot, kept: &Kept) -> Result<bool, CacheError> {
    for blob in kept.blobs() {
        if shelf.size_of(&piece(slot, blob))? != Some(blob.size) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn piece(slot: &Slot, blob: &Blob) -> Piece {
    Piece {
        name: slot.to_string(),
        size: blob.size,
        sha256: blob.sha256,
    }
}

fn watch(interrupt: &Interrupt) -> Watch<'_> {
    Watch {
        stage: STAGE,
        listener: &Silent,
        interrupt,
    }
}

/// Hashes what passes.
struct Hashing<'a> {
    digester: Digester,
    to: &'a mut dyn Write,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.digester.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
