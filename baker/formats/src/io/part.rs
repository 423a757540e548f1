//! A range of something that is shared.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use super::Source;

/// A range of a shared source, with its size and a position of its own: a disk, a partition of
/// it, a file system in that. Cloning it is cheap, and each clone reads for itself.
#[derive(Clone)]
pub struct Part {
    source: Arc<dyn Source + Send>,
    range: Range<u64>,
    position: u64,
}

impl Part {
    /// The first `size` bytes of `source`.
    #[must_use]
    pub fn new(source: Arc<dyn Source + Send>, size: u64) -> Self {
        Self {
            source,
            range: 0..size,
            position: 0,
        }
    }

    /// Number of bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// A range of this one; none when it does not lie inside.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> Option<Self> {
        if range.start > range.end || range.end > self.size() {
            return None;
        }
        let start = self.range.start;
        Some(Self {
            source: Arc::clone(&self.source),
            range: start + range.start..start + range.end,
            position: 0,
        })
    }

    /// Up to `length` bytes from `offset` on, fewer at the end.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn up_to(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(length)];
        self.read_exact_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The same bytes as a stream with a buffer.
    pub fn buffered(self) -> impl BufRead + Seek + Send {
        BufReader::with_capacity(64 << 10, self)
    }
}

impl Source for Part {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.source.read_exact_at(self.range.start + offset, buffer)
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size().saturating_sub(self.position);
        let length = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        self.read_exact_at(self.position, &mut buffer[..length])?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_parts_end_where_they_end() {
        let bytes: Vec<u8> = (0..100).collect();
        let whole = Part::new(Arc::new(bytes), 90);
        let mut part = whole
            .part(10..30)
            .and_then(|part| part.part(5..20))
            .unwrap();
        let mut all = Vec::new();
        part.read_to_end(&mut all).unwrap();
        assert_eq!(all, (15..30).collect::<Vec<u8>>());
        assert_eq!(part.seek(SeekFrom::End(-1)).unwrap(), 14);
        assert!(part.read_exact(&mut [0; 2]).is_err());
        assert_eq!(part.up_to(13, 50).unwrap(), [28, 29]);
        assert!(part.up_to(99, 50).unwrap().is_empty());
        assert!(part.part(3..16).is_none());
    }
}
