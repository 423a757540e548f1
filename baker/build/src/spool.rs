//! File contents of a tree, kept in one unlinked file of the work folder.
//!
//! Memory stays bounded however large the image is; the page cache keeps what is hot. Nothing is
//! unpacked: the file has no name and no structure, and is gone with the process.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use baker_model::tree::{Content, Contents, INLINE_LIMIT};
use baker_model::{Digest, Digester};

/// Bytes copied at a time.
const BUFFER: usize = 128 * 1024;

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

/// Contents by digest; equal contents are kept once.
#[derive(Debug)]
pub struct Spool {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    places: HashMap<Digest, (u64, u64)>,
    end: u64,
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
        let mut digester = Digester::new();
        let mut buffer = vec![0; BUFFER];
        let mut done = 0;
        while done < size {
            let want = usize::try_from(size - done).unwrap_or(BUFFER).min(BUFFER);
            reader.read_exact(&mut buffer[..want])?;
            digester.write_all(&buffer[..want])?;
            self.file
                .write_all_at(&buffer[..want], start + done)
                .map_err(|source| io::Error::new(source.kind(), SpoolFull { source }))?;
            done += want as u64;
        }
        let digest = digester.finish();
        self.state().places.entry(digest).or_insert((start, size));
        Ok(Content::Extern { digest, size })
    }

    /// The whole of `content`, in memory: for text files, not for what may be large.
    ///
    /// # Errors
    /// The content is not in this spool or cannot be read.
    pub fn read(&self, content: &Content) -> io::Result<Vec<u8>> {
        match content {
            Content::Inline(bytes) => Ok(bytes.to_vec()),
            Content::Extern { digest, size } => {
                let mut bytes = vec![0; usize::try_from(*size).map_err(io::Error::other)?];
                self.read_exact_at(digest, 0, &mut bytes)?;
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
        let place = self.state().places.get(digest).copied();
        let (start, size) = place.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no content {digest}"))
        })?;
        if offset.saturating_add(buffer.len() as u64) > size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, start + offset)
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
}
