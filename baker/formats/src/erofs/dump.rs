//! An image as text: one line for the superblock, one per name.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::error::ReadError;
use super::format::mode;
use super::read::{FileMap, Image};
use crate::io::Source;

/// Writes down the structure of an image: superblock, then every name in depth-first order with
/// inode number, mode, owner, links, size, time, data layout and attribute names.
///
/// # Errors
/// The image cannot be read or is damaged.
pub fn dump(source: &dyn Source) -> Result<String, ReadError> {
    let image = Image::open(source)?;
    let block = image.super_block();
    let mut text = format!(
        "erofs blocks {} inodes {} meta {} root {} compat {:#x} incompat {:#x} algorithms {:#x}\n",
        block.blocks,
        block.inos,
        block.meta_block,
        block.root_nid,
        block.feature_compat,
        block.feature_incompat,
        block.algorithms,
    );
    let mut seen = HashSet::new();
    let mut todo = vec![(b"/".to_vec(), image.root())];
    while let Some((path, nid)) = todo.pop() {
        line(&image, &path, nid, &mut text)?;
        // Damaged images can hold directories inside of themselves, and more than once.
        if seen.insert(nid) {
            let mut below = Vec::new();
            image.entries(nid, &mut |name, child| {
                let slash: &[u8] = if path == b"/" { b"" } else { b"/" };
                below.push(([&path, slash, name].concat(), child));
            })?;
            todo.extend(below.into_iter().rev());
        }
    }
    Ok(text)
}

fn line(image: &Image<'_>, path: &[u8], nid: u64, text: &mut String) -> Result<(), ReadError> {
    let (inode, _) = image.inode(nid)?;
    let path = path.escape_ascii();
    let layout = match inode.mode & mode::TYPE {
        mode::FILE | mode::DIRECTORY | mode::SYMLINK => FileMap::open(image, nid)?.describe(),
        _ => format!("device {:#x}", inode.union),
    };
    let mut attributes = String::new();
    for name in image.xattrs(nid)?.keys() {
        attributes.push(' ');
        attributes.extend(name.escape_ascii().map(char::from));
    }
    writeln!(
        text,
        "{path} nid {nid} mode {:06o} owner {}:{} links {} size {} mtime {} {layout}{attributes}",
        inode.mode, inode.uid, inode.gid, inode.links, inode.size, inode.mtime,
    )
    .unwrap_or_default();
    Ok(())
}
