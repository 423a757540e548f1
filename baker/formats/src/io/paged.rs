//! A small write-back cache over a range of a new, sparse output.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::sparse::is_zero;

/// Bytes of a page.
const PAGE: usize = 64 * 1024;

/// Pages kept; 8 MiB hold all tables of the volumes that baker makes.
const PAGES: usize = 128;

/// A range of `inner` as a disk of its own.
///
/// The range counts as zeros until written: it is never read before, and pages that stay zero are
/// never written, so a sparse file stays sparse. **Without [`Paged::finish`] the last
/// pages are lost**; `flush` does nothing.
#[derive(Debug)]
pub(crate) struct Paged<W> {
    inner: W,
    start: u64,
    size: u64,
    position: u64,
    pages: BTreeMap<u64, Page>,
    /// Pages that `inner` has.
    written: BTreeSet<u64>,
    clock: u64,
}

#[derive(Debug)]
struct Page {
    bytes: Box<[u8]>,
    dirty: bool,
    used: u64,
}

impl<W: Read + Write + Seek> Paged<W> {
    /// The `size` bytes of `inner` from `start` on.
    pub(crate) fn new(inner: W, start: u64, size: u64) -> Self {
        let (pages, written) = (BTreeMap::new(), BTreeSet::new());
        Self {
            inner,
            start,
            size,
            position: 0,
            pages,
            written,
            clock: 0,
        }
    }

    /// Writes what is not yet written; gives the number of bytes that the range really holds.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        while let Some((index, page)) = self.pages.pop_first() {
            self.write_back(index, &page)?;
        }
        self.inner.flush()?;
        Ok(self
            .written
            .iter()
            .map(|&index| self.page_length(index) as u64)
            .sum())
    }

    /// The page at the current position and the range of it that a transfer of `wanted` bytes
    /// may use; none at the end of the range.
    fn page(&mut self, wanted: usize) -> io::Result<Option<(&mut Page, std::ops::Range<usize>)>> {
        let left = self.size.saturating_sub(self.position);
        let index = self.position / PAGE as u64;
        // The remainder is less than a page.
        let from = usize::try_from(self.position % PAGE as u64).map_err(io::Error::other)?;
        let length = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(wanted)
            .min(PAGE - from);
        if length == 0 {
            return Ok(None);
        }
        if !self.pages.contains_key(&index) {
            let page = self.load(index)?;
            self.pages.insert(index, page);
        }
        self.clock += 1;
        self.position += length as u64;
        let page = self.pages.get_mut(&index);
        Ok(page.map(|page| {
            page.used = self.clock;
            (page, from..from + length)
        }))
    }

    fn load(&mut self, index: u64) -> io::Result<Page> {
        if self.pages.len() >= PAGES {
            let oldest = self.pages.iter().min_by_key(|(_, page)| page.used);
            let oldest = oldest.map(|(&index, _)| index);
            if let Some((index, page)) = oldest.and_then(|index| self.pages.remove_entry(&index)) {
                self.write_back(index, &page)?;
            }
        }
        let mut bytes = vec![0; PAGE].into_boxed_slice();
        if self.written.contains(&index) {
            let length = self.page_length(index);
            self.inner
                .seek(SeekFrom::Start(self.start + index * PAGE as u64))?;
            self.inner.read_exact(&mut bytes[..length])?;
        }
        Ok(Page {
            bytes,
            dirty: false,
            used: 0,
        })
    }

    fn write_back(&mut self, index: u64, page: &Page) -> io::Result<()> {
        if !page.dirty || (is_zero(&page.bytes) && !self.written.contains(&index)) {
            return Ok(());
        }
        let length = self.page_length(index);
        self.inner
            .seek(SeekFrom::Start(self.start + index * PAGE as u64))?;
        self.inner.write_all(&page.bytes[..length])?;
        self.written.insert(index);
        Ok(())
    }

    /// The last page may be shorter.
    fn page_length(&self, index: u64) -> usize {
        let left = self.size.saturating_sub(index * PAGE as u64);
        usize::try_from(left).unwrap_or(PAGE).min(PAGE)
    }
}

impl<W: Read + Write + Seek> Read for Paged<W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((page, range)) = self.page(buffer.len())? else {
            return Ok(0);
        };
        let length = range.len();
        buffer[..length].copy_from_slice(&page.bytes[range]);
        Ok(length)
    }
}

impl<W: Read + Write + Seek> Write for Paged<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let Some((page, range)) = self.page(buffer.len())? else {
            return Ok(0);
        };
        let length = range.len();
        page.bytes[range].copy_from_slice(&buffer[..length]);
        page.dirty = true;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> Seek for Paged<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = (PAGES + 40) * PAGE + 1000;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        /// Beside a plain vector, with more pages touched than are kept.
        #[test]
        fn behaves_like_memory(writes in prop::collection::vec(
            (0..SIZE, 1_usize..100_000, any::<u8>()), 300..400,
        )) {
            let mut plain = vec![0; SIZE];
            let mut out = io::Cursor::new(vec![0; SIZE + 77]);
            let mut paged = Paged::new(&mut out, 77, SIZE as u64);
            for (at, length, value) in writes {
                let end = (at + length).min(SIZE);
                paged.seek(SeekFrom::Start(at as u64)).unwrap();
                if value % 3 == 0 {
                    let mut read = vec![1; end - at];
                    paged.read_exact(&mut read).unwrap();
                    prop_assert!(read == plain[at..end]);
                } else {
                    plain[at..end].fill(value);
                    paged.write_all(&plain[at..end]).unwrap();
                }
            }
            paged.seek(SeekFrom::End(0)).unwrap();
            prop_assert!(paged.write_all(&[1]).is_err());
            paged.finish().unwrap();
            prop_assert!(out.get_ref()[77..] == plain);
        }
    }
}
