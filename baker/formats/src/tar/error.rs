//! What can be wrong with a tar stream.

use std::io;

/// The stream is no tar archive that can be carried over faithfully; offsets count the
/// uncompressed bytes.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The underlying reader (mostly a decompressor) failed.
    #[error("cannot read the archive at byte {offset}")]
    Read {
        /// Position in the tar stream.
        offset: u64,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// A header makes no sense.
    #[error("bad entry header at byte {offset}: {problem}")]
    Header {
        /// Where the header begins.
        offset: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The entry is of a kind that cannot be carried over.
    #[error("entry `{path}` at byte {offset} cannot be read: {problem}")]
    Unsupported {
        /// Path as written.
        path: String,
        /// Where its header begins.
        offset: u64,
        /// Why not.
        problem: String,
    },
    /// The archive ends too early.
    #[error("the archive is cut off at byte {offset}, inside {inside}")]
    Truncated {
        /// Where it ends.
        offset: u64,
        /// The part that is not whole.
        inside: &'static str,
    },
    /// Something other than zeros follows the end of the archive.
    #[error("junk follows the end of the archive at byte {offset}")]
    Junk {
        /// Where the junk begins, rounded down to the block.
        offset: u64,
    },
    /// The archive is larger than the taker allows.
    #[error("the archive has more than {limit} {what} (at byte {offset})")]
    Limit {
        /// What there are too many of.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
        /// Where the limit was passed.
        offset: u64,
    },
}

impl TarError {
    pub(super) fn header(offset: u64, problem: impl Into<String>) -> Self {
        Self::Header {
            offset,
            problem: problem.into(),
        }
    }
}
