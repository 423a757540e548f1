//! ext2, ext3 and ext4, through the `ext4-view` crate, whose types stop here.
//!
//! The crate tells neither inode numbers, nor device numbers, nor extended attributes.

use std::error::Error;
use std::io::{self, Write};

use baker_model::tree::{Metadata, TreePath};
use ext4_view::{Ext4, Ext4Error, Ext4Read, FileType};

use super::{Entry, EntryKind, Files, Opened, add};
use crate::io::{Part, Source};

/// Directories inside of each other; a damaged volume can hold itself.
const DEPTH: usize = 256;

struct Reader(Part);

impl Ext4Read for Reader {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Ok(self.0.read_exact_at(start_byte, dst)?)
    }
}

struct Files4(Ext4);

pub(super) fn open(part: Part) -> Opened {
    let volume = Ext4::load(Box::new(Reader(part)))?;
    let mut entries = super::Entries::new();
    let mut number = 0;
    let root = volume.symlink_metadata(b"/")?;
    let mut todo = vec![(
        TreePath::root(),
        entry(&volume, &TreePath::root(), &root, 0)?,
    )];
    while let Some((path, entry_of_path)) = todo.pop() {
        let is_directory = entry_of_path.kind == EntryKind::Directory;
        add(&mut entries, path.clone(), entry_of_path)?;
        if !is_directory {
            continue;
        }
        if path.components().count() > DEPTH {
            return Err("its directories never end".into());
        }
        for found in volume.read_dir(&absolute(&path)?)? {
            let found = found?;
            let name = found.file_name();
            if matches!(name.as_ref(), b"." | b"..") {
                continue;
            }
            let at = path.join(name)?;
            number += 1;
            let entry = entry(&volume, &at, &found.metadata()?, number)?;
            todo.push((at, entry));
        }
    }
    Ok((entries, Box::new(Files4(volume))))
}

fn entry(
    volume: &Ext4,
    path: &TreePath,
    metadata: &ext4_view::Metadata,
    number: u64,
) -> Result<Entry, Box<dyn Error + Send + Sync>> {
    let kind = match metadata.file_type() {
        FileType::Directory => EntryKind::Directory,
        FileType::Regular => EntryKind::File {
            size: metadata.len(),
        },
        FileType::Symlink => EntryKind::Symlink {
            target: volume.read_link(&absolute(path)?)?.as_ref().to_vec(),
        },
        FileType::CharacterDevice => EntryKind::CharDevice { major: 0, minor: 0 },
        FileType::BlockDevice => EntryKind::BlockDevice { major: 0, minor: 0 },
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
    };
    Ok(Entry {
        metadata: Metadata {
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: metadata.modified().seconds(),
            ..Metadata::default()
        },
        kind,
        number,
    })
}

fn absolute(path: &TreePath) -> Result<ext4_view::PathBuf, ext4_view::PathError> {
    ext4_view::PathBuf::try_from([b"/", path.as_bytes()].concat())
}

impl Files for Files4 {
    fn copy(&self, path: &TreePath, _: &Entry, out: &mut dyn Write) -> io::Result<()> {
        let path = absolute(path).map_err(io::Error::other)?;
        let mut file = self.0.open(&path).map_err(failed)?;
        io::copy(&mut file, out).map(drop)
    }
}

fn failed(error: Ext4Error) -> io::Error {
    io::Error::other(error)
}
