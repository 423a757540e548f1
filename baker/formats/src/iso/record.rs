//! Directory records, and numbers in both byte orders.

use baker_model::plan::Day;

/// A number little-endian, then big-endian.
pub(super) trait Both {
    fn both(self) -> Vec<u8>;
}

impl Both for u16 {
    fn both(self) -> Vec<u8> {
        [self.to_le_bytes(), self.to_be_bytes()].concat()
    }
}

impl Both for u32 {
    fn both(self) -> Vec<u8> {
        [self.to_le_bytes(), self.to_be_bytes()].concat()
    }
}

/// ECMA-119 section 9.1.6: bit of the flags for a directory.
const DIRECTORY: u8 = 2;

/// The record of a directory; the names 0 and 1 are it itself and its parent.
pub(super) fn directory_record(name: &[u8], sector: u32, size: u32, time: i64) -> Vec<u8> {
    record(name, sector, size, time, DIRECTORY)
}

/// The record of a file.
pub(super) fn file_record(name: &[u8], sector: u32, size: u32, time: i64) -> Vec<u8> {
    record(name, sector, size, time, 0)
}

/// ECMA-119 section 9.1.
fn record(name: &[u8], sector: u32, size: u32, time: i64, flags: u8) -> Vec<u8> {
    // Its length, put in at the end; no extended attributes.
    let mut bytes = vec![0, 0];
    bytes.extend(sector.both());
    bytes.extend(size.both());
    bytes.extend(short_time(time));
    // No interleaving; on the first volume.
    bytes.extend([flags, 0, 0]);
    bytes.extend(1_u16.both());
    bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    bytes.extend(name);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    // Names have at most 14 bytes here.
    bytes[0] = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    bytes
}

/// ECMA-119 section 9.1.5: years since 1900 in a byte, UTC.
fn short_time(seconds: i64) -> [u8; 7] {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let day = Day::of_unix(seconds).to_string();
    let mut parts = day.split('-').map(|part| part.parse().unwrap_or(0_u64));
    let mut next = || parts.next().unwrap_or(0);
    let (year, month, day) = (next().saturating_sub(1900), next(), next());
    let rest = [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60, 0];
    let mut bytes = [0; 7];
    let numbers = [year, month, day].into_iter().chain(rest);
    for (place, number) in bytes.iter_mut().zip(numbers) {
        *place = u8::try_from(number).unwrap_or(u8::MAX);
    }
    bytes
}
