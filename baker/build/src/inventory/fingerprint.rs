//! Digests of files, several files at a time.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use baker_model::tree::{Content, TreePath};
use baker_model::{Digest, Digester};
use sha1::Digest as _;

use super::{InventoryError, Request, name_of};

/// Bytes hashed at a time.
const BUFFER: usize = 256 * 1024;

/// Size and digests of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Digest,
    /// SHA-1, which SPDX 2.3 asks for (section 8.4). It proves nothing.
    pub sha1: [u8; 20],
}

impl Fingerprint {
    /// Of bytes in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            size: bytes.len() as u64,
            sha256: Digest::of(bytes),
            sha1: sha1::Sha1::digest(bytes).into(),
        }
    }
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self::of(b"")
    }
}

/// The fingerprints of `files`, in their order. Of several errors the first file's is given.
pub(super) fn all(
    files: &[(&TreePath, &Content)],
    request: &Request<'_>,
) -> Result<Vec<Fingerprint>, InventoryError> {
    type Slot = Mutex<Option<Result<Fingerprint, InventoryError>>>;
    let slots: Vec<Slot> = files.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = vec![0; BUFFER];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let (Some((path, content)), Some(slot)) = (files.get(index), slots.get(index)) else {
                return;
            };
            let print = match request.interrupt.is_raised() {
                true => Err(InventoryError::Interrupted),
                false => of_content(content, request, &mut buffer).map_err(|source| {
                    let path = name_of(path);
                    InventoryError::Read { path, source }
                }),
            };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(print);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..request.threads.get().min(files.len()) {
            scope.spawn(work);
        }
    });
    slots
        .into_iter()
        .filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

fn of_content(
    content: &Content,
    request: &Request<'_>,
    buffer: &mut [u8],
) -> io::Result<Fingerprint> {
    let (digest, size) = match content {
        Content::Inline(bytes) => return Ok(Fingerprint::of(bytes)),
        Content::Extern { digest, size } => (*digest, *size),
    };
    let (mut sha1, mut sha256) = (sha1::Sha1::new(), Digester::new());
    let mut done = 0;
    while done < size {
        let length = usize::try_from(size - done).unwrap_or(usize::MAX);
        let length = length.min(buffer.len());
        let part = &mut buffer[..length];
        request.contents.read_exact_at(&digest, done, part)?;
        sha1.update(&*part);
        sha256.update(part);
        done += part.len() as u64;
    }
    // What an earlier bake unpacked is believed nowhere else.
    request.contents.check(&digest, &sha256.finish())?;
    Ok(Fingerprint {
        size,
        sha256: digest,
        sha1: sha1.finalize().into(),
    })
}
