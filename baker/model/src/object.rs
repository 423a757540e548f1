//! Reading stored bytes by digest, without knowing where they are stored.

use std::io;

use crate::Digest;

/// The bytes named by a digest could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Nothing is stored under this digest.
    #[error("object {digest} is not in the store")]
    Missing {
        /// The digest asked for.
        digest: Digest,
    },
    /// The stored bytes could not be read.
    #[error("cannot read object {digest} from the store")]
    Read {
        /// The digest asked for.
        digest: Digest,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A seekable stream of stored bytes.
pub trait ReadSeek: io::Read + io::Seek + Send {}

impl<T: io::Read + io::Seek + Send> ReadSeek for T {}

/// A place where bytes are found by digest: the store of inputs, or a folder of stage results.
pub trait Objects: Sync {
    /// Opens the bytes of `digest` for reading.
    ///
    /// The reader need not check the digest; whoever must be sure hashes what it reads.
    ///
    /// # Errors
    /// [`ObjectError::Missing`] when it is not there, [`ObjectError::Read`] when it can't be opened.
    fn open(&self, digest: &Digest) -> Result<Box<dyn ReadSeek>, ObjectError>;
}
