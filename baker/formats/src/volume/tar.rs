//! Tar archives that are not compressed, through baker's own reader.

use std::io::{self, Write};

use baker_model::tree::{Metadata, TreePath};

use super::{Entries, Entry, EntryKind, Files, Opened, add, add_parents, implied};
use crate::io::Part;
use crate::tar::{BLOCK, Header, Kind, Limits, Reader};

struct Tar(Part);

pub(super) fn open(part: Part) -> Opened {
    let limits = Limits {
        bytes: u64::MAX,
        ..Limits::default()
    };
    let mut reader = Reader::new(part.clone(), limits);
    let mut entries: Entries = [(TreePath::root(), implied())].into();
    while let Some(found) = reader.next_entry()? {
        let path = TreePath::new(&found.header.path)?;
        add_parents(&mut entries, &path);
        let entry = entry(&found.header, &entries)?;
        add(&mut entries, path, entry)?;
    }
    Ok((entries, Box::new(Tar(part))))
}

/// The number of a file is where its bytes begin, so that a hard link has that of its target.
fn entry(header: &Header, entries: &Entries) -> io::Result<Entry> {
    let (major, minor) = match header.kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (major, minor),
        _ => (0, 0),
    };
    let kind = match &header.kind {
        Kind::HardLink { target } => {
            let path = TreePath::new(target).map_err(io::Error::other)?;
            let known = entries.get(&path).cloned();
            let problem =
                || io::Error::other(format!("a hard link names {path}, which is missing"));
            return known.ok_or_else(problem);
        }
        Kind::Directory => EntryKind::Directory,
        Kind::File => EntryKind::File { size: header.size },
        Kind::Symlink { target } => EntryKind::Symlink {
            target: target.clone(),
        },
        Kind::CharDevice { .. } => EntryKind::CharDevice { major, minor },
        Kind::BlockDevice { .. } => EntryKind::BlockDevice { major, minor },
        Kind::Fifo => EntryKind::Fifo,
    };
    Ok(Entry {
        metadata: Metadata {
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            mtime: header.mtime,
            xattrs: header.xattrs.clone(),
        },
        kind,
        number: header.offset + BLOCK as u64,
    })
}

impl Files for Tar {
    fn copy(&self, _: &TreePath, entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
        let start = entry.number;
        let mut bytes = self
            .0
            .part(start..start.saturating_add(entry.size()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        io::copy(&mut bytes, out).map(drop)
    }
}
