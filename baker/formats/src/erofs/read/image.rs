//! The image as a place of inodes: superblock, inodes, attributes, directory entries.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::directory;
use super::super::error::ReadError;
use super::super::format::{
    BLOCK, COMPAT_CHECKSUM, Inode, SLOT, SUPER_OFFSET, SUPER_SIZE, SuperBlock, checksum, mode,
    u32_at,
};
use super::super::xattr;
use super::file::{FileMap, Window};
use crate::io::Source;

/// An opened image.
#[derive(Clone)]
pub struct Image<'a> {
    source: &'a dyn Source,
    super_block: SuperBlock,
}

impl<'a> Image<'a> {
    /// Reads and checks the superblock.
    ///
    /// # Errors
    /// The source fails, the magic number or the checksum is wrong, or a feature is unknown.
    pub fn open(source: &'a dyn Source) -> Result<Self, ReadError> {
        let mut first = vec![0; BLOCK];
        source
            .read_exact_at(0, &mut first)
            .map_err(|source| ReadError::Image { offset: 0, source })?;
        let mut bytes = [0; SUPER_SIZE];
        bytes.copy_from_slice(&first[SUPER_OFFSET..SUPER_OFFSET + SUPER_SIZE]);
        let super_block = SuperBlock::decode(&bytes)?;
        let found = u32_at(&bytes, 4);
        first[SUPER_OFFSET + 4..SUPER_OFFSET + 8].fill(0);
        let expected = checksum(&first[SUPER_OFFSET..]);
        if super_block.feature_compat & COMPAT_CHECKSUM != 0 && found != expected {
            return Err(ReadError::Damaged {
                offset: (SUPER_OFFSET + 4) as u64,
                what: "the checksum of the superblock",
                found: found.into(),
                expected: format!("{expected:#010x}"),
            });
        }
        Ok(Self {
            source,
            super_block,
        })
    }

    pub(in super::super) const fn super_block(&self) -> &SuperBlock {
        &self.super_block
    }

    pub(in super::super) fn root(&self) -> u64 {
        self.super_block.root_nid.into()
    }

    pub(super) fn bytes(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        self.source
            .read_exact_at(offset, buffer)
            .map_err(|source| ReadError::Image { offset, source })
    }

    /// The inode and the byte it starts at.
    pub(in super::super) fn inode(&self, nid: u64) -> Result<(Inode, u64), ReadError> {
        self.sized_inode(nid)
            .map(|(inode, offset, _)| (inode, offset))
    }

    /// The inode, the byte it starts at, and the bytes it takes with its attributes.
    pub(super) fn sized_inode(&self, nid: u64) -> Result<(Inode, u64, usize), ReadError> {
        let area = u64::from(self.super_block.meta_block) * BLOCK as u64;
        let offset = nid
            .checked_mul(SLOT as u64)
            .and_then(|at| at.checked_add(area))
            .filter(|at| *at < u64::from(self.super_block.blocks) * BLOCK as u64)
            .ok_or_else(|| ReadError::Damaged {
                offset: area,
                what: "an inode number",
                found: nid,
                expected: "one inside of the image".to_owned(),
            })?;
        let mut bytes = [0; 64];
        // The last inode of the image may be a compact one in the last slot.
        self.bytes(offset, &mut bytes[..SLOT])?;
        if bytes[0] & 1 == 1 {
            self.bytes(offset, &mut bytes)?;
        }
        let (inode, size) = Inode::decode(&bytes, offset, self.super_block.epoch)?;
        let size = size + xattr::body_size(inode.xattr_count);
        Ok((inode, offset, size))
    }

    /// The extended attributes of an inode.
    pub(in super::super) fn xattrs(
        &self,
        nid: u64,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
        let (inode, offset, end) = self.sized_inode(nid)?;
        let size = xattr::body_size(inode.xattr_count);
        let mut attributes = BTreeMap::new();
        if size == 0 {
            return Ok(attributes);
        }
        let at = offset + (end - size) as u64;
        let mut body = vec![0; size];
        self.bytes(at, &mut body)?;
        let ids_end = xattr::HEADER + 4 * usize::from(body[4]);
        let damaged = |found: usize| ReadError::Damaged {
            offset: at,
            what: "an extended attribute",
            found: found as u64,
            expected: "an entry of a known kind inside of its area".to_owned(),
        };
        let ids = body
            .get(xattr::HEADER..ids_end)
            .ok_or_else(|| damaged(ids_end))?;
        for id in ids.chunks_exact(4) {
            let (name, value) = self.shared_xattr(u32_at(id, 0)).map_err(|_| damaged(0))?;
            attributes.insert(name, value);
        }
        let mut rest = &body[ids_end..];
        while !rest.is_empty() {
            let (name, value, size) =
                xattr::decode_entry(rest).ok_or_else(|| damaged(rest.len()))?;
            attributes.insert(name, value);
            rest = rest.get(size..).unwrap_or_default();
        }
        Ok(attributes)
    }

    /// Where the shared attributes of an inode lie.
    pub(super) fn shared_ranges(&self, nid: u64) -> Result<Vec<Range<u64>>, ReadError> {
        let (inode, offset, end) = self.sized_inode(nid)?;
        let size = xattr::body_size(inode.xattr_count);
        if size == 0 {
            return Ok(Vec::new());
        }
        let mut body = vec![0; size];
        self.bytes(offset + (end - size) as u64, &mut body)?;
        let ids_end = xattr::HEADER + 4 * usize::from(body[4]);
        let ids = body.get(xattr::HEADER..ids_end).unwrap_or_default();
        let area = u64::from(self.super_block.xattr_block) * BLOCK as u64;
        ids.chunks_exact(4)
            .map(|id| {
                let start = area + u64::from(u32_at(id, 0)) * 4;
                let mut header = [0; 4];
                self.bytes(start, &mut header)?;
                let value = u64::from(u16::from_le_bytes([header[2], header[3]]));
                let size = 4 + u64::from(header[0]) + value;
                Ok(start..start + size.next_multiple_of(4))
            })
            .collect()
    }

    fn shared_xattr(&self, id: u32) -> Result<(Vec<u8>, Vec<u8>), ReadError> {
        let offset = u64::from(self.super_block.xattr_block) * BLOCK as u64 + u64::from(id) * 4;
        let mut header = [0; 4];
        self.bytes(offset, &mut header)?;
        let size = usize::from(header[0]) + usize::from(u16::from_le_bytes([header[2], header[3]]));
        let mut entry = vec![0; 4 + size];
        self.bytes(offset, &mut entry)?;
        let (name, value, _) = xattr::decode_entry(&entry).ok_or_else(|| ReadError::Damaged {
            offset,
            what: "a shared extended attribute",
            found: header[1].into(),
            expected: "a known name index".to_owned(),
        })?;
        Ok((name, value))
    }

    /// Calls `each` with the names and nids of a directory, without `.` and `..`.
    pub(in super::super) fn entries(
        &self,
        nid: u64,
        each: &mut dyn FnMut(&[u8], u64),
    ) -> Result<(), ReadError> {
        let (inode, offset) = self.inode(nid)?;
        if inode.mode & mode::TYPE != mode::DIRECTORY {
            return Ok(());
        }
        let map = FileMap::open(self, nid)?;
        let mut at = 0;
        while at < inode.size {
            let length = usize::try_from(inode.size - at).unwrap_or(BLOCK).min(BLOCK);
            let mut block = vec![0; length];
            map.read(self, &mut Window::default(), at, &mut block)?;
            for entry in directory::decode(&block, offset)? {
                if !matches!(entry.name, b"." | b"..") {
                    each(entry.name, entry.nid);
                }
            }
            at += length as u64;
        }
        Ok(())
    }
}
