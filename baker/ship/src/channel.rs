//! Channels: signed pointers to releases, and how they came to point there.
//!
//! A channel is a log of [`Pointer`]s, one signed envelope per line; the last line is where it
//! points. Each pointer carries its number and the digest of the line before it, so that no line
//! can be changed, left out or put in between without breaking the chain. What a chain alone
//! cannot show is that its end was cut off: whoever follows a channel remembers how far it was
//! ([`Entry::digest`]), as [`crate::pull`] does.
//!
//! Takes a target and whom to trust, gives the entries; an unsigned or broken line is an error and
//! never skipped.

use std::num::NonZeroUsize;

use baker_model::Digest;
use baker_model::plan::Day;
use serde::{Deserialize, Serialize};

use crate::dsse::{DsseError, Envelope};
use crate::report::SignedBy;
use crate::signer::{Signer, SigningError};
use crate::target::{ChannelId, Log, Record, Target, TargetError};
use crate::trust::Trust;

/// The type of the payload of a line.
pub const POINTER_TYPE: &str = "application/vnd.baker.channel-pointer+json";

/// The version of pointers that this baker writes.
pub const POINTER_VERSION: u32 = 1;

/// Where a channel points from some day on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pointer {
    /// [`POINTER_VERSION`].
    pub pointer_version: u32,
    /// Name of the recipe.
    pub name: String,
    /// Name of the channel.
    pub channel: String,
    /// Number of the pointer in its channel, from 1.
    pub sequence: u64,
    /// Version of the release.
    pub version: String,
    /// Digest of its `manifest.json`.
    pub release: Digest,
    /// Digest of the line before; none in the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The day in UTC.
    pub day: Day,
    /// Who moved the channel.
    pub author: String,
    /// Digest of the verification summary that allowed it.
    pub summary: Digest,
}

/// A pointer and what vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// What it says.
    #[serde(flatten)]
    pub pointer: Pointer,
    /// The trusted keys that signed it.
    pub signed_by: Vec<SignedBy>,
    /// Digest of its line: the next pointer names it.
    pub digest: Digest,
}

/// A channel cannot be followed or moved.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Nothing was ever promoted there.
    #[error("there is no channel {channel} in {place}")]
    NoChannel {
        /// The channel.
        channel: String,
        /// The target.
        place: String,
    },
    /// A line is not signed by anybody whom we trust.
    #[error("line {line} of {channel} is not vouched for")]
    Signature {
        /// The channel.
        channel: String,
        /// Line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: DsseError,
    },
    /// A line is no pointer.
    #[error("line {line} of {channel} is no pointer: {cause}")]
    Syntax {
        /// The channel.
        channel: String,
        /// Line, from 1.
        line: usize,
        /// Why.
        cause: String,
    },
    /// The lines do not belong together.
    #[error("the history of {channel} is broken at line {line}: {cause}")]
    Broken {
        /// The channel.
        channel: String,
        /// Line, from 1.
        line: usize,
        /// What does not fit.
        cause: &'static str,
    },
    /// The key does not sign.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// A channel as it was read: its entries, oldest first, and the state to move it from.
#[derive(Debug, Clone)]
pub struct History {
    /// The entries.
    pub entries: Vec<Entry>,
    log: Log,
}

impl History {
    /// Where the channel points now.
    #[must_use]
    pub fn current(&self) -> Option<&Entry> {
        self.entries.last()
    }
}

/// Where a channel is to point, and who says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move<'a> {
    pub(crate) id: &'a ChannelId,
    pub(crate) record: &'a Record,
    pub(crate) release: Digest,
    pub(crate) summary: Digest,
    pub(crate) day: Day,
    pub(crate) author: &'a str,
}

/// Reads the whole history of a channel and checks every line of it.
///
/// # Errors
/// See [`ChannelError`]; a channel that was never moved has no entries and is no error.
pub fn history(
    target: &dyn Target,
    id: &ChannelId,
    trust: &Trust,
) -> Result<History, ChannelError> {
    let log = target.channel(id)?;
    let entries = parse(&log.bytes, id, trust)?;
    Ok(History { entries, log })
}

/// Moves a channel on from `history`.
pub(crate) fn advance(
    target: &dyn Target,
    history: &History,
    to: &Move<'_>,
    signer: &dyn Signer,
) -> Result<Entry, ChannelError> {
    let pointer = Pointer {
        pointer_version: POINTER_VERSION,
        name: to.id.name().to_owned(),
        channel: to.id.channel().to_owned(),
        sequence: history.current().map_or(0, |last| last.pointer.sequence) + 1,
        version: to.record.id.version().to_owned(),
        release: to.release,
        previous: history.current().map(|last| last.digest),
        day: to.day,
        author: to.author.to_owned(),
        summary: to.summary,
    };
    let payload = serde_json::to_vec(&pointer).expect("a pointer holds only plain data");
    let mut envelope = Envelope::new(POINTER_TYPE, payload);
    envelope.sign(signer)?;
    let line = envelope.to_line();
    target.move_channel(to.id, &history.log, &line, to.record)?;
    Ok(Entry {
        pointer,
        signed_by: vec![SignedBy::of(&signer.public())],
        digest: Digest::of(&line),
    })
}

fn parse(log: &[u8], id: &ChannelId, trust: &Trust) -> Result<Vec<Entry>, ChannelError> {
    let mut entries: Vec<Entry> = Vec::new();
    let Some(lines) = log.strip_suffix(b"\n") else {
        let is_empty = log.is_empty();
        let broken = broken(id, 1, "its last line has no end");
        return if is_empty { Ok(entries) } else { Err(broken) };
    };
    for (number, line) in (1..).zip(lines.split(|byte| *byte == b'\n')) {
        let entry = entry(line, number, id, trust)?;
        let last = entries.last();
        let sequence = last.map_or(0, |last| last.pointer.sequence) + 1;
        if entry.pointer.name != id.name() || entry.pointer.channel != id.channel() {
            return Err(broken(id, number, "it speaks of another channel"));
        }
        if entry.pointer.previous != last.map(|last| last.digest) {
            return Err(broken(id, number, "it does not name the line before it"));
        }
        if entry.pointer.sequence != sequence {
            return Err(broken(id, number, "its number is not the next"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn broken(id: &ChannelId, line: usize, cause: &'static str) -> ChannelError {
    let channel = id.to_string();
    ChannelError::Broken {
        channel,
        line,
        cause,
    }
}

/// One line: first its signature, then what it says.
fn entry(line: &[u8], number: usize, id: &ChannelId, trust: &Trust) -> Result<Entry, ChannelError> {
    let channel = id.to_string();
    let unsigned = |source| ChannelError::Signature {
        channel: channel.clone(),
        line: number,
        source,
    };
    let wrong = |cause: String| ChannelError::Syntax {
        channel: channel.clone(),
        line: number,
        cause,
    };
    let envelope = Envelope::parse(line).map_err(unsigned)?;
    let signed_by = envelope
        .verify(trust, NonZeroUsize::MIN)
        .map_err(unsigned)?;
    if envelope.payload_type() != POINTER_TYPE {
        return Err(wrong(format!(
            "it is of type `{}`",
            envelope.payload_type()
        )));
    }
    let pointer: Pointer =
        serde_json::from_slice(envelope.payload()).map_err(|error| wrong(error.to_string()))?;
    if pointer.pointer_version != POINTER_VERSION {
        let version = pointer.pointer_version;
        return Err(wrong(format!(
            "it has version {version}, this baker reads {POINTER_VERSION}"
        )));
    }
    Ok(Entry {
        pointer,
        signed_by,
        digest: Digest::of(line),
    })
}
