//! File contents of a tree: in one unlinked file of the work folder, or lent by files that are
//! kept for bakes to come.
//!
//! Memory stays bounded however large the image is; the page cache keeps what is hot. The spool's
//! own file has no name and no structure, and is gone with the process.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use baker_model::Digest;
use baker_model::tree::{Content, Contents, INLINE_LIMIT};

use crate::keep;

/// The spool's own file could not be written (mostly: the disk is full).
///
/// [`Spool::add`] wraps it into the [`io::Error`] that it gives, so that a full work folder can be
/// told from a reader that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the spool in the work folder")]
pub struct SpoolFull {
    /// What the system said.
    #[from]
    source: io::Error,
}

impl SpoolFull {
    /// The error of a file that holds contents, told apart from that of a reader.
    pub(crate) fn wrap(source: io::Error) -> io::Error {
        io::Error::new(source.kind(), Self { source })
    }
}

/// Bytes that a kept file lends are not those that were put there.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} in the store is altered; remove it and bake again: it is made anew then",
    path.display()
)]
pub struct Altered {
    /// The file.
    path: PathBuf,
}

/// Contents by digest; equal contents are kept once.
#[derive(Debug)]
pub struct Spool {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    places: HashMap<Digest, Place>,
    end: u64,
}

/// Where a content lies.
#[derive(Debug, Clone)]
struct Place {
    /// The file that lends it; none when the spool's own has it.
    lender: Option<Arc<Lender>>,
    start: u64,
    size: u64,
}

/// A kept file that lends contents.
#[derive(Debug)]
pub struct Lender {
    /// The file.
    pub file: File,
    /// Where it lies.
    pub path: PathBuf,
    /// Digest of the input that its contents come from.
    pub source: Digest,
}

impl Spool {
    /// An empty spool whose file lies, nameless, in `folder`.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile_in(folder)?,
            state: Mutex::default(),
        })
    }

    /// Takes exactly `size` bytes from `reader`; small contents come back inline. Safe to call
    /// from several threads: each content is reserved, then written at its own place.
    ///
    /// # Errors
    /// The reader ends early (`UnexpectedEof`) or fails; or the file cannot be written, then the
    /// error holds a [`SpoolFull`].
    pub fn add(&self, reader: &mut dyn Read, size: u64) -> io::Result<Content> {
        if size <= INLINE_LIMIT {
            let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
            reader.read_exact(&mut bytes)?;
            return Ok(Content::inline(bytes));
        }
        let start = self.reserve(size);
        let digest = keep::copy(reader, size, |bytes, at| {
            self.file.write_all_at(bytes, start + at)
        })?;
        let place = Place {
            lender: None,
            start,
            size,
        };
        self.state().places.entry(digest).or_insert(place);
        Ok(Content::Extern { digest, size })
    }

    /// Takes contents over from a kept file: digest, start and size of each.
    pub fn lend(&self, lender: &Arc<Lender>, contents: impl Iterator<Item = (Digest, u64, u64)>) {
        let mut state = self.state();
        for (digest, start, size) in contents {
            let place = || Place {
                lender: Some(lender.clone()),
                start,
                size,
            };
            state.places.entry(digest).or_insert_with(place);
        }
    }

    /// The input that a content comes from, when a kept file lends it.
    #[must_use]
    pub fn source(&self, digest: &Digest) -> Option<Digest> {
        let place = self.state().places.get(digest).cloned();
        place?.lender.map(|lender| lender.source)
    }

    /// The whole of `content`, in memory and checked: for text files, not for what may be large.
    ///
    /// # Errors
    /// The content is not in this spool, cannot be read, or is altered.
    pub fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        match content {
            Content::Inline(bytes) => Ok(bytes.to_vec()),
            Content::Extern { digest, size } => {
                let mut bytes = vec![0; usize::try_from(*size).map_err(io::Error::other)?];
                self.read_exact_at(digest, 0, &mut bytes)?;
                self.check(digest, &Digest::of(&bytes))?;
                Ok(bytes)
            }
        }
    }

    fn reserve(&self, size: u64) -> u64 {
        let mut state = self.state();
        let start = state.end;
        state.end += size;
        start
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Contents for Spool {
    fn read_exact_at(&self, digest: &Digest, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let place = self.state().places.get(digest).cloned();
        let place = place.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no content {digest}"))
        })?;
        if offset.saturating_add(buffer.len() as u64) > place.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let file = place.lender.as_ref().map_or(&self.file, |it| &it.file);
        file.read_exact_at(buffer, place.start + offset)
    }

    /// The error holds an [`Altered`] when a kept file has lent the content.
    fn check(&self, expected: &Digest, found: &Digest) -> io::Result<()> {
        if expected == found {
            return Ok(());
        }
        let place = self.state().places.get(expected).cloned();
        let kind = io::ErrorKind::InvalidData;
        Err(match place.and_then(|place| place.lender) {
            Some(lender) => {
                let path = lender.path.clone();
                io::Error::new(kind, Altered { path })
            }
            None => kind.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_come_back_by_digest() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path()).unwrap();
        let large = vec![7; 300_000];
        let content = spool.add(&mut large.as_slice(), 300_000).unwrap();
        assert_eq!(content.digest(), Digest::of(&large));
        let mut some = [0; 5];
        spool
            .read_exact_at(&content.digest(), 299_995, &mut some)
            .unwrap();
        assert_eq!(some, [7; 5]);
        assert!(
            spool
                .read_exact_at(&content.digest(), 299_996, &mut some)
                .is_err()
        );
        assert_eq!(
            spool.add(&mut &b"abc"[..], 3).unwrap(),
            Content::inline("abc")
        );
        assert!(spool.add(&mut &b"abc"[..], 4).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    #[test]
    fn lent_contents_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path()).unwrap();
        let path = folder.path().join("lender");
        std::fs::write(&path, [[7; 5000], [8; 5000]].concat()).unwrap();
        let lender = Arc::new(Lender {
            file: File::open(&path).unwrap(),
            path: path.clone(),
            source: Digest::of(b"package"),
        });
        let (seven, nine) = (Digest::of(&[7; 5000]), Digest::of(&[9; 5000]));
        let contents = [(seven, 0, 5000), (nine, 5000, 5000)];
        spool.lend(&lender, contents.into_iter());
        let content = |digest| Content::Extern { digest, size: 5000 };
        assert_eq!(spool.read(&content(seven)).unwrap(), [7; 5000]);
        assert_eq!(spool.source(&seven), Some(lender.source));
        let error = spool.read(&content(nine)).unwrap_err().to_string();
        assert!(error.contains("lender in the store is altered"), "{error}");
    }
}
