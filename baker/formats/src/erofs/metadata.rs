//! The metadata area: inodes with their attributes, indexes and tails; directory data.
//!
//! [`Metadata::inode`] and [`Metadata::directory`] make the bytes. The measuring pass calls them
//! with nids of zero, which changes no length, the emitting pass with the real ones.

use std::io::Write;

use baker_model::tree::Kind;

use super::data::Stored;
use super::directory::{self, Entry};
use super::error::Error;
use super::format::{BLOCK, DataLayout, Inode as Header, SLOT};
use super::index;
use super::inventory::Inode;
use super::output::Output;
use super::place::{self, Shape};
use super::segment::TAIL_LIMIT;
use super::xattr::{self, Shared};

/// The first slot stays empty: a nid of zero would be an inode number of zero, which user space
/// takes for a deleted entry.
const FIRST: u64 = SLOT as u64;

/// Everything needed to write the metadata.
pub struct Metadata<'a> {
    inodes: &'a [Inode<'a>],
    stored: Vec<Option<Stored>>,
    shared: Shared,
    epoch: i64,
    algorithm: u8,
    /// Nid of each inode; zeros while measuring.
    nids: Vec<u64>,
}

/// What the superblock says about the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// First block of the metadata area.
    pub block: u32,
    /// Nid of the root directory.
    pub root: u16,
}

/// An inode as bytes.
struct Bytes {
    /// Inode, attributes, index.
    head: Vec<u8>,
    /// Data behind it that must not cross a block.
    tail: Vec<u8>,
    /// A symbolic link must not cross a block at all (`erofs_fill_symlink` of kernel 6.12).
    bound: bool,
}

impl<'a> Metadata<'a> {
    /// Takes the inodes and where their data went.
    ///
    /// # Errors
    /// Extended attributes that EROFS cannot hold.
    pub fn new(
        inodes: &'a [Inode<'a>],
        stored: Vec<Option<Stored>>,
        epoch: i64,
        algorithm: u8,
    ) -> Result<Self, Error> {
        let base = u32::try_from(FIRST).expect("one slot");
        let all = inodes
            .iter()
            .map(|inode| (inode.path, &inode.node.metadata));
        let shared = Shared::choose(all, base)?;
        let nids = vec![0; inodes.len()];
        Ok(Self {
            inodes,
            stored,
            shared,
            epoch,
            algorithm,
            nids,
        })
    }

    /// Whether inodes of these layouts occur: compressed tails, chunks.
    #[must_use]
    pub fn features(&self) -> (bool, bool) {
        let any = |test: fn(&Stored) -> bool| self.stored.iter().flatten().any(test);
        (
            any(|stored| matches!(stored, Stored::Packed { tail: Some(_), .. })),
            any(|stored| matches!(stored, Stored::Chunked { .. })),
        )
    }

    /// Appends directory data and all inodes to the image.
    ///
    /// # Errors
    /// The output refuses bytes, or attributes are too large.
    pub fn write<W: Write>(mut self, out: &mut Output<'_, W>) -> Result<Placed, Error> {
        let blocks = self.measure_blocks(out)?;
        let (positions, end) = self.measure(&blocks)?;
        self.nids = positions
            .iter()
            .map(|position| position / SLOT as u64)
            .collect();
        self.write_blocks(&blocks, out)?;

        let block = out.block(self.inodes[0].path)?;
        let area = out.at();
        out.zeros_to(area + FIRST)?;
        out.write(&self.shared.area)?;
        let mut order: Vec<usize> = (0..positions.len()).collect();
        order.sort_unstable_by_key(|&inode| positions[inode]);
        for inode in order {
            out.zeros_to(area + positions[inode])?;
            let bytes = self.inode(inode, blocks[inode])?;
            out.write(&bytes.head)?;
            out.write(&bytes.tail)?;
        }
        out.zeros_to(area + end)?;
        out.align()?;
        let root =
            u16::try_from(self.nids[0]).expect("the root is first and follows 1 MiB at most");
        Ok(Placed { block, root })
    }

    /// The first block of the data of each directory and symbolic link that has blocks.
    fn measure_blocks<W: Write>(&self, out: &Output<'_, W>) -> Result<Vec<u32>, Error> {
        let mut next = out.block(self.inodes[0].path)?;
        self.inodes
            .iter()
            .enumerate()
            .map(|(index, inode)| {
                let start = next;
                let (blocks, _) = split(self.data(index), self.room(index)?);
                let count = u32::try_from(blocks.len().div_ceil(BLOCK)).ok();
                next = count
                    .and_then(|count| next.checked_add(count))
                    .ok_or_else(|| Error::TooLarge {
                        path: inode.path.clone(),
                        limit: u32::MAX.into(),
                    })?;
                Ok(start)
            })
            .collect()
    }

    fn write_blocks<W: Write>(&self, blocks: &[u32], out: &mut Output<'_, W>) -> Result<(), Error> {
        for (index, start) in blocks.iter().enumerate() {
            let (blocks, _) = split(self.data(index), self.room(index)?);
            if !blocks.is_empty() {
                debug_assert_eq!(out.block(self.inodes[index].path)?, *start);
                out.write(&blocks)?;
                out.align()?;
            }
        }
        Ok(())
    }

    fn measure(&self, blocks: &[u32]) -> Result<(Vec<u64>, u64), Error> {
        let shapes = (0..self.inodes.len())
            .map(|index| {
                let bytes = self.inode(index, blocks[index])?;
                let (head, tail) = (bytes.head.len() as u64, bytes.tail.len() as u64);
                Ok(if bytes.bound {
                    Shape {
                        free: 0,
                        bound: head + tail,
                    }
                } else {
                    Shape {
                        free: head,
                        bound: tail,
                    }
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let start = (FIRST + self.shared.area.len() as u64).next_multiple_of(SLOT as u64);
        Ok(place::place(&shapes, start))
    }

    /// Data that this pass writes: directory entries and link targets.
    fn data(&self, index: usize) -> Vec<u8> {
        match &self.inodes[index].node.kind {
            Kind::Directory => self.directory(index),
            Kind::Symlink { target } => target.clone(),
            _ => Vec::new(),
        }
    }

    /// How many bytes of data may lie behind the inode.
    fn room(&self, index: usize) -> Result<usize, Error> {
        let inode = &self.inodes[index];
        match &inode.node.kind {
            Kind::Symlink { .. } => {
                let xattrs = self.shared.body(inode.path, &inode.node.metadata)?;
                // 64: an extended inode; which form it is does not matter that much.
                Ok(BLOCK.saturating_sub(2 * SLOT + xattrs.len()))
            }
            _ => Ok(TAIL_LIMIT),
        }
    }

    fn directory(&self, index: usize) -> Vec<u8> {
        let inode = &self.inodes[index];
        let nid = |child: usize| self.nids[child];
        let entry = |name, child: usize| Entry {
            name,
            nid: nid(child),
            file_type: directory::file_type(self.inodes[child].mode()),
        };
        let mut entries: Vec<Entry<'_>> = inode
            .children
            .iter()
            .map(|(name, child)| entry(name, *child))
            .collect();
        entries.push(entry(b".", index));
        entries.push(entry(b"..", inode.parent));
        entries.sort_unstable_by_key(|entry| entry.name);
        directory::encode(&entries)
    }

    /// One inode with all that follows it; `start` is the first block of its directory data.
    fn inode(&self, index: usize, start: u32) -> Result<Bytes, Error> {
        let inode = &self.inodes[index];
        let metadata = &inode.node.metadata;
        let xattrs = self.shared.body(inode.path, metadata)?;
        let mut header = Header {
            layout: DataLayout::Plain,
            xattr_count: xattr::count(&xattrs),
            mode: inode.mode(),
            links: inode.links,
            size: inode.content().map_or(0, |content| content.size()),
            union: inode.device(),
            number: u32::try_from(index + 1).unwrap_or(u32::MAX),
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime,
        };
        let mut tail = Vec::new();
        let bound = matches!(inode.node.kind, Kind::Symlink { .. });
        if matches!(inode.node.kind, Kind::Directory | Kind::Symlink { .. }) {
            let data = self.data(index);
            header.size = data.len() as u64;
            header.union = start;
            (_, tail) = split(data, self.room(index)?);
        }
        match &self.stored[index] {
            Some(Stored::Flat { start, tail: last }) => {
                header.union = *start;
                tail.clone_from(last);
            }
            Some(Stored::Chunked { bits, starts }) => {
                header.layout = DataLayout::Chunked;
                header.union = *bits;
                let mut head = self.head(&header, &xattrs);
                head.extend(starts.iter().flat_map(|start| start.to_le_bytes()));
                return Ok(Bytes { head, tail, bound });
            }
            Some(Stored::Packed {
                start,
                extents,
                tail,
            }) => {
                return Ok(self.packed(header, &xattrs, *start, extents, tail.as_deref()));
            }
            None => {}
        }
        if !tail.is_empty() {
            header.layout = DataLayout::Inline;
        }
        let bound = bound && !tail.is_empty();
        Ok(Bytes {
            head: self.head(&header, &xattrs),
            tail,
            bound,
        })
    }

    fn packed(
        &self,
        mut header: Header,
        xattrs: &[u8],
        start: u32,
        extents: &[index::Extent],
        tail: Option<&[u8]>,
    ) -> Bytes {
        header.layout = DataLayout::Compact;
        let blocks: u32 = extents.iter().map(|extent| u32::from(extent.blocks)).sum();
        header.union = blocks - u32::from(tail.is_some());
        let mut head = self.head(&header, xattrs);
        head.resize(head.len().next_multiple_of(8), 0);
        let tail_size = tail.map(|tail| u16::try_from(tail.len()).expect("a tail is below 4 KiB"));
        head.extend(index::encode(
            head.len(),
            extents,
            start,
            tail_size,
            self.algorithm,
        ));
        Bytes {
            head,
            tail: tail.unwrap_or_default().to_vec(),
            bound: false,
        }
    }

    fn head(&self, header: &Header, xattrs: &[u8]) -> Vec<u8> {
        let mut head = Vec::with_capacity(2 * SLOT + xattrs.len());
        header.encode(self.epoch, &mut head);
        head.extend_from_slice(xattrs);
        head
    }
}

/// Splits data into whole blocks and the tail that lies behind the inode; the tail is empty when
/// it is longer than `room`, and the data then ends in a block of its own.
fn split(mut data: Vec<u8>, room: usize) -> (Vec<u8>, Vec<u8>) {
    let tail = data.len() % BLOCK;
    if tail > room {
        return (data, Vec::new());
    }
    let tail = data.split_off(data.len() - tail);
    (data, tail)
}
