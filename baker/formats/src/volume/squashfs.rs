//! SquashFS, through the `backhand` crate, whose types stop here.
//!
//! The crate tells no extended attributes, and not which names are one file. It keeps the
//! fragments that it has unpacked.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;

use backhand::{FilesystemReader, InnerNode, Node, SquashfsFileReader};
use baker_model::tree::{Metadata, TreePath};

use super::{Entry, EntryKind, Files, Opened, add};
use crate::io::Part;

struct Squashfs(FilesystemReader<'static>);

pub(super) fn open(part: Part) -> Opened {
    let volume = FilesystemReader::from_reader(part.buffered())?;
    let mut entries = super::Entries::new();
    for (number, node) in (0..).zip(volume.files()) {
        let path = TreePath::new(node.fullpath.as_os_str().as_bytes())?;
        add(&mut entries, path, entry(node, number))?;
    }
    Ok((entries, Box::new(Squashfs(volume))))
}

fn entry(node: &Node<SquashfsFileReader>, number: u64) -> Entry {
    // As the kernel's new_decode_dev.
    let major = |device: u32| (device & 0xfff00) >> 8;
    let minor = |device: u32| (device & 0xff) | ((device >> 12) & 0xfff00);
    let kind = match &node.inner {
        InnerNode::Dir(_) => EntryKind::Directory,
        InnerNode::File(file) => EntryKind::File {
            size: file.file_len() as u64,
        },
        InnerNode::Symlink(link) => EntryKind::Symlink {
            target: link.link.as_os_str().as_bytes().to_vec(),
        },
        InnerNode::CharacterDevice(node) => EntryKind::CharDevice {
            major: major(node.device_number),
            minor: minor(node.device_number),
        },
        InnerNode::BlockDevice(node) => EntryKind::BlockDevice {
            major: major(node.device_number),
            minor: minor(node.device_number),
        },
        InnerNode::NamedPipe => EntryKind::Fifo,
        InnerNode::Socket => EntryKind::Socket,
    };
    let header = &node.header;
    Entry {
        metadata: Metadata {
            mode: header.permissions & 0o7777,
            uid: header.uid,
            gid: header.gid,
            mtime: header.mtime.into(),
            ..Metadata::default()
        },
        kind,
        number,
    }
}

impl Files for Squashfs {
    fn copy(&self, _: &TreePath, entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
        let index = usize::try_from(entry.number).map_err(io::Error::other)?;
        let node = self.0.root.nodes.get(index);
        let Some(InnerNode::File(file)) = node.map(|node| &node.inner) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut reader = self
            .0
            .file(file)
            .reader_checked()
            .map_err(io::Error::other)?;
        io::copy(&mut reader, out).map(drop)
    }
}
