//! Reading at any place.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Bytes that can be read at any place, by several readers at once.
pub trait Source: Sync {
    /// Fills `buffer` from byte `offset` on.
    ///
    /// # Errors
    /// The bytes cannot be read, or end early.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for Vec<u8> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, buffer)
    }
}

impl Source for [u8] {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|from| self.get(from..from.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl Source for std::fs::File {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

/// A range of another source, as a source and as a stream of its own.
#[derive(Clone)]
pub struct Slice<'a> {
    source: &'a dyn Source,
    range: Range<u64>,
    position: u64,
}

impl<'a> Slice<'a> {
    /// The bytes `range` of `source`.
    #[must_use]
    pub fn new(source: &'a dyn Source, range: Range<u64>) -> Self {
        Self {
            source,
            range,
            position: 0,
        }
    }

    /// Its number of bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

impl Source for Slice<'_> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.source.read_exact_at(self.range.start + offset, buffer)
    }
}

impl Read for Slice<'_> {
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

impl Seek for Slice<'_> {
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
    fn a_slice_ends_where_it_ends() {
        let bytes: Vec<u8> = (0..100).collect();
        let mut slice = Slice::new(&bytes, 10..20);
        let mut all = Vec::new();
        slice.read_to_end(&mut all).unwrap();
        assert_eq!(all, bytes[10..20]);
        assert_eq!(slice.seek(SeekFrom::End(-1)).unwrap(), 9);
        let mut two = [0; 2];
        assert!(slice.read_exact(&mut two).is_err());
        assert!(slice.read_exact_at(9, &mut two).is_err());
        slice.read_exact_at(8, &mut two).unwrap();
        assert_eq!(two, [18, 19]);
    }
}
