//! A parsed index as bytes, so that it need not be decompressed and parsed again.
//!
//! ```text
//! magic      16 bytes   "baker index", zeros, the version as the last byte
//! index      32 bytes   SHA-256 of the index that was parsed, as the Release file names it
//! rows        8 bytes   number of packages
//! text        8 bytes   length of the text
//! rows       88 bytes each: 11 bounds of 4, size 8, SHA-256 32, priority, flags, two zeros
//! text       the fields of all packages, one behind the other
//! checksum   32 bytes   SHA-256 of everything before
//! ```
//!
//! Numbers are little-endian. Rows have one length and fields are found by their bounds, so that
//! reading takes over the text as it is and touches no field. An own table, since an encoding made
//! from types would make a string of every field of every package.

use baker_model::Digest;

use super::records::{Records, Row, TEXTS};

/// Version of the format, and of what [`super::index`] takes out of an index.
pub const VERSION: u8 = 1;

const HEADER: usize = 16 + 32 + 8 + 8;
const ROW: usize = 4 * (TEXTS + 1) + 8 + 32 + 4;
const CHECKSUM: usize = 32;

const ESSENTIAL: u8 = 1;
const MULTI_ARCH_ALLOWED: u8 = 2;

fn magic() -> [u8; 16] {
    let mut magic = *b"baker index\0\0\0\0\0";
    magic[15] = VERSION;
    magic
}

/// Writes the records of one index, that of digest `index`.
#[must_use]
pub fn encode(records: &Records, index: &Digest) -> Vec<u8> {
    let (text, rows) = records.parts();
    let size = HEADER + ROW * rows.len() + text.len() + CHECKSUM;
    let mut bytes = Vec::with_capacity(size);
    bytes.extend(magic());
    bytes.extend(index.as_bytes());
    bytes.extend((rows.len() as u64).to_le_bytes());
    bytes.extend((text.len() as u64).to_le_bytes());
    for row in rows {
        bytes.extend(row.bounds.iter().flat_map(|bound| bound.to_le_bytes()));
        bytes.extend(row.size.to_le_bytes());
        bytes.extend(row.sha256.as_bytes());
        let essential = if row.essential { ESSENTIAL } else { 0 };
        let multi_arch = if row.multi_arch_allowed {
            MULTI_ARCH_ALLOWED
        } else {
            0
        };
        bytes.extend([row.priority, essential | multi_arch, 0, 0]);
    }
    bytes.extend(text.as_bytes());
    let checksum = Digest::of(&bytes);
    bytes.extend(checksum.as_bytes());
    bytes
}

/// Reads what [`encode`] wrote for the index of digest `index`; its packages get the number
/// `suite`. None when anything is odd: whoever asks reads the index itself then.
#[must_use]
pub fn decode(mut bytes: Vec<u8>, index: &Digest, suite: u16) -> Option<Records> {
    let (sealed, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
    if Digest::of(sealed).as_bytes() != checksum {
        return None;
    }
    let mut reader = sealed;
    if take::<16>(&mut reader)? != magic() || take::<32>(&mut reader)? != *index.as_bytes() {
        return None;
    }
    let count = usize::try_from(u64::from_le_bytes(take(&mut reader)?)).ok()?;
    let length = usize::try_from(u64::from_le_bytes(take(&mut reader)?)).ok()?;
    let (table, text) = reader.split_at_checked(count.checked_mul(ROW)?)?;
    if text.len() != length {
        return None;
    }
    let rows = table.as_chunks::<ROW>().0;
    let rows: Option<Vec<Row>> = rows.iter().map(|row| decode_row(row, suite)).collect();
    let rows = rows?;
    // The text keeps the memory that it was read into.
    bytes.truncate(bytes.len() - CHECKSUM);
    bytes.drain(..HEADER + ROW * count);
    let text = String::from_utf8(bytes).ok()?;
    let all_fit = rows.iter().all(|row| row.fits(&text));
    all_fit.then(|| Records::new(text, rows))
}

fn decode_row(mut row: &[u8], suite: u16) -> Option<Row> {
    let mut bounds = [0; TEXTS + 1];
    for bound in &mut bounds {
        *bound = u32::from_le_bytes(take(&mut row)?);
    }
    let size = u64::from_le_bytes(take(&mut row)?);
    let sha256 = Digest::from_bytes(take(&mut row)?);
    let [priority, flags, 0, 0] = take(&mut row)? else {
        return None;
    };
    if flags & !(ESSENTIAL | MULTI_ARCH_ALLOWED) != 0 {
        return None;
    }
    Some(Row {
        bounds,
        size,
        sha256,
        priority,
        essential: flags & ESSENTIAL != 0,
        multi_arch_allowed: flags & MULTI_ARCH_ALLOWED != 0,
        suite,
        text: 0,
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::index;

    const INDEX: &str = "Package: a\nVersion: 1\nArchitecture: all\nDepends: b,\n c\n\
        Essential: yes\nPriority: required\nFilename: pool/a.deb\nSize: 12\n\
        SHA256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n\n\
        Package: b\nVersion: 2~\u{e9}\nArchitecture: amd64\nMulti-Arch: allowed\n\
        Provides: x (= 1), y\nBreaks: z\nFilename: pool/b.deb\nSize: 5000000000\n\
        SHA256: 0000000000000000000000000000000000000000000000000000000000000001\n";

    fn sample() -> (Records, Digest, Vec<u8>) {
        let records = index::read(INDEX.as_bytes(), 7).unwrap();
        let digest = Digest::of(INDEX.as_bytes());
        let bytes = encode(&records, &digest);
        (records, digest, bytes)
    }

    /// The bytes with a checksum that is right again.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(bytes.len() - CHECKSUM);
        let checksum = Digest::of(&bytes);
        bytes.extend(checksum.as_bytes());
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let (records, digest, bytes) = sample();
        assert_eq!(decode(bytes.clone(), &digest, 7), Some(records));
        let other = decode(bytes.clone(), &digest, 8).unwrap();
        assert!(other.iter().all(|record| record.suite == 8));
        assert_eq!(decode(bytes, &Digest::of(b"another index"), 7), None);
        let empty = index::read(&b""[..], 0).unwrap();
        assert_eq!(decode(encode(&empty, &digest), &digest, 0), Some(empty));
    }

    /// Fails when the format or what is taken of an index changes: then VERSION has to change, too.
    #[test]
    fn the_bytes_of_this_version_are_known() {
        let (_, _, bytes) = sample();
        assert_eq!(
            Digest::of(&bytes).to_string(),
            "1b363b07bf63332abd4665add876ee2284c2f072199c3c08df8118a9e19eaaa5"
        );
    }

    #[test]
    fn cut_and_flipped_bytes_are_refused() {
        let (_, digest, bytes) = sample();
        for length in 0..bytes.len() {
            assert_eq!(decode(bytes[..length].to_vec(), &digest, 7), None);
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(flipped, &digest, 7), None, "bit {bit}");
        }
    }

    /// Whoever can make checksums gets wrong packages at worst, never a panic.
    #[test]
    fn odd_bytes_with_a_good_checksum_do_no_harm() {
        let (records, digest, bytes) = sample();
        let mut accepted = 0;
        for place in 0..bytes.len() - CHECKSUM {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut odd = bytes.clone();
                odd[place] = value;
                if let Some(read) = decode(sealed(odd), &digest, 7) {
                    assert_eq!(read.len(), records.len());
                    accepted += read.iter().map(|record| record.name.len()).sum::<usize>();
                }
            }
        }
        assert!(accepted > 0);
        // A bound inside of a character, one past the end, and bounds in the wrong order.
        let first = HEADER + 4;
        for bound in [u32::MAX, 10_000] {
            let mut odd = bytes.clone();
            odd[first..first + 4].copy_from_slice(&bound.to_le_bytes());
            assert_eq!(decode(sealed(odd), &digest, 7), None);
        }
        let mut long = bytes.clone();
        long[HEADER - 8..HEADER].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(decode(sealed(long), &digest, 7), None);
        let mut many = bytes;
        many[HEADER - 16..HEADER - 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(decode(sealed(many), &digest, 7), None);
    }
}
