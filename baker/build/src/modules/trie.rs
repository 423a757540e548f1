//! The index files of kmod (`modules.dep.bin` and its like).
//!
//! ```text
//! u32 magic 0xB007F457, u32 version 2.1, u32 offset of the root node
//! node: [prefix, NUL]                                     when bit 31 of its offset is set
//!       [u8 first, u8 last, u32 offset per byte between]  bit 29; 0 = no such child
//!       [u32 count, then per value u32 priority, text, NUL]  bit 30
//! ```
//! All numbers are big endian. A child's key leaves out the byte that chose it. Children lie
//! before their parent. Facts from kmod's `libkmod-index.c`.

use std::collections::BTreeMap;

const MAGIC: u32 = 0xb007_f457;
const VERSION: u32 = 0x0002_0001;
const HEADER: usize = 12;

const PREFIX: u32 = 1 << 31;
const VALUES: u32 = 1 << 30;
const CHILDREN: u32 = 1 << 29;

/// Offsets have 28 bits: the upper ones are flags.
const SIZE_LIMIT: usize = 1 << 28;

/// An index to be written: keys with values, each with a priority (lower comes first).
#[derive(Debug, Default)]
pub(super) struct Trie(BTreeMap<Vec<u8>, Vec<(u32, String)>>);

impl Trie {
    /// Adds a value to a key; equal priorities keep the newest in front, as depmod has it.
    pub(super) fn insert(&mut self, key: &str, value: &str, priority: u32) {
        let values = self.0.entry(key.as_bytes().to_vec()).or_default();
        let at = values.partition_point(|(other, _)| *other < priority);
        values.insert(at, (priority, value.to_owned()));
    }

    /// The bytes of the file; none when it would be too large for its format.
    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        let entries: Vec<Entry<'_>> = self
            .0
            .iter()
            .map(|(key, values)| (&key[..], &values[..]))
            .collect();
        let mut bytes = vec![0; HEADER];
        let root = write_node(&mut bytes, &entries, 0)?;
        for (at, number) in [MAGIC, VERSION, root].into_iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&number.to_be_bytes());
        }
        Some(bytes)
    }
}

type Entry<'a> = (&'a [u8], &'a [(u32, String)]);

/// Writes the node of all `entries`, which agree in their first `depth` bytes and are sorted.
fn write_node(bytes: &mut Vec<u8>, entries: &[Entry<'_>], depth: usize) -> Option<u32> {
    // depmod's root never has a prefix; the same bytes are easier to compare.
    let common = if depth == 0 {
        &[]
    } else {
        common_prefix(entries, depth)
    };
    let end = depth + common.len();
    let (values, rest) = match entries.split_first() {
        Some(((key, values), rest)) if key.len() == end => (*values, rest),
        _ => (&[][..], entries),
    };
    let mut children = Vec::new();
    for group in rest.chunk_by(|left, right| left.0[end] == right.0[end]) {
        children.push((group[0].0[end], write_node(bytes, group, end + 1)?));
    }
    let start = u32::try_from(bytes.len())
        .ok()
        .filter(|_| bytes.len() < SIZE_LIMIT)?;
    let mut flags = 0;
    if !common.is_empty() {
        flags |= PREFIX;
        bytes.extend_from_slice(common);
        bytes.push(0);
    }
    if let (Some(first), Some(last)) = (children.first(), children.last()) {
        flags |= CHILDREN;
        bytes.extend([first.0, last.0]);
        for byte in first.0..=last.0 {
            let child = children
                .iter()
                .find(|(at, _)| *at == byte)
                .map_or(0, |(_, child)| *child);
            bytes.extend(child.to_be_bytes());
        }
    }
    if !values.is_empty() {
        flags |= VALUES;
        bytes.extend(u32::try_from(values.len()).ok()?.to_be_bytes());
        for (priority, value) in values {
            bytes.extend(priority.to_be_bytes());
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
    }
    Some(start | flags)
}

/// What all keys have in common after `depth`. They are sorted: the first and the last decide.
fn common_prefix<'a>(entries: &[Entry<'a>], depth: usize) -> &'a [u8] {
    let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else {
        return &[];
    };
    let length = first[depth..]
        .iter()
        .zip(&last[depth..])
        .take_while(|(a, b)| a == b)
        .count();
    &first[depth..depth + length]
}
