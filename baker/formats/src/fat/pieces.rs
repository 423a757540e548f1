//! A volume as a list of ranges: which byte is what, and of which file.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use crate::io::Source;

/// Bytes of a directory entry.
const ENTRY: u64 = 32;

/// The most bytes of one allocation table that are read; real ESPs have some 100 KiB.
const TABLE_LIMIT: u64 = 64 << 20;

/// The most bytes of one directory that are read.
const DIRECTORY_LIMIT: u64 = 4 << 20;

/// What a range of a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Fields of the boot sector that say where things lie, and its signature.
    BootSector,
    /// Fields of the boot sector that are for people and for BIOSes: names, serial number, drive
    /// geometry, boot code.
    BootNotes,
    /// The FSInfo sector: hints about free clusters.
    Information,
    /// The copy of the boot sector and of what follows it.
    BackupBoot,
    /// Reserved sectors without a use.
    Reserved,
    /// Entries of an allocation table for clusters in use; the tables count from 0.
    Table(u8),
    /// Entries of an allocation table for free clusters, and those behind the last cluster.
    FreeTable(u8),
    /// Entries of a directory: the name of a file or folder, its size and first cluster.
    Entry,
    /// Times in such an entry; the label, and the entries `.` and `..`, which no path names.
    EntryNotes,
    /// Free entries of a directory.
    FreeEntries,
    /// Content of a file; the number is the first byte of the range in the file.
    File(u64),
    /// Bytes of a file's last cluster behind its end.
    FileSlack,
    /// Clusters that belong to nothing.
    FreeClusters,
    /// Sectors behind the last cluster.
    Tail,
}

/// A range of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the volume.
    pub range: Range<u64>,
    /// What they are.
    pub part: Part,
    /// The path that they belong to, with leading slash; the folder's for free entries.
    pub path: Option<String>,
}

/// The bytes are no FAT16 or FAT32 volume whose parts can be told.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The bytes cannot be read.
    #[error("cannot read the FAT volume at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bytes contradict themselves.
    #[error("this is no sound FAT volume: {problem} (byte {offset})")]
    Format {
        /// Where.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Every byte of the volume of `size` bytes: pieces in order, without gap or overlap.
///
/// # Errors
/// The volume cannot be read, or is no sound FAT16 or FAT32 volume.
pub fn pieces(source: &dyn Source, size: u64) -> Result<Vec<Piece>, MapError> {
    let geometry = Geometry::read(source, size)?;
    let mut map = Map {
        source,
        table: geometry.table(source)?,
        used: BTreeSet::from([0, 1]),
        geometry,
        pieces: Vec::new(),
    };
    map.reserved();
    map.walk()?;
    map.tables();
    map.rest(size);
    map.pieces.sort_by_key(|piece| piece.range.start);
    Ok(map.pieces)
}

/// Where things lie.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    fat32: bool,
    sector: u64,
    cluster: u64,
    tables: u64,
    copies: u8,
    table_size: u64,
    root: u64,
    root_size: u64,
    root_cluster: u32,
    data: u64,
    clusters: u32,
    information: Option<u64>,
    backup: Option<u64>,
}

impl Geometry {
    fn read(source: &dyn Source, size: u64) -> Result<Self, MapError> {
        let mut boot = [0; 512];
        read(source, 0, &mut boot)?;
        let damaged = |offset, problem| Err(MapError::Format { offset, problem });
        let u16_at = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let u32_at =
            |at: usize| u32::from_le_bytes([boot[at], boot[at + 1], boot[at + 2], boot[at + 3]]);
        if boot[510..] != [0x55, 0xaa] {
            return damaged(510, "its boot sector has no signature");
        }
        let (sector, per_cluster) = (u16_at(11), u64::from(boot[13]));
        if !sector.is_power_of_two() || !(512..=4096).contains(&sector) {
            return damaged(11, "bytes per sector");
        }
        if !per_cluster.is_power_of_two() {
            return damaged(13, "sectors per cluster");
        }
        let fat32 = u16_at(22) == 0;
        let table_size = if fat32 {
            u64::from(u32_at(36))
        } else {
            u16_at(22)
        } * sector;
        let (tables, copies) = (u16_at(14) * sector, boot[16]);
        let root = tables + u64::from(copies) * table_size;
        let root_size = (u16_at(17) * ENTRY).next_multiple_of(sector);
        let data = root + root_size;
        let sectors = match u16_at(19) {
            0 => u64::from(u32_at(32)),
            small => small,
        };
        let end = sectors * sector;
        if tables < 512 || copies == 0 || end > size || data > end {
            return damaged(14, "its tables do not fit into it");
        }
        let cluster = per_cluster * sector;
        let clusters = u32::try_from((end - data) / cluster).unwrap_or(u32::MAX);
        let width = if fat32 { 4 } else { 2 };
        if clusters < 4085 || table_size > TABLE_LIMIT {
            return damaged(13, "it has fewer clusters than FAT16, or too large a table");
        }
        if table_size / width < u64::from(clusters) + 2 {
            return damaged(22, "its table is shorter than its clusters");
        }
        let place = |at: usize| {
            let place = u16_at(at) * sector;
            (fat32 && place > 0 && place < tables).then_some(place)
        };
        Ok(Self {
            fat32,
            sector,
            cluster,
            tables,
            copies,
            table_size,
            root,
            root_size,
            root_cluster: if fat32 { u32_at(44) } else { 0 },
            data,
            clusters,
            information: place(48),
            backup: place(50),
        })
    }

    /// The first allocation table, an entry per cluster.
    fn table(&self, source: &dyn Source) -> Result<Vec<u32>, MapError> {
        let width = if self.fat32 { 4 } else { 2 };
        let entries = usize::try_from(self.clusters).unwrap_or(usize::MAX - 2) + 2;
        let mut bytes = vec![0; entries * width];
        read(source, self.tables, &mut bytes)?;
        let entry = |entry: &[u8]| match entry {
            [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]) & 0x0fff_ffff,
            [a, b] => u32::from(u16::from_le_bytes([*a, *b])),
            _ => 0,
        };
        Ok(bytes.chunks_exact(width).map(entry).collect())
    }

    fn offset(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster.saturating_sub(2)) * self.cluster
    }
}

struct Map<'a> {
    source: &'a dyn Source,
    geometry: Geometry,
    table: Vec<u32>,
    /// Clusters that belong to something.
    used: BTreeSet<u32>,
    pieces: Vec<Piece>,
}

impl Map<'_> {
    /// Adds a range; joins it with the one before when both are the same.
    fn add(&mut self, range: Range<u64>, part: Part, path: Option<&str>) {
        if range.is_empty() {
            return;
        }
        if let Some(last) = self.pieces.last_mut()
            && last.range.end == range.start
            && last.path.as_deref() == path
        {
            let follows = match (last.part, part) {
                (Part::File(from), Part::File(at)) => {
                    at == from + (last.range.end - last.range.start)
                }
                (last, part) => last == part,
            };
            if follows {
                last.range.end = range.end;
                return;
            }
        }
        self.pieces.push(Piece {
            range,
            part,
            path: path.map(str::to_owned),
        });
    }

    /// Boot sector and what else lies in front of the tables.
    fn reserved(&mut self) {
        let geometry = self.geometry;
        // Fields by offset: fatgen103, "Boot Sector and BPB".
        let fields: &[(u64, Part)] = if geometry.fat32 {
            &[
                (0, Part::BootNotes),   // jump, OEM name
                (11, Part::BootSector), // sizes and counts
                (24, Part::BootNotes),  // drive geometry, hidden sectors
                (32, Part::BootSector), // sizes, root cluster, FSInfo, backup
                (52, Part::BootNotes),  // reserved, drive, serial, names, boot code
                (510, Part::BootSector),
            ]
        } else {
            &[
                (0, Part::BootNotes),
                (11, Part::BootSector),
                (24, Part::BootNotes),
                (32, Part::BootSector),
                (36, Part::BootNotes),
                (510, Part::BootSector),
            ]
        };
        let ends = fields.iter().skip(1).map(|(at, _)| *at).chain([512]);
        for ((start, part), end) in fields.iter().zip(ends) {
            self.add(*start..end, *part, None);
        }
        self.add(512..geometry.sector, Part::Reserved, None);
        let sector = |place: Option<u64>, part| place.map(|at| (at, geometry.sector, part));
        let mut known: Vec<_> = [
            sector(geometry.information, Part::Information),
            // The copy has its FSInfo behind it.
            geometry
                .backup
                .map(|at| (at, 2 * geometry.sector, Part::BackupBoot)),
        ]
        .into_iter()
        .flatten()
        .collect();
        known.sort_unstable_by_key(|(at, ..)| *at);
        let mut at = geometry.sector;
        for (start, length, part) in known {
            let end = (start + length).min(geometry.tables);
            if start >= at {
                self.add(at..start, Part::Reserved, None);
                self.add(start..end, part, None);
                at = end;
            }
        }
        self.add(at..geometry.tables, Part::Reserved, None);
    }

    /// All directories and files.
    fn walk(&mut self) -> Result<(), MapError> {
        let root = if self.geometry.fat32 {
            let root = self.geometry.root_cluster;
            self.chain(root, DIRECTORY_LIMIT)?
        } else {
            let (at, size) = (self.geometry.root, self.geometry.root_size);
            std::iter::once(at..at + size).collect()
        };
        let mut todo = vec![(String::new(), root)];
        while let Some((folder, extents)) = todo.pop() {
            for child in self.directory(&folder, &extents)? {
                if child.folder {
                    let extents = self.chain(child.cluster, DIRECTORY_LIMIT)?;
                    todo.push((child.path, extents));
                } else if child.size > 0 {
                    self.file(&child)?;
                }
            }
        }
        Ok(())
    }

    /// The clusters from `first` on as ranges; each cluster can belong to one chain only.
    fn chain(&mut self, first: u32, limit: u64) -> Result<Vec<Range<u64>>, MapError> {
        let mut extents: Vec<Range<u64>> = Vec::new();
        let (mut cluster, mut size) = (first, 0);
        let end = if self.geometry.fat32 {
            0x0fff_fff8
        } else {
            0xfff8
        };
        while cluster < end {
            let offset = self.geometry.offset(cluster);
            let next = self.table.get(cluster as usize).copied();
            size += self.geometry.cluster;
            let (Some(next), true) = (next, self.used.insert(cluster) && size <= limit) else {
                let problem = "a chain of clusters leads astray";
                return Err(MapError::Format { offset, problem });
            };
            match extents.last_mut() {
                Some(last) if last.end == offset => last.end += self.geometry.cluster,
                _ => extents.push(offset..offset + self.geometry.cluster),
            }
            cluster = next;
        }
        Ok(extents)
    }

    fn file(&mut self, file: &Child) -> Result<(), MapError> {
        let limit = file.size.next_multiple_of(self.geometry.cluster);
        let mut at = 0;
        for extent in self.chain(file.cluster, limit)? {
            let length = (extent.end - extent.start).min(file.size - at);
            let middle = extent.start + length;
            self.add(extent.start..middle, Part::File(at), Some(&file.path));
            self.add(middle..extent.end, Part::FileSlack, Some(&file.path));
            at += length;
        }
        if at < file.size {
            let problem = "a file is longer than its clusters";
            let offset = self.geometry.offset(file.cluster);
            return Err(MapError::Format { offset, problem });
        }
        Ok(())
    }

    /// Adds the entries of one directory; gives what they name.
    fn directory(&mut self, folder: &str, extents: &[Range<u64>]) -> Result<Vec<Child>, MapError> {
        let mut children = Vec::new();
        // Slots of a long name, which belong to the entry behind them.
        let (mut long, mut slots) = (Vec::new(), Vec::new());
        let mut ended = false;
        for extent in extents {
            for at in (extent.start..extent.end).step_by(32) {
                let mut entry = [0; 32];
                read(self.source, at, &mut entry)?;
                ended |= entry[0] == 0;
                let range = at..at + ENTRY;
                if ended || entry[0] == 0xe5 {
                    let path = if folder.is_empty() { "/" } else { folder };
                    self.add(range, Part::FreeEntries, Some(path));
                    continue;
                }
                slots.push(range);
                if entry[11] & 0x3f == 0x0f {
                    long.push(long_name(&entry));
                    continue;
                }
                long.reverse();
                let child = Child::read(folder, &entry, &long.concat());
                long.clear();
                let short = slots.pop();
                for slot in slots.drain(..) {
                    self.add(slot, Part::Entry, Some(&child.path));
                }
                if let Some(slot) = short {
                    self.short_entry(slot.start, &child);
                }
                if child.leads_on {
                    children.push(child);
                }
            }
        }
        for slot in slots {
            self.add(slot, Part::FreeEntries, Some(folder));
        }
        Ok(children)
    }

    /// The entry proper; fields by offset: fatgen103, "FAT 32 Byte Directory Entry Structure".
    fn short_entry(&mut self, at: u64, child: &Child) {
        let path = Some(child.path.as_str());
        if !child.leads_on {
            self.add(at..at + ENTRY, Part::EntryNotes, path);
            return;
        }
        let fields = [
            (0, Part::Entry),       // name, attributes
            (12, Part::EntryNotes), // reserved, creation, last access
            (20, Part::Entry),      // cluster, high half
            (22, Part::EntryNotes), // last change
            (26, Part::Entry),      // cluster, low half; size
        ];
        let ends = fields
            .iter()
            .skip(1)
            .map(|(start, _)| *start)
            .chain([ENTRY]);
        for ((start, part), end) in fields.iter().zip(ends) {
            self.add(at + start..at + end, *part, path);
        }
    }

    /// The allocation tables, by what their entries are about.
    fn tables(&mut self) {
        let geometry = self.geometry;
        let width = if geometry.fat32 { 4 } else { 2 };
        for copy in 0..geometry.copies {
            let start = geometry.tables + u64::from(copy) * geometry.table_size;
            for cluster in 0..geometry.clusters + 2 {
                let at = start + u64::from(cluster) * width;
                let part = match self.used.contains(&cluster) {
                    true => Part::Table(copy),
                    false => Part::FreeTable(copy),
                };
                self.add(at..at + width, part, None);
            }
            let end = start + u64::from(geometry.clusters + 2) * width;
            let rest = end..start + geometry.table_size;
            self.add(rest, Part::FreeTable(copy), None);
        }
    }

    /// What belongs to nothing.
    fn rest(&mut self, size: u64) {
        let geometry = self.geometry;
        for cluster in 2..geometry.clusters + 2 {
            if !self.used.contains(&cluster) {
                let at = geometry.offset(cluster);
                self.add(at..at + geometry.cluster, Part::FreeClusters, None);
            }
        }
        let end = geometry.data + u64::from(geometry.clusters) * geometry.cluster;
        self.add(end..size, Part::Tail, None);
    }
}

/// What an entry of a directory names.
struct Child {
    path: String,
    folder: bool,
    cluster: u32,
    size: u64,
    /// False for `.`, `..` and the label.
    leads_on: bool,
}

impl Child {
    fn read(folder: &str, entry: &[u8; 32], long: &str) -> Self {
        let label = entry[11] & 0x08 != 0;
        let trimmed = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let (stem, extension) = (trimmed(&entry[..8]), trimmed(&entry[8..11]));
        let short = match extension.is_empty() {
            true => stem,
            false if label => stem + &extension,
            false => format!("{stem}.{extension}"),
        };
        let name = if long.is_empty() { &short } else { long };
        Self {
            path: format!("{folder}/{name}"),
            folder: entry[11] & 0x10 != 0,
            cluster: u32::from_le_bytes([entry[26], entry[27], entry[20], entry[21]]),
            size: u64::from(u32::from_le_bytes([
                entry[28], entry[29], entry[30], entry[31],
            ])),
            leads_on: !label && entry[0] != b'.',
        }
    }
}

/// The characters of one slot of a long name.
fn long_name(slot: &[u8; 32]) -> String {
    let units = [&slot[1..11], &slot[14..26], &slot[28..32]].concat();
    let units = units
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| !matches!(unit, 0 | 0xffff));
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

fn read(source: &dyn Source, offset: u64, buffer: &mut [u8]) -> Result<(), MapError> {
    source
        .read_exact_at(offset, buffer)
        .map_err(|source| MapError::Read { offset, source })
}
