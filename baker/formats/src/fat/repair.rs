//! What `fatfs` 0.3.6 leaves wrong or unset on a volume that it has just written.
//!
//! * `.` and `..` get long-name slots, and `..` of a folder in the root names the root's cluster;
//!   the specification wants plain slots and 0 there, and `fsck.fat` calls the folders damaged.
//!   Mended upstream, but never released.
//! * The count of hidden sectors cannot be given; the copies of boot and information sector are
//!   old.
//! * Times come from a provider that must live for ever; here all entries get the same time.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::{SECTOR, Volume};

/// Bytes of a directory entry.
const ENTRY: usize = 32;

/// Attribute bits of a slot that holds a part of a long name.
const LONG_NAME: u8 = 0x0f;

/// Attribute bit of a directory.
const DIRECTORY: u8 = 0x10;

/// First byte of an entry that is free.
const FREE: u8 = 0xe5;

const DOT: &[u8; 11] = b".          ";
const DOT_DOT: &[u8; 11] = b"..         ";

/// Time of entries until the repair pass sets it.
#[derive(Debug)]
pub(super) struct NoTime;

/// The one value of [`NoTime`].
pub(super) static NO_TIME: NoTime = NoTime;

impl fatfs::TimeProvider for NoTime {
    fn get_current_date(&self) -> fatfs::Date {
        fatfs::Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> fatfs::DateTime {
        let time = fatfs::Time {
            hour: 0,
            min: 0,
            sec: 0,
            millis: 0,
        };
        fatfs::DateTime {
            date: self.get_current_date(),
            time,
        }
    }
}

/// Sets all of the above right.
pub(super) fn repair<D: Read + Write + Seek>(disk: &mut D, volume: &Volume<'_>) -> io::Result<()> {
    let mut boot = [0; 512];
    read_at(disk, 0, &mut boot)?;
    // The offset was checked to fit.
    let hidden = u32::try_from(volume.offset / SECTOR).map_err(io::Error::other)?;
    boot[28..32].copy_from_slice(&hidden.to_le_bytes());
    write_at(disk, 0, &boot)?;
    let geometry = Geometry::read(&boot);
    if geometry.fat32 {
        let mut information = [0; 512];
        read_at(disk, SECTOR, &mut information)?;
        write_at(disk, 6 * SECTOR, &boot)?;
        write_at(disk, 7 * SECTOR, &information)?;
    }
    Walk {
        disk,
        geometry,
        stamp: dos_time(volume.time),
    }
    .all()
}

/// Where things lie on the volume.
struct Geometry {
    fat32: bool,
    cluster: u64,
    fat: u64,
    root: u64,
    root_size: u64,
    root_cluster: u32,
    data: u64,
}

impl Geometry {
    fn read(boot: &[u8; 512]) -> Self {
        let u16_at = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let u32_at =
            |at: usize| u32::from_le_bytes([boot[at], boot[at + 1], boot[at + 2], boot[at + 3]]);
        let fat32 = u16_at(22) == 0;
        let table = if fat32 {
            u64::from(u32_at(36))
        } else {
            u16_at(22)
        } * SECTOR;
        let fat = u16_at(14) * SECTOR;
        let root = fat + u64::from(boot[16]) * table;
        let root_size = u16_at(17) * ENTRY as u64;
        Self {
            fat32,
            cluster: u64::from(boot[13]) * SECTOR,
            fat,
            root,
            root_size,
            root_cluster: if fat32 { u32_at(44) } else { 0 },
            data: root + root_size,
        }
    }

    fn offset(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster.saturating_sub(2)) * self.cluster
    }
}

/// A pass over all directories.
struct Walk<'a, D> {
    disk: &'a mut D,
    geometry: Geometry,
    stamp: (u16, u16),
}

impl<D: Read + Write + Seek> Walk<'_, D> {
    fn all(&mut self) -> io::Result<()> {
        // First cluster of a directory, 0 for the fixed root of FAT16; and its parent's.
        let mut open = vec![(self.geometry.root_cluster, None)];
        while let Some((first, parent)) = open.pop() {
            for (index, (offset, size)) in self.extents(first)?.into_iter().enumerate() {
                let length = usize::try_from(size).map_err(io::Error::other)?;
                let mut bytes = vec![0; length];
                read_at(self.disk, offset, &mut bytes)?;
                if let (0, Some(parent)) = (index, parent) {
                    mend_dots(&mut bytes, parent == self.geometry.root_cluster);
                }
                open.extend(
                    self.stamp(&mut bytes)
                        .into_iter()
                        .map(|child| (child, Some(first))),
                );
                write_at(self.disk, offset, &bytes)?;
            }
        }
        Ok(())
    }

    /// Sets the times of all entries; gives the first clusters of directories among them.
    fn stamp(&self, bytes: &mut [u8]) -> Vec<u32> {
        let mut children = Vec::new();
        let (date, time) = self.stamp;
        for entry in bytes.chunks_exact_mut(ENTRY) {
            if entry[0] == 0 {
                break;
            }
            if entry[0] == FREE || entry[11] & LONG_NAME == LONG_NAME {
                continue;
            }
            entry[13] = 0; // tenths of the creation time
            for (at, value) in [(14, time), (16, date), (18, date), (22, time), (24, date)] {
                entry[at..at + 2].copy_from_slice(&value.to_le_bytes());
            }
            if entry[11] & DIRECTORY != 0 && entry[0] != b'.' {
                children.push(u32::from_le_bytes([
                    entry[26], entry[27], entry[20], entry[21],
                ]));
            }
        }
        children
    }

    /// Offset and size of the pieces of a directory.
    fn extents(&mut self, first: u32) -> io::Result<Vec<(u64, u64)>> {
        if first == 0 {
            return Ok(vec![(self.geometry.root, self.geometry.root_size)]);
        }
        let mut extents = Vec::new();
        let mut cluster = first;
        let end = if self.geometry.fat32 {
            0x0fff_fff8
        } else {
            0xfff8
        };
        while (2..end).contains(&cluster) {
            extents.push((self.geometry.offset(cluster), self.geometry.cluster));
            let mut entry = [0; 4];
            let width = if self.geometry.fat32 { 4 } else { 2 };
            let offset = self.geometry.fat + u64::from(cluster) * width as u64;
            read_at(self.disk, offset, &mut entry[..width])?;
            cluster = u32::from_le_bytes(entry) & 0x0fff_ffff;
        }
        Ok(extents)
    }
}

/// The beginning of a directory as the specification wants it.
fn mend_dots(bytes: &mut [u8], in_root: bool) {
    let Some((slots, _)) = bytes.split_first_chunk_mut::<{ 4 * ENTRY }>() else {
        return;
    };
    let [first, second] = [ENTRY, 3 * ENTRY].map(|at| &slots[at..at + 11]);
    if slots[11] == LONG_NAME && first == DOT && second == DOT_DOT {
        slots.copy_within(ENTRY..2 * ENTRY, 0);
        slots.copy_within(3 * ENTRY.., ENTRY);
        slots[2 * ENTRY..].fill(0);
        slots[2 * ENTRY] = FREE;
        slots[3 * ENTRY] = FREE;
    }
    if in_root && &slots[ENTRY..ENTRY + 11] == DOT_DOT {
        slots[ENTRY + 20..ENTRY + 22].fill(0);
        slots[ENTRY + 26..ENTRY + 28].fill(0);
    }
}

/// Date and time in the words of FAT, which counts from 1980 in steps of two seconds.
fn dos_time(epoch: i64) -> (u16, u16) {
    const FIRST: i64 = 315_532_800; // 1980-01-01
    const LAST: i64 = 4_354_819_198; // 2107-12-31 23:59:58
    let epoch = epoch.clamp(FIRST, LAST);
    let (days, seconds) = (epoch / 86_400, epoch % 86_400);
    // Days to civil date by the cycle of 400 years of 146 097 days that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let date = ((year - 1980) << 9) | (month << 5) | day;
    let time = ((seconds / 3600) << 11) | ((seconds / 60 % 60) << 5) | (seconds % 60 / 2);
    // Both have 16 bits by the clamp above.
    (
        u16::try_from(date).unwrap_or(u16::MAX),
        u16::try_from(time).unwrap_or(u16::MAX),
    )
}

fn read_at(disk: &mut (impl Read + Seek), offset: u64, bytes: &mut [u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(offset))?;
    disk.read_exact(bytes)
}

fn write_at(disk: &mut (impl Write + Seek), offset: u64, bytes: &[u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(offset))?;
    disk.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let rows = [
            (0, (1980, 1, 1), (0, 0, 0)),
            (951_868_799, (2000, 2, 29), (23, 59, 58)),
            (1_763_769_600, (2025, 11, 22), (0, 0, 0)),
            (4_107_542_399, (2100, 2, 28), (23, 59, 58)),
            (i64::MAX, (2107, 12, 31), (23, 59, 58)),
        ];
        for (epoch, (year, month, day), (hour, minute, second)) in rows {
            let date = ((year - 1980) << 9) | (month << 5) | day;
            let time = (hour << 11) | (minute << 5) | (second / 2);
            assert_eq!(dos_time(epoch), (date, time), "{epoch}");
        }
    }
}
