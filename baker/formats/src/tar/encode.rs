//! A header as bytes: one ustar block, behind a pax extended header where that is too small.

use super::header::{Header, Kind};
use super::{BLOCK, padded};

/// Longest path and link target of a ustar block without its prefix.
const NAME: usize = 100;

/// Largest numbers of 7 and of 11 octal digits.
const SEVEN: u64 = 0o777_7777;
const ELEVEN: u64 = 0o777_7777_7777;

/// The header of one entry, its extended header included; a multiple of [`BLOCK`] bytes. What lies
/// behind `offset` is not written.
///
/// Names of owners stay empty: numbers decide. Equal headers give equal bytes.
#[must_use]
pub fn encode(header: &Header) -> Vec<u8> {
    let records = records(header);
    let mut bytes = Vec::new();
    if !records.is_empty() {
        let extension = Header {
            path: extension_path(&header.path),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: header.mtime.max(0),
            xattrs: std::collections::BTreeMap::new(),
            size: records.len() as u64,
            offset: 0,
        };
        bytes.extend(block(&extension, b'x'));
        bytes.extend(padded(records));
    }
    bytes.extend(block(header, type_flag(&header.kind)));
    bytes
}

/// Where programs that do not know pax put an extended header: never over the entry itself.
fn extension_path(path: &[u8]) -> Vec<u8> {
    let name = path
        .split(|&byte| byte == b'/')
        .rfind(|part| !part.is_empty());
    let name = name.unwrap_or_default();
    let mut path = b"./PaxHeaders/".to_vec();
    path.extend(&name[..name.len().min(NAME - path.len())]);
    path
}

/// The records of all that the block cannot hold, sorted by key.
fn records(header: &Header) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &str, value: Vec<u8>| records.push((key.into(), value));
    // Bytes beyond ASCII in a block have no declared meaning; in a record they are UTF-8.
    let fits = |name: &[u8]| name.len() <= NAME && name.is_ascii();
    let target = link_target(&header.kind);
    let texts = [&header.path[..], target].concat();
    if std::str::from_utf8(&texts).is_err() {
        add("hdrcharset", b"BINARY".to_vec());
    }
    for (key, value) in [("gid", header.gid), ("uid", header.uid)] {
        if u64::from(value) > SEVEN {
            add(key, value.to_string().into());
        }
    }
    if !fits(target) {
        add("linkpath", target.to_vec());
    }
    if u64::try_from(header.mtime).is_ok_and(|time| time > ELEVEN) || header.mtime < 0 {
        add("mtime", header.mtime.to_string().into());
    }
    if !fits(&header.path) {
        add("path", header.path.clone());
    }
    if header.size > ELEVEN {
        add("size", header.size.to_string().into());
    }
    for (name, value) in &header.xattrs {
        records.push(([b"SCHILY.xattr.", &name[..]].concat(), value.clone()));
    }
    records.sort();
    records
        .iter()
        .flat_map(|(key, value)| record(key, value))
        .collect()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn link_target(kind: &Kind) -> &[u8] {
    match kind {
        Kind::HardLink { target } | Kind::Symlink { target } => target,
        _ => b"",
    }
}

const fn type_flag(kind: &Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink { .. } => b'1',
        Kind::Symlink { .. } => b'2',
        Kind::CharDevice { .. } => b'3',
        Kind::BlockDevice { .. } => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

fn block(header: &Header, type_flag: u8) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    let (major, minor) = match header.kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (major, minor),
        _ => (0, 0),
    };
    text(&mut bytes[0..100], &header.path);
    octal(&mut bytes[100..108], header.mode.into());
    octal(&mut bytes[108..116], header.uid.into());
    octal(&mut bytes[116..124], header.gid.into());
    octal(&mut bytes[124..136], header.size);
    octal(
        &mut bytes[136..148],
        u64::try_from(header.mtime).unwrap_or(0),
    );
    // The checksum counts itself as blanks.
    bytes[148..156].fill(b' ');
    bytes[156] = type_flag;
    text(&mut bytes[157..257], link_target(&header.kind));
    bytes[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut bytes[329..337], major.into());
    octal(&mut bytes[337..345], minor.into());
    let sum: u64 = bytes.iter().map(|byte| u64::from(*byte)).sum();
    // Six digits, NUL, blank: what every tar writes.
    octal(&mut bytes[148..155], sum);
    bytes
}

/// As much of a name as fits; a record holds the whole when it does not.
fn text(field: &mut [u8], name: &[u8]) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
}

/// Digits to the last byte but one, which stays NUL. What does not fit is in a record.
fn octal(field: &mut [u8], mut number: u64) {
    let Some((end, digits)) = field.split_last_mut() else {
        return;
    };
    *end = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 8).unwrap_or_default();
        number /= 8;
    }
}
