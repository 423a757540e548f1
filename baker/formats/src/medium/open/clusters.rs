//! What the sparse formats share: a disk of equal pieces, found through tables.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::io::Source;

/// A disk of equal pieces.
pub(super) trait Clusters: Send + Sync {
    /// Bytes of the disk.
    fn disk_size(&self) -> u64;

    /// Bytes of a piece; never zero.
    fn cluster_size(&self) -> u64;

    /// Fills `buffer` from byte `within` of piece `cluster` on; it does not reach behind it.
    fn fill(&self, cluster: u64, within: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// The pieces as one source.
pub(super) struct Clustered<C>(pub C);

impl<C: Clusters> Source for Clustered<C> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.0.disk_size()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = self.0.cluster_size();
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let within = at % size;
            let length = usize::try_from(size - within).unwrap_or(usize::MAX);
            let (piece, behind) = rest.split_at_mut(length.min(rest.len()));
            self.0.fill(at / size, within, piece)?;
            at += piece.len() as u64;
            rest = behind;
        }
        Ok(())
    }
}

/// The last few values that were loaded, by the place that they came from.
pub(super) struct Recent<T> {
    limit: usize,
    /// The one used last is at the end.
    kept: Mutex<Vec<(u64, Arc<T>)>>,
}

impl<T> Recent<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            kept: Mutex::new(Vec::new()),
        }
    }

    /// The value of `place`, loaded when it is not among the last.
    pub(super) fn get(
        &self,
        place: u64,
        load: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<Arc<T>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = kept.iter().position(|(at, _)| *at == place) {
            let found = kept.remove(index);
            let value = Arc::clone(&found.1);
            kept.push(found);
            return Ok(value);
        }
        let value = Arc::new(load()?);
        if kept.len() >= self.limit {
            kept.remove(0);
        }
        kept.push((place, Arc::clone(&value)));
        Ok(value)
    }
}
