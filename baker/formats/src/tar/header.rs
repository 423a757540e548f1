//! One 512-byte header block, and what it says together with its extensions.

use std::collections::BTreeMap;

use super::pax::Records;
use super::{BLOCK, TarError};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file; its bytes follow.
    File,
    /// Another name of an earlier entry.
    HardLink {
        /// Path of that entry, as written.
        target: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Target, as written.
        target: Vec<u8>,
    },
    /// A character device node.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device node.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// Everything that is said of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Path as written (`./usr/bin/x`), not empty, without NUL; not checked for `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Seconds since 1970-01-01 UTC; a fraction is rounded down.
    pub mtime: i64,
    /// Extended attributes by full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Number of bytes that follow; 0 unless a regular file.
    pub size: u64,
    /// Where its header block begins in the stream.
    pub offset: u64,
}

impl Header {
    /// A regular file of root's, mode 0644.
    #[must_use]
    pub fn of_file(path: &str, size: u64, mtime: i64) -> Self {
        Self {
            path: path.as_bytes().to_vec(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: BTreeMap::new(),
            size,
            offset: 0,
        }
    }
}

/// A header block whose checksum is right.
pub(super) struct Block<'a> {
    bytes: &'a [u8; BLOCK],
    offset: u64,
}

/// Which family of tar wrote the block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flavour {
    /// Before POSIX: no magic.
    Old,
    /// POSIX, with a path prefix.
    Ustar,
    /// GNU, where other things lie in the place of the prefix.
    Gnu,
}

impl<'a> Block<'a> {
    pub(super) fn new(bytes: &'a [u8; BLOCK], offset: u64) -> Result<Self, TarError> {
        let block = Self { bytes, offset };
        let expected = block.number(148..156, "checksum")?;
        // Some old tars summed signed characters; POSIX says to accept unsigned only, dpkg both.
        let sum = |signed: bool| -> i64 {
            let bytes = bytes.iter().enumerate();
            bytes
                .map(|(index, &byte)| match (index, signed) {
                    (148..156, _) => i64::from(b' '),
                    (_, true) => i64::from(byte.cast_signed()),
                    (_, false) => i64::from(byte),
                })
                .sum()
        };
        if expected != sum(false) && expected != sum(true) {
            let problem = format!("its checksum is {}, not {expected} as it says", sum(false));
            return Err(TarError::header(offset, problem));
        }
        Ok(block)
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.bytes[156]
    }

    /// Size field of the block itself, before extensions.
    pub(super) fn size(&self) -> Result<u64, TarError> {
        let size = self.number(124..136, "size")?;
        u64::try_from(size).map_err(|_| self.problem("its size is negative"))
    }

    fn flavour(&self) -> Flavour {
        match &self.bytes[257..265] {
            b"ustar  \0" => Flavour::Gnu,
            magic if magic.starts_with(b"ustar") => Flavour::Ustar,
            _ => Flavour::Old,
        }
    }

    /// The header that block and extensions make together.
    pub(super) fn header(&self, records: Records) -> Result<Header, TarError> {
        let path = records.path.map_or_else(|| self.path(), Ok)?;
        if path.is_empty() || path.contains(&0) {
            return Err(self.problem("its path is empty or holds a NUL"));
        }
        let size = records.size.map_or_else(|| self.size(), Ok)?;
        let kind = self.kind(&path, records.link_path)?;
        if kind != Kind::File && size != 0 {
            return Err(self.problem("something other than a file has a size"));
        }
        let mode = self.number(100..108, "mode")? & 0o7777;
        Ok(Header {
            path,
            kind,
            mode: u16::try_from(mode).map_err(|_| self.problem("its mode is negative"))?,
            uid: records.uid.map_or_else(|| self.id(108..116, "uid"), Ok)?,
            gid: records.gid.map_or_else(|| self.id(116..124, "gid"), Ok)?,
            mtime: records
                .mtime
                .map_or_else(|| self.number(136..148, "mtime"), Ok)?,
            xattrs: records.xattrs,
            size,
            offset: self.offset,
        })
    }

    fn path(&self) -> Result<Vec<u8>, TarError> {
        let name = self.text(0..100);
        let prefix = self.text(345..500);
        if self.flavour() != Flavour::Ustar || prefix.is_empty() {
            return Ok(name.to_vec());
        }
        Ok([prefix, name].join(&b'/'))
    }

    fn kind(&self, path: &[u8], link_path: Option<Vec<u8>>) -> Result<Kind, TarError> {
        let target = || {
            let target = link_path
                .clone()
                .unwrap_or_else(|| self.text(157..257).to_vec());
            if target.is_empty() || target.contains(&0) {
                return Err(self.problem("its link target is empty or holds a NUL"));
            }
            Ok(target)
        };
        Ok(match self.type_flag() {
            // Before POSIX, a directory was a file whose name ends in a slash.
            b'\0' if path.ends_with(b"/") => Kind::Directory,
            b'0' | b'\0' | b'7' => Kind::File,
            b'1' => Kind::HardLink { target: target()? },
            b'2' => Kind::Symlink { target: target()? },
            b'3' => Kind::CharDevice {
                major: self.id(329..337, "major")?,
                minor: self.id(337..345, "minor")?,
            },
            b'4' => Kind::BlockDevice {
                major: self.id(329..337, "major")?,
                minor: self.id(337..345, "minor")?,
            },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            flag => {
                let problem = match flag {
                    b'S' => "it is a sparse file".to_owned(),
                    b'M' | b'V' | b'N' | b'D' => "it is part of a GNU multi-volume or incremental \
                                                  archive"
                        .to_owned(),
                    _ => format!("type flag {flag:#04x} is unknown"),
                };
                let path = String::from_utf8_lossy(path).into_owned();
                return Err(TarError::Unsupported {
                    path,
                    offset: self.offset,
                    problem,
                });
            }
        })
    }

    fn text(&self, range: std::ops::Range<usize>) -> &'a [u8] {
        let field = &self.bytes[range];
        field.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    fn id(&self, range: std::ops::Range<usize>, what: &str) -> Result<u32, TarError> {
        let number = self.number(range, what)?;
        u32::try_from(number)
            .map_err(|_| self.problem(&format!("its {what} {number} is out of range")))
    }

    /// A number: octal text, or big-endian binary when the first bit is set (GNU, for large
    /// and negative values).
    fn number(&self, range: std::ops::Range<usize>, what: &str) -> Result<i64, TarError> {
        let field = &self.bytes[range];
        let refuse = || self.problem(&format!("its {what} is not a number"));
        if field[0] & 0x80 != 0 {
            // The marker bit is 0x80 for positive numbers; negative ones are two's complement.
            let negative = field[0] == 0xff;
            let first = if negative { 0xff } else { field[0] & 0x7f };
            let mut value = if negative { -1 } else { 0 };
            for byte in std::iter::once(first).chain(field[1..].iter().copied()) {
                value = (value << 8) | i128::from(byte);
                if i64::try_from(value).is_err() {
                    return Err(refuse());
                }
            }
            return i64::try_from(value).map_err(|_| refuse());
        }
        let text = field
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default()
            .trim_ascii();
        let mut value: i64 = 0;
        for &digit in text {
            if !(b'0'..=b'7').contains(&digit) {
                return Err(refuse());
            }
            // Twelve octal digits cannot overflow.
            value = value * 8 + i64::from(digit - b'0');
        }
        Ok(value)
    }

    fn problem(&self, problem: &str) -> TarError {
        TarError::header(self.offset, problem)
    }
}
