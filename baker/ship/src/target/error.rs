//! What can go wrong with a target.

use std::io;
use std::path::{Path, PathBuf};

use baker_model::Digest;

/// A target cannot do what was asked. What it held before, it holds still.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is a release of this name and version, or something else of that name.
    #[error("{place} is already there, and a release is never replaced")]
    AlreadyThere {
        /// The release in its target.
        place: String,
    },
    /// Another baker is publishing the same release at this moment.
    #[error("another baker is publishing into {} right now", partial.display())]
    Busy {
        /// The hidden folder.
        partial: PathBuf,
    },
    /// A folder cannot be written to.
    #[error("cannot write into {}", path.display())]
    ReadOnly {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No space is left, or a quota is used up.
    #[error("no space is left for {}", path.display())]
    Full {
        /// The file that did not fit.
        path: PathBuf,
        /// Bytes that the release needs at most.
        needed: u64,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody asked to stop.
    #[error("interrupted while working on {place}")]
    Interrupted {
        /// What was being worked on.
        place: String,
    },
    /// The network or the other side failed.
    #[error("cannot {doing}: {cause}")]
    Remote {
        /// What was being done.
        doing: String,
        /// What failed.
        cause: String,
    },
    /// The other side does not let us in.
    #[error("{host} does not let us do that")]
    Unauthorized {
        /// The registry or bucket.
        host: String,
    },
    /// Somebody else moved the channel between reading and writing it.
    #[error("somebody else moved {channel} at this moment")]
    Moved {
        /// The channel.
        channel: String,
    },
    /// What the target gives back is not what was put there, or what its record says.
    #[error("{place} holds other bytes for `{name}`: their SHA-256 is {found}, not {expected}")]
    Corrupt {
        /// The target.
        place: String,
        /// The piece.
        name: String,
        /// The digest that it must have.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The target holds something that baker does not write.
    #[error("{what} cannot be used: {cause}")]
    Malformed {
        /// The thing.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl TargetError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::AlreadyThere { .. } => {
                Some("raise `version` in the recipe; a published version is for ever".to_owned())
            }
            Self::Busy { .. } => Some("wait for the other baker to end".to_owned()),
            Self::ReadOnly { .. } => {
                Some("name a folder that you can write to with `--to`".to_owned())
            }
            Self::Full { needed, .. } => Some(format!(
                "make room for up to {needed} bytes, or name a folder elsewhere with `--to`"
            )),
            Self::Moved { .. } => {
                Some("look where it points now, and if you still want to, do it again".to_owned())
            }
            Self::Unauthorized { .. } => Some(
                "credentials come from the environment or a file: see baker/PUBLISHING.md"
                    .to_owned(),
            ),
            Self::Corrupt { .. }
            | Self::Remote { .. }
            | Self::Malformed { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Interrupted { .. } => None,
        }
    }

    /// Sorts a failure to write `path` by what a person would do about it.
    pub(crate) fn of_write(path: &Path, needed: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                path,
                needed,
                source,
            },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, source }
            }
            _ => Self::Write { path, source },
        }
    }

    pub(crate) fn of_read(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Read { path, source }
    }
}
