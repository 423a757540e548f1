//! What was said about a release after it was made: withdrawn, rebuilt, verified.
//!
//! Each is an in-toto statement in a DSSE envelope whose subject is the release's `manifest.json`,
//! kept beside the release by its target. Takes the statements of a release and whom to trust,
//! gives those that are about this very release, each with who vouches for it. What nobody whom we
//! trust has signed is kept apart: it binds nobody, but a person should know of it.

use std::num::NonZeroUsize;

use baker_model::Digest;
use baker_model::plan::Day;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dsse::{Envelope, IN_TOTO};
use crate::names::MANIFEST;
use crate::report::SignedBy;
use crate::signer::{Signer, SigningError};
use crate::statement::{Resource, STATEMENT, Statement};
use crate::target::{Record, ReleaseId, Target, TargetError};
use crate::trust::Trust;
use crate::vsa::{Summary, VSA_TYPE};

/// The type of a [`Withdrawal`].
pub const WITHDRAWAL_TYPE: &str = "urn:baker:withdrawal:1";

/// The type of a [`Rebuild`].
pub const REBUILD_TYPE: &str = "urn:baker:rebuild:1";

/// The release must not be used any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Withdrawal {
    /// Why.
    pub reason: String,
    /// Who says so.
    pub author: String,
    /// The day in UTC.
    pub day: Day,
}

/// Somebody baked the same lock elsewhere and got the very bytes of the subjects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rebuild {
    /// The place that rebuilt it, in its owner's words.
    pub builder: String,
    /// Version of the baker that did.
    pub baker: String,
    /// The day in UTC.
    pub day: Day,
}

/// One statement about a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What.
    pub what: What,
    /// The trusted keys that signed it; empty when nobody whom we trust did.
    pub signed_by: Vec<SignedBy>,
    /// Digest of its envelope as the target has it.
    pub digest: Digest,
}

impl Said {
    /// Why the release is withdrawn, when this statement says so. One that this baker cannot read
    /// withdraws it as well: a newer baker may say more.
    #[must_use]
    pub fn withdrawal(&self) -> Option<String> {
        match &self.what {
            What::Withdrawn(said) => {
                let Withdrawal {
                    reason,
                    author,
                    day,
                } = said;
                Some(format!("{reason} ({author}, {day})"))
            }
            What::Other { kind } if kind == WITHDRAWAL_TYPE => {
                Some("no reason that this baker can read".to_owned())
            }
            _ => None,
        }
    }
}

/// What a statement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Not to be used any more.
    Withdrawn(Withdrawal),
    /// Rebuilt elsewhere with the same bytes.
    Rebuilt(Rebuild),
    /// Checked against a policy.
    Verified(Box<Summary>),
    /// Something that this baker does not know.
    Other {
        /// Type of the predicate or of the payload.
        kind: String,
    },
}

/// All that was said about the release of `record`, in the target's order.
///
/// # Errors
/// The target cannot be read. What is no statement about this release is left out.
pub fn about(
    target: &dyn Target,
    record: &Record,
    trust: &Trust,
) -> Result<Vec<Said>, TargetError> {
    let statements = target.statements(record)?;
    let of_release = |bytes: &Vec<u8>| hear(bytes, record.release()?, trust);
    Ok(statements.iter().filter_map(of_release).collect())
}

/// A statement was not made.
#[derive(Debug, thiserror::Error)]
pub enum SayError {
    /// There is no such release.
    #[error("there is no release {release} in {place}")]
    NoRelease {
        /// The release.
        release: String,
        /// The target.
        place: String,
    },
    /// It is another one than the one that is spoken of.
    #[error("{release} of {place} is another release than the one here")]
    OtherRelease {
        /// The release.
        release: String,
        /// The target.
        place: String,
    },
    /// A reason is what the next person needs.
    #[error("a withdrawal needs a reason")]
    NoReason,
    /// The key does not sign.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// Withdraws a release: from now on it is neither promoted nor pulled unless somebody insists.
/// Nothing is deleted and nothing is taken back: a release that was withdrawn by mistake comes
/// again under another version.
///
/// # Errors
/// There is no such release, no reason, or the target cannot be written to.
pub fn withdraw(
    target: &dyn Target,
    release: &ReleaseId,
    withdrawal: Withdrawal,
    signer: &dyn Signer,
) -> Result<(), SayError> {
    if withdrawal.reason.trim().is_empty() {
        return Err(SayError::NoReason);
    }
    let record = record(target, release)?;
    say(target, &record, (WITHDRAWAL_TYPE, withdrawal), signer)?;
    Ok(())
}

/// Says that somebody rebuilt a release and got the same bytes. `manifest` is the digest of the
/// manifest that was rebuilt.
///
/// # Errors
/// There is no such release or another one, or the target cannot be written to.
pub fn confirm(
    target: &dyn Target,
    (release, manifest): (&ReleaseId, Digest),
    rebuild: Rebuild,
    signer: &dyn Signer,
) -> Result<(), SayError> {
    let record = record(target, release)?;
    if record.release() != Some(manifest) {
        return Err(SayError::OtherRelease {
            release: release.to_string(),
            place: target.place(),
        });
    }
    say(target, &record, (REBUILD_TYPE, rebuild), signer)?;
    Ok(())
}

fn record(target: &dyn Target, release: &ReleaseId) -> Result<Record, SayError> {
    target.record(release)?.ok_or_else(|| SayError::NoRelease {
        release: release.to_string(),
        place: target.place(),
    })
}

/// Signs `predicate` about a release and keeps it beside it; gives the digest of the envelope.
pub(crate) fn say<P: Serialize>(
    target: &dyn Target,
    record: &Record,
    (kind, predicate): (&str, P),
    signer: &dyn Signer,
) -> Result<Digest, SayError> {
    let statement = Statement::new(subject(record), kind, predicate);
    let mut envelope = Envelope::new(IN_TOTO, statement.to_bytes());
    envelope.sign(signer)?;
    let line = envelope.to_line();
    target.add_statement(record, &line)?;
    Ok(Digest::of(&line))
}

/// Keeps a statement that somebody else has signed beside its release.
///
/// # Errors
/// It is no statement about this release, or the target cannot be written to.
pub fn attest(target: &dyn Target, record: &Record, bytes: &[u8]) -> Result<Said, TargetError> {
    let refuse = |cause: &str| TargetError::Malformed {
        what: "the statement".to_owned(),
        cause: cause.to_owned(),
    };
    let envelope = Envelope::parse(bytes).map_err(|error| refuse(&crate::report::chain(&error)))?;
    let line = envelope.to_line();
    let release = record.release();
    let said = release.and_then(|release| hear(&line, release, &Trust::default()));
    let said = said.ok_or_else(|| refuse("it is no statement about this release"))?;
    target.add_statement(record, &line)?;
    Ok(said)
}

/// The subject of statements about a release: its manifest, which names all else, and every file
/// that it names, so that a statement is also found by the digest of a disk.
pub(crate) fn subject(record: &Record) -> Vec<Resource> {
    let lists = crate::names::RESERVED;
    let named = record
        .pieces
        .iter()
        .filter(|piece| piece.name == MANIFEST || !lists.contains(&piece.name.as_str()));
    named
        .map(|piece| Resource::new(&piece.name, piece.sha256))
        .collect()
}

fn hear(bytes: &[u8], release: Digest, trust: &Trust) -> Option<Said> {
    let envelope = Envelope::parse(bytes).ok()?;
    let signed_by = envelope
        .verify(trust, NonZeroUsize::MIN)
        .unwrap_or_default();
    let digest = Digest::of(bytes);
    if envelope.payload_type() != IN_TOTO {
        return None;
    }
    let payload = envelope.payload();
    let statement: Statement<serde_json::Value> = serde_json::from_slice(payload).ok()?;
    let manifest = Resource::new(MANIFEST, release);
    if statement.kind != STATEMENT || !statement.subject.contains(&manifest) {
        return None;
    }
    let kind = statement.predicate_type;
    let what = match kind.as_str() {
        WITHDRAWAL_TYPE => read(statement.predicate).map(What::Withdrawn),
        REBUILD_TYPE => read(statement.predicate).map(What::Rebuilt),
        VSA_TYPE => read(statement.predicate).map(What::Verified),
        _ => None,
    };
    let what = what.unwrap_or(What::Other { kind });
    Some(Said {
        what,
        signed_by,
        digest,
    })
}

fn read<T: DeserializeOwned>(predicate: serde_json::Value) -> Option<T> {
    serde_json::from_value(predicate).ok()
}
