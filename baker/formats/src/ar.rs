//! `ar` archives as `.deb` files use them.
//!
//! Takes a buffered reader; gives member headers one after another and the bytes of the current
//! member through [`BufRead`]. Never seeks, never holds a member in memory.
//!
//! ```text
//! "!<arch>\n"
//! 0  name   16   blank-padded, perhaps with one trailing slash (GNU)
//! 16 mtime  12 | 28 uid 6 | 34 gid 6 | 40 mode 8   not looked at
//! 48 size   10   decimal, blank-padded
//! 58 end     2   "`\n"
//! 60 data        padded to an even number of bytes
//! ```
//!
//! Names follow dpkg (`lib/dpkg/ar.c`): trailing blanks and then one slash are dropped. The tables
//! of long names (`//`, `#1/n`) that dpkg refuses are refused here too.

use std::io::{self, BufRead, Read};

/// First bytes of every archive.
pub(crate) const MAGIC: &[u8; 8] = b"!<arch>\n";

/// Bytes of a member header.
pub(crate) const HEADER: usize = 60;

/// The bytes are no `ar` archive.
#[derive(Debug, thiserror::Error)]
pub enum ArError {
    /// The underlying reader failed.
    #[error("cannot read the archive at byte {offset}")]
    Read {
        /// Position in the archive.
        offset: u64,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// The first bytes are something else.
    #[error("this is no `ar` archive: it does not begin with `!<arch>`")]
    Magic,
    /// A member header makes no sense.
    #[error("bad member header at byte {offset}: {problem}")]
    Header {
        /// Where the header begins.
        offset: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The archive ends too early.
    #[error("the archive is cut off at byte {offset}, inside {inside}")]
    Truncated {
        /// Where it ends.
        offset: u64,
        /// The part that is not whole.
        inside: &'static str,
    },
}

/// Header of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name without padding.
    pub name: String,
    /// Number of bytes.
    pub size: u64,
    /// Where its data begins in the archive.
    pub offset: u64,
}

/// An archive being read; reading from it gives the bytes of the current member.
#[derive(Debug)]
pub struct Archive<R> {
    inner: R,
    position: u64,
    /// Bytes of the current member not yet read.
    remaining: u64,
    /// True when a padding byte follows the current member.
    padded: bool,
}

impl<R: BufRead> Archive<R> {
    /// Checks the archive's first bytes.
    ///
    /// # Errors
    /// [`ArError::Magic`], or the reader fails.
    pub fn new(inner: R) -> Result<Self, ArError> {
        let mut archive = Self {
            inner,
            position: 0,
            remaining: 0,
            padded: false,
        };
        let mut magic = [0; 8];
        if archive.fill(&mut magic)? != magic.len() || &magic != MAGIC {
            return Err(ArError::Magic);
        }
        Ok(archive)
    }

    /// Skips what is left of the current member and reads the next header; none at the end.
    ///
    /// # Errors
    /// The archive is cut off or the header makes no sense.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArError> {
        self.skip_rest()?;
        let offset = self.position;
        let mut header = [0; HEADER];
        match self.fill(&mut header)? {
            0 => return Ok(None),
            HEADER => {}
            _ => {
                let inside = "a member header";
                return Err(ArError::Truncated {
                    offset: self.position,
                    inside,
                });
            }
        }
        let (name, size) =
            parse_header(&header).map_err(|problem| ArError::Header { offset, problem })?;
        self.remaining = size;
        self.padded = size % 2 == 1;
        Ok(Some(Member {
            name,
            size,
            offset: self.position,
        }))
    }

    /// Bytes of the current member that have not been read.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Position in the archive, for messages.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn skip_rest(&mut self) -> Result<(), ArError> {
        let mut left = self.remaining + u64::from(self.padded);
        while left > 0 {
            let offset = self.position;
            let available = self
                .inner
                .fill_buf()
                .map_err(|source| ArError::Read { offset, source })?
                .len();
            if available == 0 {
                return Err(ArError::Truncated {
                    offset,
                    inside: "a member",
                });
            }
            let step = usize::try_from(left).map_or(available, |left| left.min(available));
            self.inner.consume(step);
            self.position += step as u64;
            left -= step as u64;
        }
        self.remaining = 0;
        self.padded = false;
        Ok(())
    }

    /// Reads until `buffer` is full or the archive ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, ArError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.inner.read(&mut buffer[done..]) {
                Ok(0) => break,
                Ok(step) => done += step,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(ArError::Read {
                        offset: self.position + done as u64,
                        source,
                    });
                }
            }
        }
        self.position += done as u64;
        Ok(done)
    }
}

impl<R: BufRead> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let step = available.len().min(buffer.len());
        buffer[..step].copy_from_slice(&available[..step]);
        self.consume(step);
        Ok(step)
    }
}

impl<R: BufRead> BufRead for Archive<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let available = self.inner.fill_buf()?;
        if available.is_empty() {
            let offset = self.position;
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                ArError::Truncated {
                    offset,
                    inside: "a member",
                },
            ));
        }
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        Ok(&available[..available.len().min(limit)])
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
        self.position += amount as u64;
        self.remaining -= amount as u64;
    }
}

/// What stands before the data of a member in an archive being written; none when the size has
/// more than ten digits or the name more than sixteen bytes.
pub(crate) fn member_header(name: &str, size: u64) -> Option<[u8; HEADER]> {
    let text = format!(
        "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n",
        0, 0, 0, 100_644
    );
    text.into_bytes().try_into().ok()
}

fn parse_header(header: &[u8; HEADER]) -> Result<(String, u64), &'static str> {
    if &header[58..] != b"`\n" {
        return Err("it does not end in a backtick and a newline");
    }
    let name = header[..16].trim_ascii_end();
    let name = name.strip_suffix(b"/").unwrap_or(name);
    if name.is_empty() || name.starts_with(b"/") || name.starts_with(b"#1/") {
        return Err("long names and symbol tables do not belong into a package");
    }
    if !name.iter().all(u8::is_ascii_graphic) {
        return Err("the name is not printable ASCII");
    }
    let digits = header[48..58].trim_ascii_end();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err("the size is not a decimal number");
    }
    // Ten digits cannot overflow.
    let size = digits
        .iter()
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Ok((String::from_utf8_lossy(name).into_owned(), size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, size as written, data.
    type Row<'a> = (&'a str, &'a str, &'a [u8]);

    fn archive(members: &[Row<'_>]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (name, size, data) in members {
            bytes.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644).bytes(),
            );
            bytes.extend_from_slice(data);
            if data.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    #[test]
    fn members_come_in_order_and_unread_bytes_are_skipped() {
        let bytes = archive(&[("a/", "3", b"abc"), ("b", "2", b"de"), ("c", "0", b"")]);
        let mut archive = Archive::new(bytes.as_slice()).unwrap();
        assert_eq!(archive.next_member().unwrap().unwrap().name, "a");
        let mut one = [0];
        archive.read_exact(&mut one).unwrap();
        assert_eq!(archive.remaining(), 2);
        let second = archive.next_member().unwrap().unwrap();
        assert_eq!(
            (second.name.as_str(), second.size, second.offset),
            ("b", 2, 132)
        );
        let mut all = Vec::new();
        archive.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"de");
        assert_eq!(archive.next_member().unwrap().unwrap().name, "c");
        assert_eq!(archive.next_member().unwrap(), None);
    }

    #[test]
    fn bad_headers_are_named_with_their_offset() {
        let rows: [(&[Row<'_>], &str); 5] = [
            (&[("#1/20", "2", b"xx")], "byte 8: long names"),
            (&[("//", "2", b"xx")], "byte 8: long names"),
            (&[("a", "-2", b"xx")], "byte 8: the size"),
            (&[("a", "", b"xx")], "byte 8: the size"),
            (&[("a", "4", b"xx")], "cut off at byte 70"),
        ];
        for (members, expected) in rows {
            let bytes = archive(members);
            let mut archive = Archive::new(bytes.as_slice()).unwrap();
            let error = loop {
                match archive.next_member() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{expected}: no error"),
                    Err(error) => break error.to_string(),
                }
            };
            assert!(error.contains(expected), "{error} / {expected}");
        }
        assert!(matches!(Archive::new(&b"!<arch>"[..]), Err(ArError::Magic)));
    }
}
