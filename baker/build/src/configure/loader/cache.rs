//! The format of `/etc/ld.so.cache` (glibc 2.32 and newer, `sysdeps/generic/dl-cache.h`).
//!
//! ```text
//!  0  "glibc-ld.so.cache" "1.1"
//! 20  number of entries, bytes of strings        2 x u32
//! 28  flags: 2 for little-endian, 3 bytes zero
//! 32  offset of the extension                    u32, then 12 bytes zero
//! 48  entries: flags, soname, path, 0            4 x u32, capability u64
//!     strings, each with a NUL, tails shared; then padding to 4
//!     extension: magic, number of sections       2 x u32
//!       sections: tag, flags, offset, size       4 x u32
//!       the strings of the capabilities          u32 each
//!       the generator's text
//! ```
//!
//! All numbers are little-endian, all offsets count from the start of the file. The level of
//! instruction set that a library itself demands is not recorded: Debian's libraries, built for
//! the baseline, demand none.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
const LITTLE_ENDIAN: u8 = 2;
const HEADER: usize = 48;
const ENTRY: usize = 24;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const TAG_GENERATOR: u32 = 0;
const TAG_CAPABILITIES: u32 = 1;
/// Marks the capability field of an entry as an index into the capability section.
const CAPABILITY: u64 = 1 << 62;

/// One library under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) soname: String,
    pub(super) path: String,
    pub(super) flags: u32,
    /// Name of the folder below `glibc-hwcaps`.
    pub(super) capability: Option<String>,
}

/// The bytes of a cache with these entries, of which equals keep their order.
pub(super) fn encode(mut entries: Vec<Entry>, generator: Option<&str>) -> Vec<u8> {
    entries.sort_by(compare);
    let capabilities: BTreeSet<&str> = entries
        .iter()
        .filter_map(|entry| entry.capability.as_deref())
        .collect();
    let names = entries
        .iter()
        .flat_map(|entry| [entry.soname.as_str(), entry.path.as_str()]);
    let strings = Strings::new(names.chain(capabilities.iter().copied()));
    let start = HEADER + ENTRY * entries.len();
    let place = |text: &str| offset(start + strings.places[text]);
    let extension = (start + strings.bytes.len()).next_multiple_of(4);

    let mut out = Vec::with_capacity(extension + 256);
    out.extend_from_slice(MAGIC);
    out.extend(offset(entries.len()).to_le_bytes());
    out.extend(offset(strings.bytes.len()).to_le_bytes());
    out.extend([LITTLE_ENDIAN, 0, 0, 0]);
    out.extend(offset(extension).to_le_bytes());
    out.extend([0; 12]);
    for entry in &entries {
        for number in [entry.flags, place(&entry.soname), place(&entry.path), 0] {
            out.extend(number.to_le_bytes());
        }
        let index = entry
            .capability
            .as_deref()
            .and_then(|name| capabilities.iter().position(|known| *known == name));
        out.extend(
            index
                .map_or(0, |index| CAPABILITY | index as u64)
                .to_le_bytes(),
        );
    }
    out.extend_from_slice(&strings.bytes);
    out.resize(extension, 0);
    let capabilities: Vec<u32> = capabilities.into_iter().map(place).collect();
    extend(&mut out, &capabilities, generator);
    out
}

/// Appends the extension.
fn extend(out: &mut Vec<u8>, capabilities: &[u32], generator: Option<&str>) {
    let count = usize::from(generator.is_some()) + usize::from(!capabilities.is_empty());
    let data = out.len() + 8 + 16 * count;
    let size = 4 * capabilities.len();
    out.extend(EXTENSION_MAGIC.to_le_bytes());
    out.extend(offset(count).to_le_bytes());
    let mut section = |tag: u32, at: usize, size: usize| {
        for number in [tag, 0, offset(at), offset(size)] {
            out.extend(number.to_le_bytes());
        }
    };
    if let Some(text) = generator {
        section(TAG_GENERATOR, data + size, text.len());
    }
    if !capabilities.is_empty() {
        section(TAG_CAPABILITIES, data, size);
    }
    out.extend(capabilities.iter().flat_map(|place| place.to_le_bytes()));
    out.extend_from_slice(generator.unwrap_or_default().as_bytes());
}

/// An offset of the format; a cache of 4 GiB would need a hundred million libraries.
fn offset(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Strings with shared tails, in the order of `ldconfig`: by their reverse, downwards.
struct Strings {
    bytes: Vec<u8>,
    places: BTreeMap<String, usize>,
}

impl Strings {
    fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let unique: BTreeSet<&str> = texts.collect();
        let mut sorted: Vec<&str> = unique.into_iter().collect();
        sorted.sort_by(|a, b| b.bytes().rev().cmp(a.bytes().rev()));
        let (mut bytes, mut places) = (Vec::new(), BTreeMap::new());
        let mut last = "";
        for text in sorted {
            if !last.ends_with(text) {
                bytes.extend_from_slice(text.as_bytes());
                bytes.push(0);
            }
            // Either it was just written or it is the tail of what was.
            places.insert(text.to_owned(), bytes.len().saturating_sub(text.len() + 1));
            last = text;
        }
        Self { bytes, places }
    }
}

/// The loader searches from the highest name down; among equal names capabilities come first.
fn compare(a: &Entry, b: &Entry) -> Ordering {
    compare_names(&b.soname, &a.soname)
        .then_with(|| b.flags.cmp(&a.flags))
        .then_with(|| a.capability.is_none().cmp(&b.capability.is_none()))
        .then_with(|| a.capability.cmp(&b.capability))
}

/// Compares names with numbers as numbers: `libx.so.9` before `libx.so.10`; a digit is greater
/// than anything else.
pub(super) fn compare_names(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(&x), Some(&y)) = (a.first(), b.first()) else {
            return a.len().cmp(&b.len());
        };
        let order = match (x.is_ascii_digit(), y.is_ascii_digit()) {
            (true, true) => number(&mut a).cmp(&number(&mut b)),
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                (a, b) = (&a[1..], &b[1..]);
                x.cmp(&y)
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn number(text: &mut &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    *text = rest;
    number.iter().fold(0_u64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_numbers() {
        assert_eq!(compare_names("liba.so.9", "liba.so.10"), Ordering::Less);
        assert_eq!(compare_names("liba.so", "liba.so.1"), Ordering::Less);
        assert_eq!(compare_names("liba1", "liba-"), Ordering::Greater);
        assert_eq!(compare_names("liba-", "liba1"), Ordering::Less);
        assert_eq!(compare_names("same.so.1", "same.so.1"), Ordering::Equal);
    }

    /// The four entries and the bytes were made by `ldconfig` of glibc 2.41 from one library in
    /// four folders.
    #[test]
    fn the_bytes_are_those_of_ldconfig() {
        let entry = |path: &str, capability: Option<&str>| Entry {
            soname: "libz.so.1".to_owned(),
            path: path.to_owned(),
            flags: 0x303,
            capability: capability.map(str::to_owned),
        };
        let entries = vec![
            entry("/usr/local/lib/libz.so.1", None),
            entry("/lib/x86_64-linux-gnu/libz.so.1", None),
            entry(
                "/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libz.so.1",
                Some("x86-64-v3"),
            ),
            entry(
                "/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2/libz.so.1",
                Some("x86-64-v2"),
            ),
        ];
        let text = "ldconfig (Debian GLIBC 2.41-12+deb13u4) stable release version 2.41";
        let expected = include_bytes!("four-entries.cache");
        assert_eq!(encode(entries, Some(text)), expected);
    }
}
