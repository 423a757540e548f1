//! The names of an image and what is said of them, without unpacking a file; and one file
//! unpacked.

use std::collections::HashSet;
use std::io::{self, Write};

use baker_model::tree::{Metadata, TreePath};

use super::super::error::ReadError;
use super::super::format::{decode_device, mode};
use super::entry_error;
use super::file::{FileMap, Window};
use super::image::Image;
use crate::volume::{Entries, Entry, EntryKind};

/// Bytes unpacked at once.
const STEP: usize = 256 << 10;

impl Image<'_> {
    /// Every name of the image; the number of a file is its inode's.
    ///
    /// # Errors
    /// The image cannot be read, is damaged, or uses what this reader does not know.
    pub fn list(&self) -> Result<Entries, ReadError> {
        let mut entries = Entries::new();
        let mut seen = HashSet::from([self.root()]);
        let mut todo = vec![(TreePath::root(), self.root())];
        while let Some((path, nid)) = todo.pop() {
            let entry = self.entry(nid)?;
            if entry.kind == EntryKind::Directory {
                let mut names: Vec<(Vec<u8>, u64)> = Vec::new();
                self.entries(nid, &mut |name, child| names.push((name.to_vec(), child)))?;
                for (name, child) in names {
                    let at = path
                        .join(&name)
                        .map_err(|source| entry_error(&path, source))?;
                    let (inode, _) = self.inode(child)?;
                    if inode.mode & mode::TYPE == mode::DIRECTORY && !seen.insert(child) {
                        let source = io::Error::other("a directory has two names");
                        return Err(entry_error(&at, source));
                    }
                    todo.push((at, child));
                }
            }
            entries.insert(path, entry);
        }
        Ok(entries)
    }

    fn entry(&self, nid: u64) -> Result<Entry, ReadError> {
        let (inode, offset) = self.inode(nid)?;
        let (major, minor) = decode_device(inode.union);
        let kind = match inode.mode & mode::TYPE {
            mode::DIRECTORY => EntryKind::Directory,
            mode::FILE => EntryKind::File { size: inode.size },
            mode::SYMLINK => {
                let damaged = |_| ReadError::Damaged {
                    offset,
                    what: "the length of a link target",
                    found: inode.size,
                    expected: "at most 4096".to_owned(),
                };
                let size = u16::try_from(inode.size).map_err(damaged)?;
                let mut target = vec![0; size.into()];
                FileMap::open(self, nid)?.read(self, &mut Window::default(), 0, &mut target)?;
                EntryKind::Symlink { target }
            }
            mode::CHAR => EntryKind::CharDevice { major, minor },
            mode::BLOCK => EntryKind::BlockDevice { major, minor },
            mode::FIFO => EntryKind::Fifo,
            _ => EntryKind::Socket,
        };
        Ok(Entry {
            metadata: Metadata {
                mode: inode.mode & 0o7777,
                uid: inode.uid,
                gid: inode.gid,
                mtime: inode.mtime,
                xattrs: self.xattrs(nid)?,
            },
            kind,
            number: nid,
        })
    }

    /// Unpacks the file of inode `nid`, of `size` bytes, into `out`.
    ///
    /// # Errors
    /// The image cannot be read or is damaged, or `out` fails.
    pub fn copy(&self, nid: u64, size: u64, out: &mut dyn Write) -> io::Result<()> {
        let map = FileMap::open(self, nid).map_err(io::Error::other)?;
        let mut window = Window::default();
        let mut step = vec![0; STEP.min(usize::try_from(size).unwrap_or(STEP))];
        let mut offset = 0;
        while offset < size {
            let length = usize::try_from(size - offset).unwrap_or(STEP).min(STEP);
            map.read(self, &mut window, offset, &mut step[..length])
                .map_err(io::Error::other)?;
            out.write_all(&step[..length])?;
            offset += length as u64;
        }
        Ok(())
    }
}
