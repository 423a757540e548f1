//! What can be wrong with a package.

use std::io;

use crate::ar::ArError;
use crate::tar::TarError;

/// The bytes are no Debian package that can be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The outer archive is damaged; the message says where.
    #[error(transparent)]
    Archive(#[from] ArError),
    /// A member that must be there is not.
    #[error("the package has no member `{expected}`")]
    Missing {
        /// Its name, without suffix.
        expected: &'static str,
    },
    /// Another member lies where this one must be.
    #[error("the package has `{found}` at byte {offset} where `{expected}` must be")]
    Order {
        /// The name that must be there, without suffix.
        expected: &'static str,
        /// The name that is there.
        found: String,
        /// Where that member's data begins.
        offset: u64,
    },
    /// Not format 2.x.
    #[error("the package has format version `{found}`, only 2.x is known")]
    Version {
        /// What `debian-binary` says.
        found: String,
    },
    /// Compressed in a way that is not known.
    #[error("member `{member}` (byte {offset}) is compressed in a way that is not supported")]
    Compression {
        /// Its name.
        member: String,
        /// Where its data begins.
        offset: u64,
    },
    /// A member cannot be read or its decompressor cannot start.
    #[error("cannot begin to read member `{member}`")]
    Decoder {
        /// Its name.
        member: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A tar inside the package is damaged or cannot be carried over.
    #[error("member `{member}` is damaged")]
    Member {
        /// Its name.
        member: String,
        /// What is wrong, and where in the uncompressed member.
        #[source]
        source: TarError,
    },
    /// Bytes follow the compressed data inside a member.
    #[error("junk follows the data of member `{member}` at byte {offset}")]
    Junk {
        /// Its name.
        member: String,
        /// Where the junk begins in the package.
        offset: u64,
    },
    /// `control.tar` holds something that does not belong there.
    #[error("member `{member}` holds `{path}`: {problem}")]
    Control {
        /// Its name.
        member: String,
        /// Path of the entry.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}
