//! Extended attributes: inline behind their inode, or shared in one area when that is shorter.
//!
//! ```text
//! inline:  filter u32, shared count u8, 7 zeros, shared ids u32..., entries...
//! entry:   name length u8, name index u8, value size u16, name, value, padded to 4 bytes
//! ```

use std::collections::BTreeMap;

use baker_model::tree::{Metadata, TreePath};

use super::error::Error;
use super::format::u16_at;

/// Bytes of `erofs_xattr_ibody_header`.
pub const HEADER: usize = 12;

/// The most bytes that shared attributes may take: the 16-bit nid of the root directory, which
/// follows them, reaches 2 MiB.
const SHARED_LIMIT: usize = 1 << 20;

/// Prefixes with their `EROFS_XATTR_INDEX_*`; the two ACL names leave no rest.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// The shared attributes of an image.
#[derive(Debug, Default)]
pub struct Shared {
    /// The area, to be written at byte `base` of the metadata area.
    pub area: Vec<u8>,
    /// Where each shared entry lies, in units of 4 bytes from the start of the metadata area.
    ids: BTreeMap<Vec<u8>, u32>,
}

impl Shared {
    /// Picks the attributes of all inodes that are shorter when shared; their area will start
    /// at byte `base` (a multiple of 4).
    ///
    /// # Errors
    /// A name or a value that EROFS cannot hold.
    pub fn choose<'a>(
        inodes: impl Iterator<Item = (&'a TreePath, &'a Metadata)>,
        base: u32,
    ) -> Result<Self, Error> {
        let mut uses: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for (path, metadata) in inodes {
            for (name, value) in &metadata.xattrs {
                *uses.entry(entry(path, name, value)?).or_default() += 1;
            }
        }
        let mut shared = Self::default();
        for (entry, uses) in uses {
            let pays = uses * entry.len() > entry.len() + 4 * uses;
            if pays && shared.area.len() + entry.len() <= SHARED_LIMIT {
                let at = u32::try_from(shared.area.len()).expect("the area is limited to 1 MiB");
                shared.area.extend_from_slice(&entry);
                shared.ids.insert(entry, (base + at) / 4);
            }
        }
        Ok(shared)
    }

    /// The attributes of one inode as they lie behind it; nothing when it has none.
    ///
    /// # Errors
    /// They are too large together.
    pub fn body(&self, path: &TreePath, metadata: &Metadata) -> Result<Vec<u8>, Error> {
        if metadata.xattrs.is_empty() {
            return Ok(Vec::new());
        }
        let (mut ids, mut entries) = (Vec::new(), Vec::new());
        for (name, value) in &metadata.xattrs {
            let entry = entry(path, name, value)?;
            match self.ids.get(&entry) {
                Some(id) if ids.len() < 255 => ids.push(*id),
                _ => entries.extend_from_slice(&entry),
            }
        }
        let mut body = vec![0; 4];
        body.push(u8::try_from(ids.len()).expect("at most 255 ids are taken"));
        body.resize(HEADER, 0);
        body.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        body.append(&mut entries);
        let limit = HEADER + 4 * (usize::from(u16::MAX) - 1);
        if body.len() > limit {
            let (path, size) = (path.clone(), body.len());
            return Err(Error::AttributeSize { path, size, limit });
        }
        Ok(body)
    }
}

/// `i_xattr_icount` of a body made by [`Shared::body`].
#[must_use]
pub fn count(body: &[u8]) -> u16 {
    match body.len() {
        0 => 0,
        length => u16::try_from((length - HEADER) / 4 + 1).expect("checked when it was made"),
    }
}

/// Bytes of the body that `i_xattr_icount` stands for.
#[must_use]
pub fn body_size(count: u16) -> usize {
    match usize::from(count) {
        0 => 0,
        count => HEADER + 4 * (count - 1),
    }
}

fn entry(path: &TreePath, name: &[u8], value: &[u8]) -> Result<Vec<u8>, Error> {
    let refuse = || Error::AttributeName {
        path: path.clone(),
        name: String::from_utf8_lossy(name).into_owned(),
    };
    let (index, rest) = PREFIXES
        .iter()
        .find_map(|(index, prefix)| Some((*index, name.strip_prefix(*prefix)?)))
        .filter(|(index, rest)| matches!(index, 2 | 3) == rest.is_empty())
        .ok_or_else(refuse)?;
    let name_length = u8::try_from(rest.len()).map_err(|_| refuse())?;
    let value_size = u16::try_from(value.len()).map_err(|_| Error::AttributeSize {
        path: path.clone(),
        size: value.len(),
        limit: usize::from(u16::MAX),
    })?;
    let mut entry = vec![name_length, index];
    entry.extend_from_slice(&value_size.to_le_bytes());
    entry.extend_from_slice(rest);
    entry.extend_from_slice(value);
    entry.resize(entry.len().next_multiple_of(4), 0);
    Ok(entry)
}

/// Reads one entry at the start of `bytes`: name, value, and the bytes it takes; none when it is
/// broken.
#[must_use]
pub fn decode_entry(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>, usize)> {
    if bytes.len() < 4 {
        return None;
    }
    let (name_length, value_size) = (usize::from(bytes[0]), usize::from(u16_at(bytes, 2)));
    let (_, prefix) = PREFIXES.iter().find(|(index, _)| *index == bytes[1])?;
    let name = bytes.get(4..4 + name_length)?;
    let value = bytes.get(4 + name_length..4 + name_length + value_size)?;
    let size = (4 + name_length + value_size).next_multiple_of(4);
    Some(([prefix, name].concat(), value.to_vec(), size))
}
