//! Writer of `cpio` archives in the `newc` form: what the kernel unpacks as its initramfs.
//!
//! Takes entries in the order given; gives the archive on a [`Write`]. Inode numbers count from 1,
//! device numbers are 0. Never sorts, never adds missing parents, never looks at a clock.
//!
//! ```text
//! 0   "070701"
//! 6   13 fields of 8 hex digits: inode mode uid gid links mtime size, major minor of the device,
//!     major minor of the node, length of the name with its NUL, checksum (0)
//! 110 name NUL, padded with NULs to a multiple of 4
//!     data, padded likewise
//! ... entry `TRAILER!!!`, then NULs to a multiple of 512
//! ```
//! After the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

mod read;

use std::io::{self, Read, Write};

pub use read::{CpioReadError, Member, members};

/// Name of the entry that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// The archive as a whole is padded to a multiple of this many bytes.
const BLOCK: u64 = 512;

/// An archive cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum CpioError {
    /// The name would not survive: empty, with a NUL, absolute, or the trailer's own.
    #[error("`{path}` cannot be the name of a cpio entry")]
    Name {
        /// The refused name.
        path: String,
    },
    /// The format has 32 bits for a size.
    #[error("`{path}` has {size} bytes, more than a cpio entry can hold")]
    Size {
        /// Name of the entry.
        path: String,
        /// Its size.
        size: u64,
    },
    /// The data has not as many bytes as announced.
    #[error("cannot read the {size} bytes of `{path}`")]
    Data {
        /// Name of the entry.
        path: String,
        /// Bytes announced.
        size: u64,
        /// What the reader said; `UnexpectedEof` when it gave too few.
        #[source]
        source: io::Error,
    },
    /// The output failed.
    #[error("cannot write the cpio archive")]
    Write(#[source] io::Error),
}

/// Owner, permissions and time of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, `0..=0o7777`.
    pub mode: u16,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Seconds since 1970-01-01 UTC.
    pub mtime: u32,
}

/// What an entry is.
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A regular file of exactly `size` bytes.
    File {
        /// Number of bytes.
        size: u64,
        /// Where they come from; more bytes than `size` are left unread.
        data: &'a mut dyn Read,
    },
    /// A symbolic link.
    Symlink {
        /// Its target.
        target: &'a [u8],
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

/// Writes one archive.
///
/// **Without [`Writer::finish`] the archive has no end and is refused by readers.**
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    position: u64,
    inode: u32,
}

/// The fields of a header that differ between entries.
#[derive(Clone, Copy, Default)]
struct Fields {
    inode: u32,
    mode: u32,
    links: u32,
    metadata: Metadata,
    size: u32,
    node: (u32, u32),
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self {
            out,
            position: 0,
            inode: 0,
        }
    }

    /// Adds one entry.
    ///
    /// # Errors
    /// See [`CpioError`].
    pub fn append(
        &mut self,
        path: impl AsRef<[u8]>,
        metadata: Metadata,
        kind: Kind<'_>,
    ) -> Result<(), CpioError> {
        self.append_links(&[path.as_ref()], metadata, kind)
    }

    /// Adds one inode under several names; the last carries the data, as GNU cpio has it.
    ///
    /// # Errors
    /// See [`CpioError`]. No name at all is no error and adds nothing.
    pub fn append_links(
        &mut self,
        paths: &[&[u8]],
        metadata: Metadata,
        kind: Kind<'_>,
    ) -> Result<(), CpioError> {
        let Some((last, others)) = paths.split_last() else {
            return Ok(());
        };
        for path in paths {
            check_name(path)?;
        }
        let (type_bits, node) = match kind {
            Kind::Directory => (0o040_000, (0, 0)),
            Kind::File { .. } => (0o100_000, (0, 0)),
            Kind::Symlink { .. } => (0o120_000, (0, 0)),
            Kind::CharDevice { major, minor } => (0o020_000, (major, minor)),
            Kind::BlockDevice { major, minor } => (0o060_000, (major, minor)),
            Kind::Fifo => (0o010_000, (0, 0)),
        };
        self.inode += 1;
        let own = if matches!(kind, Kind::Directory) {
            2
        } else {
            1
        };
        let fields = Fields {
            inode: self.inode,
            mode: type_bits | u32::from(metadata.mode & 0o7777),
            links: own + u32::try_from(others.len()).unwrap_or(u32::MAX - own),
            metadata,
            size: 0,
            node,
        };
        for path in others {
            self.header(path, fields)?;
        }
        match kind {
            Kind::File { size, data } => self.data(last, fields, size, data),
            Kind::Symlink { mut target } => {
                self.data(last, fields, target.len() as u64, &mut target)
            }
            _ => self.header(last, fields),
        }
    }

    /// Ends the archive and gives the output back.
    ///
    /// # Errors
    /// The output fails.
    pub fn finish(mut self) -> Result<W, CpioError> {
        self.header(
            TRAILER,
            Fields {
                links: 1,
                ..Fields::default()
            },
        )?;
        self.pad(BLOCK)?;
        self.out.flush().map_err(CpioError::Write)?;
        Ok(self.out)
    }

    fn header(&mut self, path: &[u8], fields: Fields) -> Result<(), CpioError> {
        let Fields {
            inode,
            mode,
            links,
            metadata,
            size,
            node: (major, minor),
        } = fields;
        let Metadata {
            uid, gid, mtime, ..
        } = metadata;
        let length = u32::try_from(path.len() + 1).map_err(|_| CpioError::Name {
            path: String::from_utf8_lossy(path).into_owned(),
        })?;
        let mut header = String::from("070701");
        for field in [
            inode, mode, uid, gid, links, mtime, size, 0, 0, major, minor, length, 0,
        ] {
            header.push_str(&format!("{field:08X}"));
        }
        self.put(header.as_bytes())?;
        self.put(path)?;
        self.put(&[0])?;
        self.pad(4)
    }

    fn data(
        &mut self,
        path: &[u8],
        fields: Fields,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<(), CpioError> {
        let name = || String::from_utf8_lossy(path).into_owned();
        let short = u32::try_from(size).map_err(|_| CpioError::Size { path: name(), size })?;
        self.header(
            path,
            Fields {
                size: short,
                ..fields
            },
        )?;
        let mut left = size;
        let mut buffer = [0; 64 * 1024];
        while left > 0 {
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            data.read_exact(&mut buffer[..want])
                .map_err(|source| CpioError::Data {
                    path: name(),
                    size,
                    source,
                })?;
            self.put(&buffer[..want])?;
            left -= want as u64;
        }
        self.pad(4)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), CpioError> {
        self.out.write_all(bytes).map_err(CpioError::Write)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, multiple: u64) -> Result<(), CpioError> {
        while !self.position.is_multiple_of(multiple) {
            self.put(&[0])?;
        }
        Ok(())
    }
}

fn check_name(path: &[u8]) -> Result<(), CpioError> {
    if path.is_empty() || path == TRAILER || path[0] == b'/' || path.contains(&0) {
        return Err(CpioError::Name {
            path: String::from_utf8_lossy(path).into_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    use super::*;
    use crate::judge::{judge, run};

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        let metadata = Metadata {
            mode: 0o755,
            mtime: 1_700_000_000,
            ..Metadata::default()
        };
        let file = Metadata {
            mode: 0o4640,
            ..metadata
        };
        writer.append("dir", metadata, Kind::Directory).unwrap();
        let mut data = &[b'x'; 70_001][..];
        let kind = Kind::File {
            size: 70_001,
            data: &mut data,
        };
        writer
            .append_links(&[b"dir/a", b"dir/bcd"], file, kind)
            .unwrap();
        writer
            .append("soft", metadata, Kind::Symlink { target: b"dir/a" })
            .unwrap();
        writer
            .append("null", metadata, Kind::CharDevice { major: 1, minor: 3 })
            .unwrap();
        writer.append("pipe", metadata, Kind::Fifo).unwrap();
        writer
            .append(
                "empty",
                metadata,
                Kind::File {
                    size: 0,
                    data: &mut io::empty(),
                },
            )
            .unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn bytes_are_pinned() {
        let bytes = sample();
        assert_eq!(bytes.len() % 512, 0);
        assert_eq!(bytes, sample());
        let digest = baker_model::Digest::of(&bytes).to_string();
        assert_eq!(
            digest,
            "0a706a8cc4d7c4a2affaf0b3765144bb9a5f4915ba163f3fd865b82eb5014106"
        );
    }

    #[test]
    fn cpio_unpacks_what_was_written() {
        let Some(mut cpio) = judge("cpio") else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("a.cpio");
        std::fs::write(&archive, sample()).unwrap();
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        cpio.args(["-i", "--quiet", "-F"])
            .arg(&archive)
            .current_dir(&out);
        // Making the device node needs root; everything before and after it does not.
        let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        if !root {
            cpio.args(["-f", "null"]);
        }
        let (good, said) = run(&mut cpio);
        assert!(good, "{said}");
        let [a, b] = ["dir/a", "dir/bcd"].map(|name| std::fs::metadata(out.join(name)).unwrap());
        assert_eq!((a.ino(), a.nlink(), a.len()), (b.ino(), 2, 70_001));
        assert_eq!(
            std::fs::read_link(out.join("soft")).unwrap().to_str(),
            Some("dir/a")
        );
        assert!(
            std::fs::metadata(out.join("pipe"))
                .unwrap()
                .file_type()
                .is_fifo()
        );
        assert_eq!(std::fs::read(out.join("empty")).unwrap(), b"");
        if root {
            assert_eq!(std::fs::metadata(out.join("null")).unwrap().rdev(), 0x103);
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let mut writer = Writer::new(Vec::new());
        for path in ["", "/abs", "TRAILER!!!", "a\0b"] {
            let error = writer
                .append(path, Metadata::default(), Kind::Fifo)
                .unwrap_err();
            assert!(matches!(error, CpioError::Name { .. }), "{path}");
        }
        let kind = Kind::File {
            size: 1 << 32,
            data: &mut io::empty(),
        };
        let error = writer.append("a", Metadata::default(), kind).unwrap_err();
        assert!(matches!(error, CpioError::Size { .. }));
        let kind = Kind::File {
            size: 2,
            data: &mut &b"x"[..],
        };
        let error = writer.append("a", Metadata::default(), kind).unwrap_err();
        assert!(matches!(error, CpioError::Data { .. }));
    }
}
