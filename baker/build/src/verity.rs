//! The verity stage: the hash tree over the root image.
//!
//! Takes a file system image in the work folder and the lock's digest; gives the hash tree as a
//! file beside it and the root hash. Salt and UUID come from the lock, so the same lock and image
//! give the same tree for any number of threads. Never changes the image.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use baker_formats::verity;
use baker_model::Digest;

/// What the stage works on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The file system image; its size is a multiple of 4096.
    pub image: &'a Path,
    /// The file to write, replaced when it is there.
    pub tree: &'a Path,
    /// Digest of the lock: salt and UUID are derived from it.
    pub lock: Digest,
    /// Threads that hash; never changes the result.
    pub threads: usize,
}

/// The tree that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashTree {
    /// The hash that vouches for the whole image.
    pub root_hash: [u8; 32],
    /// Bytes of the image.
    pub data_size: u64,
    /// Bytes of the tree, superblock included.
    pub hash_size: u64,
}

/// The hash tree could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// A file of the work folder cannot be opened.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The tree cannot be computed or written.
    #[error("cannot make the hash tree of `{}`", image.display())]
    Format {
        /// The image.
        image: PathBuf,
        /// What went wrong.
        #[source]
        source: verity::VerityError,
    },
}

/// Writes the hash tree of an image.
///
/// # Errors
/// See [`VerityError`].
pub fn verity(request: &Request<'_>) -> Result<HashTree, VerityError> {
    let failed = |path: &Path, source| VerityError::Open {
        path: path.to_owned(),
        source,
    };
    let mut image = File::open(request.image).map_err(|error| failed(request.image, error))?;
    let metadata = image
        .metadata()
        .map_err(|error| failed(request.image, error))?;
    let mut tree = File::create(request.tree).map_err(|error| failed(request.tree, error))?;
    let options = verity::Options {
        salt: *request.lock.derive("verity-salt").as_bytes(),
        uuid: request.lock.derive("verity-uuid").to_uuid_bytes(),
        threads: request.threads,
    };
    let data_size = metadata.len();
    let formatted =
        verity::format(&mut image, data_size, &options, &mut tree).map_err(|source| {
            VerityError::Format {
                image: request.image.to_owned(),
                source,
            }
        })?;
    let verity::Formatted {
        root_hash,
        hash_size,
    } = formatted;
    Ok(HashTree {
        root_hash,
        data_size,
        hash_size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_and_image_decide_the_tree_alone() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::write(&image, vec![3; 5 << 20]).unwrap();
        let made = |lock: &[u8], threads| {
            let tree = folder.path().join("tree");
            let lock = Digest::of(lock);
            let done = verity(&Request {
                image: &image,
                tree: &tree,
                lock,
                threads,
            })
            .unwrap();
            let bytes = std::fs::read(tree).unwrap();
            assert_eq!(bytes.len() as u64, done.hash_size);
            (done, bytes)
        };
        assert_eq!(made(b"lock", 1), made(b"lock", 4));
        assert_ne!(made(b"lock", 1).0.root_hash, made(b"other", 1).0.root_hash);
        std::fs::write(&image, b"odd").unwrap();
        let tree = folder.path().join("tree");
        let request = Request {
            image: &image,
            tree: &tree,
            lock: Digest::of(b""),
            threads: 1,
        };
        assert!(matches!(verity(&request), Err(VerityError::Format { .. })));
    }
}
