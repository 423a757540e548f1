//! An image as a list of ranges: which byte is what, and of which file.

use std::collections::HashSet;
use std::ops::Range;

use super::super::error::ReadError;
use super::super::format::{BLOCK, INCOMPAT_CONFIGS, SUPER_OFFSET, SUPER_SIZE, mode, u16_at};
use super::super::xattr;
use super::file::{FileMap, Span};
use super::image::Image;
use crate::io::Source;

/// What a range of an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The bytes in front of the superblock, left for boot code.
    Front,
    /// The superblock.
    SuperBlock,
    /// The codec configuration behind it.
    Codecs,
    /// Blocks of file data.
    Data,
    /// Blocks of directory entries.
    Directory,
    /// Blocks of the target of a symbolic link.
    Target,
    /// An inode.
    Inode,
    /// Extended attributes of one inode.
    Attributes,
    /// Extended attributes that inodes share.
    SharedAttributes,
    /// The cluster index or chunk table of a file.
    Index,
    /// Data beside an inode.
    Tail,
    /// Fill between the others.
    Padding,
}

/// A range of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the image.
    pub range: Range<u64>,
    /// What they are.
    pub part: Part,
    /// The name that they belong to, escaped as ASCII; the first one of a file with several. None
    /// for what belongs to no file.
    pub path: Option<String>,
}

/// Every byte of the image: pieces in order, without gap or overlap, ending where the superblock
/// says that the image ends.
///
/// # Errors
/// The image cannot be read, is damaged, uses what this reader does not know, or holds bytes that
/// belong to two structures.
pub fn pieces(source: &dyn Source) -> Result<Vec<Piece>, ReadError> {
    let image = Image::open(source)?;
    let mut found = Found::default();
    found.first_block(&image)?;
    let mut seen = HashSet::new();
    let mut todo = vec![("/".to_owned(), image.root())];
    while let Some((path, nid)) = todo.pop() {
        if !seen.insert(nid) {
            continue;
        }
        found.inode(&image, nid, &path)?;
        let mut below = Vec::new();
        image.entries(nid, &mut |name, child| {
            let slash = if path == "/" { "" } else { "/" };
            below.push((format!("{path}{slash}{}", name.escape_ascii()), child));
        })?;
        todo.extend(below.into_iter().rev());
    }
    found.finish(u64::from(image.super_block().blocks) * BLOCK as u64)
}

#[derive(Default)]
struct Found {
    pieces: Vec<Piece>,
    shared: HashSet<u64>,
}

impl Found {
    fn add(&mut self, range: Range<u64>, part: Part, path: Option<&str>) {
        if range.is_empty() {
            return;
        }
        if let Some(last) = self.pieces.last_mut()
            && (last.part, last.path.as_deref()) == (part, path)
            && last.range.end == range.start
        {
            last.range.end = range.end;
            return;
        }
        self.pieces.push(Piece {
            range,
            part,
            path: path.map(str::to_owned),
        });
    }

    fn first_block(&mut self, image: &Image<'_>) -> Result<(), ReadError> {
        let at = SUPER_OFFSET as u64;
        let end = at + SUPER_SIZE as u64;
        self.add(0..at, Part::Front, None);
        self.add(at..end, Part::SuperBlock, None);
        if image.super_block().feature_incompat & INCOMPAT_CONFIGS != 0 {
            let mut size = [0; 2];
            image.bytes(end, &mut size)?;
            let size = 2 + u64::from(u16_at(&size, 0));
            // One record per algorithm; what baker writes has one.
            self.add(end..(end + size).min(BLOCK as u64), Part::Codecs, None);
        }
        Ok(())
    }

    fn inode(&mut self, image: &Image<'_>, nid: u64, path: &str) -> Result<(), ReadError> {
        let (inode, offset, size) = image.sized_inode(nid)?;
        let end = offset + size as u64;
        let attributes = end - xattr::body_size(inode.xattr_count) as u64;
        self.add(offset..attributes, Part::Inode, Some(path));
        self.add(attributes..end, Part::Attributes, Some(path));
        for range in image.shared_ranges(nid)? {
            if self.shared.insert(range.start) {
                self.add(range, Part::SharedAttributes, None);
            }
        }
        let blocks = match inode.mode & mode::TYPE {
            mode::FILE => Part::Data,
            mode::DIRECTORY => Part::Directory,
            mode::SYMLINK => Part::Target,
            _ => return Ok(()),
        };
        for (span, range) in FileMap::open(image, nid)?.spans() {
            let part = match span {
                Span::Data => blocks,
                Span::Tail => Part::Tail,
                Span::Index => Part::Index,
            };
            self.add(range, part, Some(path));
        }
        Ok(())
    }

    /// Sorts the pieces and fills what lies between them.
    fn finish(mut self, end: u64) -> Result<Vec<Piece>, ReadError> {
        self.pieces.sort_by_key(|piece| piece.range.start);
        let mut all = Vec::with_capacity(self.pieces.len() * 2);
        let mut at = 0;
        let padding = |range| Piece {
            range,
            part: Part::Padding,
            path: None,
        };
        for piece in self.pieces {
            if piece.range.start < at || piece.range.end > end {
                return Err(ReadError::Damaged {
                    offset: piece.range.start,
                    what: "the place of a structure",
                    found: piece.range.end,
                    expected: format!("a place of its own between {at} and {end}"),
                });
            }
            if piece.range.start > at {
                all.push(padding(at..piece.range.start));
            }
            at = piece.range.end;
            all.push(piece);
        }
        if at < end {
            all.push(padding(at..end));
        }
        Ok(all)
    }
}
