//! Finding the partitions of the root.
//!
//! Kernels before 6.14 do not say partition UUIDs in sysfs or in uevents, and look for no
//! partitions on CDs, so the partition tables of all whole disks are read here. Root and hash tree must lie on one disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baker_contract::ROOT_DEVICE;
use nix::sys::stat::{major, minor};

use crate::dm::{DeviceMapper, Target};
use crate::gpt::{self, Disk, Geometry, Partition};
use crate::sys;

/// Where the kernel lists block devices.
const BLOCK: &str = "/sys/class/block";

/// How often the list is looked at. Cheap: a disk that was read is not read again.
const POLL: Duration = Duration::from_millis(20);

/// Unit of sizes in sysfs, whatever the disk's own sectors.
const SYSFS_SECTOR: u64 = 512;

/// A partition that the kernel knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its node in `/dev`.
    pub node: PathBuf,
    /// `major:minor`.
    pub number: String,
}

/// The two partitions of a verified root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootPartitions {
    /// The file system.
    pub data: Device,
    /// Its hash tree.
    pub tree: Device,
}

impl Disk for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

/// Waits for a disk that holds both partitions. As long as there is none, `more` is asked to bring
/// more disks; the waiting begins when it has no more.
///
/// # Errors
/// None has come before `wait` was over; says what was seen on each disk.
pub fn find(
    ids: ([u8; 16], [u8; 16]),
    wait: Duration,
    mut more: impl FnMut() -> bool,
) -> Result<RootPartitions, String> {
    let mut start = None;
    // What each disk of this name and size has shown; a changed size (a medium put in) is new.
    let mut seen = BTreeMap::new();
    loop {
        for disk in whole_disks() {
            if seen.contains_key(&disk) {
                continue;
            }
            match look(&disk, ids) {
                Ok(found) => return Ok(found),
                Err(problem) => seen.insert(disk, problem),
            };
        }
        if start.is_none() && more() {
            continue;
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= wait {
            return Err(describe(&seen, wait));
        }
        std::thread::sleep(POLL);
    }
}

fn describe(seen: &BTreeMap<WholeDisk, String>, wait: Duration) -> String {
    let mut text = format!(
        "no disk holds the root partitions after {} s",
        wait.as_secs()
    );
    for (disk, problem) in seen {
        text += &format!("; {}: {problem}", disk.name);
    }
    if seen.is_empty() {
        text += "; there is no disk";
    }
    text
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct WholeDisk {
    name: String,
    /// In units of [`SYSFS_SECTOR`].
    size: u64,
}

/// The disks with a medium, sorted by name so that the choice does not depend on luck.
fn whole_disks() -> Vec<WholeDisk> {
    let entries = fs::read_dir(BLOCK).into_iter().flatten().flatten();
    let mut disks: Vec<_> = entries
        .filter_map(|entry| whole_disk(&entry.path()))
        .collect();
    disks.sort();
    disks
}

fn whole_disk(folder: &Path) -> Option<WholeDisk> {
    let name = folder.file_name()?.to_str()?.to_owned();
    let size = number_in(&folder.join("size"))?;
    let made_here = ["dm-", "loop", "ram", "zram"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    (size > 0 && !made_here && !folder.join("partition").exists())
        .then_some(WholeDisk { name, size })
}

fn look(disk: &WholeDisk, ids: ([u8; 16], [u8; 16])) -> Result<RootPartitions, String> {
    let folder = Path::new(BLOCK).join(&disk.name);
    let file = File::open(Path::new("/dev").join(&disk.name))
        .map_err(|error| format!("cannot open: {error}"))?;
    let sector = number_in(&folder.join("queue/logical_block_size")).unwrap_or(SYSFS_SECTOR);
    let partitions = partitions(&file, disk.size, sector)?;
    let by_id = |id| partitions.iter().find(|partition| partition.id == id);
    match (by_id(ids.0), by_id(ids.1)) {
        (Some(data), Some(tree)) => Ok(RootPartitions {
            data: device(&file, disk, data)?,
            tree: device(&file, disk, tree)?,
        }),
        (Some(_), None) => Err("has the root but not its hash tree".into()),
        (None, Some(_)) => Err("has the hash tree but not its root".into()),
        (None, None) => Err(format!(
            "{} partitions, none of this root",
            partitions.len()
        )),
    }
}

/// The table as sectors of the disk have it, or else as those of 512 bytes: a disk image on a CD
/// keeps the table of a disk.
fn partitions(disk: &dyn Disk, size: u64, sector: u64) -> Result<Vec<Partition>, String> {
    let read = |sector: u64| {
        let geometry = Geometry {
            sector: u32::try_from(sector).map_err(|_| format!("sectors of {sector} bytes"))?,
            sectors: size * SYSFS_SECTOR / sector.max(1),
        };
        gpt::read(disk, geometry)
    };
    read(sector).or_else(|problem| match sector {
        SYSFS_SECTOR => Err(problem),
        _ => read(SYSFS_SECTOR).map_err(|other| {
            if problem == other {
                problem
            } else {
                format!("{problem}; with sectors of {SYSFS_SECTOR} bytes: {other}")
            }
        }),
    })
}

/// The kernel's device of a partition. The kernel itself ignores the backup table, so a partition
/// may have to be made known to it; on a CD drive it takes none, so there it is mapped.
fn device(file: &File, disk: &WholeDisk, partition: &Partition) -> Result<Device, String> {
    if let Some(device) = known_device(disk, partition) {
        return Ok(device);
    }
    let number = partition.number;
    let refused = match sys::add_partition(file, number, partition.start, partition.length) {
        Ok(()) => match known_device(disk, partition) {
            Some(device) => return Ok(device),
            None => format!("the kernel does not show partition {number}"),
        },
        Err(error) => format!("cannot add partition {number}: {error}"),
    };
    mapped_device(disk, partition).map_err(|error| format!("{refused}; {error}"))
}

/// The range of a partition as a device of its own.
fn mapped_device(disk: &WholeDisk, partition: &Partition) -> Result<Device, String> {
    let path = Path::new(BLOCK).join(&disk.name).join("dev");
    let whole = fs::read_to_string(&path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let target = Target {
        start: 0,
        length: partition.length / SYSFS_SECTOR,
        kind: "linear".into(),
        parameters: format!("{} {}", whole.trim(), partition.start / SYSFS_SECTOR),
    };
    let name = format!("{ROOT_DEVICE}-part{}", partition.number);
    let device = DeviceMapper::open()
        .and_then(|mapper| mapper.create(&name, &format!("BAKER-{name}"), &target))
        .map_err(|error| format!("cannot map partition {}: {error}", partition.number))?;
    Ok(Device {
        node: PathBuf::from(format!("/dev/dm-{}", minor(device))),
        number: format!("{}:{}", major(device), minor(device)),
    })
}

fn known_device(disk: &WholeDisk, partition: &Partition) -> Option<Device> {
    let folder = fs::read_dir(Path::new(BLOCK).join(&disk.name)).ok()?;
    folder.flatten().map(|entry| entry.path()).find_map(|path| {
        let same = number_in(&path.join("partition")) == Some(partition.number.into())
            && number_in(&path.join("start")) == Some(partition.start / SYSFS_SECTOR)
            && number_in(&path.join("size")) == Some(partition.length / SYSFS_SECTOR);
        let number = fs::read_to_string(path.join("dev")).ok().filter(|_| same)?;
        let node = Path::new("/dev").join(path.file_name()?);
        Some(Device {
            node,
            number: number.trim().to_owned(),
        })
    })
}

fn number_in(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of 512-byte sectors, seen through a drive that has other ones.
    #[test]
    fn a_table_for_small_sectors_is_found_on_a_cd() {
        let (disk, geometry) = gpt::tests::disk(512);
        let expected = gpt::tests::expected(512);
        assert_eq!(
            partitions(&disk, geometry.sectors, 2048),
            Ok(expected.clone())
        );
        assert_eq!(partitions(&disk, geometry.sectors, 512), Ok(expected));
        let (large, _) = gpt::tests::disk(2048);
        let size = 64 * 2048 / SYSFS_SECTOR;
        assert_eq!(
            partitions(&large, size, 2048),
            Ok(gpt::tests::expected(2048))
        );
        assert!(partitions(&large, size, 512).is_err());
    }
}
