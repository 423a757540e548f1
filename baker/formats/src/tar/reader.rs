//! The stream itself: entries, their bytes, and the end of the archive.

use std::io::{self, BufReader, Read};

use super::header::{Block, Header, Kind};
use super::pax::Records;
use super::{BLOCK, TarError};

/// Bytes read ahead, so that headers do not cost one call of the decompressor each.
const BUFFER: usize = 64 * 1024;

/// What the taker allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole uncompressed stream.
    pub bytes: u64,
    /// Number of entries.
    pub entries: u64,
    /// Bytes of the extended headers of one entry.
    pub extension: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            entries: 4 << 20,
            extension: 1 << 20,
        }
    }
}

/// A tar archive being read.
#[derive(Debug)]
pub struct Reader<R> {
    body: Body<R>,
    limits: Limits,
    entries: u64,
    ended: bool,
}

/// One entry: its header, and its bytes through [`Read`].
///
/// Bytes that are not read are skipped by the next [`Reader::next_entry`].
pub struct Entry<'a> {
    /// Everything that is said of it.
    pub header: Header,
    body: &'a mut dyn Read,
}

impl Read for Entry<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer)
    }
}

impl<R: Read> Reader<R> {
    /// Begins to read; nothing is read yet.
    pub fn new(inner: R, limits: Limits) -> Self {
        let inner = BufReader::with_capacity(BUFFER, inner);
        let body = Body {
            inner,
            position: 0,
            remaining: 0,
            padding: 0,
            limit: limits.bytes,
        };
        Self {
            body,
            limits,
            entries: 0,
            ended: false,
        }
    }

    /// The next entry. None is given only when the archive ended as it must: two blocks of zeros,
    /// then nothing but zeros to the end of the stream.
    ///
    /// # Errors
    /// See [`TarError`]. After an error the reader is of no more use.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, TarError> {
        Ok(self.advance()?.map(|header| self.entry(header)))
    }

    /// The entry that [`Self::advance`] gave the header of.
    pub(crate) fn entry(&mut self, header: Header) -> Entry<'_> {
        Entry {
            header,
            body: &mut self.body,
        }
    }

    /// The first half of [`Self::next_entry`], which borrows nothing.
    pub(crate) fn advance(&mut self) -> Result<Option<Header>, TarError> {
        if self.ended {
            return Ok(None);
        }
        self.body.skip_rest()?;
        let mut records = Records::default();
        let mut extended = false;
        loop {
            let offset = self.body.position;
            let bytes = self.body.block(if extended {
                "an extended header"
            } else {
                "an entry"
            })?;
            if bytes.iter().all(|&byte| byte == 0) {
                if extended {
                    let problem = "an extended header has no entry behind it";
                    return Err(TarError::header(offset, problem));
                }
                self.end()?;
                return Ok(None);
            }
            self.count(offset)?;
            let block = Block::new(&bytes, offset)?;
            if !matches!(block.type_flag(), b'x' | b'g' | b'L' | b'K') {
                let header = block.header(records)?;
                if header.kind == Kind::File {
                    self.body.open(header.size)?;
                }
                return Ok(Some(header));
            }
            self.extend(&mut records, &block, offset)?;
            extended |= block.type_flag() != b'g';
        }
    }

    /// The reader below; what has been read ahead is lost.
    pub fn into_inner(self) -> R {
        self.body.inner.into_inner()
    }

    fn count(&mut self, offset: u64) -> Result<(), TarError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(TarError::Limit {
                what: "entries",
                limit: self.limits.entries,
                offset,
            });
        }
        Ok(())
    }

    fn extend(
        &mut self,
        records: &mut Records,
        block: &Block<'_>,
        offset: u64,
    ) -> Result<(), TarError> {
        let size = block.size()?;
        if size > self.limits.extension {
            let what = "bytes of extended header";
            return Err(TarError::Limit {
                what,
                limit: self.limits.extension,
                offset,
            });
        }
        self.body.open(size)?;
        let mut value = Vec::new();
        self.body
            .read_to_end(&mut value)
            .map_err(|error| self.body.explain(error))?;
        self.body.skip_rest()?;
        match block.type_flag() {
            b'L' => records.path = Some(until_nul(value)),
            b'K' => records.link_path = Some(until_nul(value)),
            b'x' => records
                .add(&value)
                .map_err(|problem| TarError::header(offset, problem))?,
            // Records for all entries: comments are harmless, values would change every entry.
            _ => {
                let mut global = Records::default();
                global
                    .add(&value)
                    .map_err(|problem| TarError::header(offset, problem))?;
                if global != Records::default() {
                    let problem = "a global extended header sets values for all entries";
                    return Err(TarError::header(offset, problem));
                }
            }
        }
        Ok(())
    }

    /// The first block of zeros has been read: the second and nothing else must follow.
    fn end(&mut self) -> Result<(), TarError> {
        let offset = self.body.position;
        let second = self.body.block("the two blocks of zeros at its end")?;
        if second.iter().any(|&byte| byte != 0) {
            return Err(TarError::Junk { offset });
        }
        let mut buffer = [0; BLOCK];
        loop {
            let offset = self.body.position;
            let count = self.body.fill(&mut buffer)?;
            if buffer[..count].iter().any(|&byte| byte != 0) {
                return Err(TarError::Junk { offset });
            }
            if count < buffer.len() {
                self.ended = true;
                return Ok(());
            }
        }
    }
}

fn until_nul(mut value: Vec<u8>) -> Vec<u8> {
    if let Some(end) = value.iter().position(|&byte| byte == 0) {
        value.truncate(end);
    }
    value
}

/// The stream below the headers: knows its position and the bytes of the current entry.
#[derive(Debug)]
struct Body<R> {
    inner: BufReader<R>,
    position: u64,
    remaining: u64,
    padding: u64,
    limit: u64,
}

impl<R: Read> Body<R> {
    /// Makes the next `size` bytes readable, and refuses a size that the whole may not have.
    fn open(&mut self, size: u64) -> Result<(), TarError> {
        let offset = self.position;
        if size > self.limit.saturating_sub(offset) {
            return Err(TarError::Limit {
                what: "bytes",
                limit: self.limit,
                offset,
            });
        }
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let count = self.remaining + self.padding;
        let skipped = io::copy(&mut (&mut self.inner).take(count), &mut io::sink());
        let skipped = skipped.map_err(|error| self.explain(error))?;
        self.position += skipped;
        if skipped < count {
            return Err(TarError::Truncated {
                offset: self.position,
                inside: "an entry's data",
            });
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }

    fn block(&mut self, inside: &'static str) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        if self.fill(&mut block)? < BLOCK {
            return Err(TarError::Truncated {
                offset: self.position,
                inside,
            });
        }
        Ok(block)
    }

    /// Reads until `buffer` is full or the stream ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.inner.read(&mut buffer[done..]) {
                Ok(0) => break,
                Ok(step) => {
                    done += step;
                    self.position += step as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error)),
            }
        }
        if self.position > self.limit {
            let (limit, offset) = (self.limit, self.position);
            return Err(TarError::Limit {
                what: "bytes",
                limit,
                offset,
            });
        }
        Ok(done)
    }

    /// Our own errors come back out of `io::Error`; others get the position.
    fn explain(&self, error: io::Error) -> TarError {
        match error.downcast::<TarError>() {
            Ok(error) => error,
            Err(source) => TarError::Read {
                offset: self.position,
                source,
            },
        }
    }
}

impl<R: Read> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if limit == 0 {
            return Ok(0);
        }
        let step = self.inner.read(&mut buffer[..limit]).map_err(|source| {
            let kind = source.kind();
            if kind == io::ErrorKind::Interrupted {
                return source;
            }
            io::Error::new(
                kind,
                TarError::Read {
                    offset: self.position,
                    source,
                },
            )
        })?;
        if step == 0 {
            let error = TarError::Truncated {
                offset: self.position,
                inside: "an entry's data",
            };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
        }
        self.position += step as u64;
        self.remaining -= step as u64;
        Ok(step)
    }
}
