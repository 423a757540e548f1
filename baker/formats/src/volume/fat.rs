//! FAT, through the reader of the ESP.

use std::io::{self, Write};

use baker_model::tree::{Metadata, TreePath};

use super::{Entry, EntryKind, Files, Opened, add, add_parents, implied};
use crate::fat;
use crate::io::Part;

struct Fat(Part);

pub(super) fn open(part: Part) -> Opened {
    let found = fat::list(&mut part.clone().buffered(), 0, part.size())?;
    let mut entries = [(TreePath::root(), implied())].into();
    for (number, file) in (1..).zip(found) {
        let path = TreePath::new(&file.path)?;
        add_parents(&mut entries, &path);
        let entry = Entry {
            // What Linux shows of a FAT volume without mount options.
            metadata: Metadata::of_root(0o755, 0),
            kind: EntryKind::File { size: file.size },
            number,
        };
        add(&mut entries, path, entry)?;
    }
    Ok((entries, Box::new(Fat(part))))
}

impl Files for Fat {
    fn copy(&self, path: &TreePath, _: &Entry, out: &mut dyn Write) -> io::Result<()> {
        let name = str::from_utf8(path.as_bytes()).map_err(io::Error::other)?;
        let mut input = self.0.clone().buffered();
        fat::copy(&mut input, 0, self.0.size(), name, out).map_err(io::Error::other)
    }
}
