//! FAT volumes, as EFI system partitions need them.
//!
//! Takes a range of a new, sparse output and a list of files; gives a volume that `fsck.fat`
//! finds nothing wrong with. Reads names and files of a volume back. Files are streamed; memory is a cache of 8 MiB. Never reads a clock;
//! ids and times are given.
//!
//! The `fatfs` crate does the bytes, behind a cache, and its types stop in this module. What its
//! release 0.3.6 gets wrong or leaves out is set right afterwards, see `repair`.
//!
//! After Microsoft's "FAT General Overview of On-Disk Format" (fatgen103) and UEFI section 13.3.

mod pieces;
mod read;
mod repair;

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, Write};

use crate::io::Paged;

pub use pieces::{MapError, Part, Piece, pieces};
pub use read::{Found, copy, list, read};

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// A volume of at least this many bytes is FAT32: 65 525 clusters of one sector and their tables.
const FAT32_MINIMUM: u64 = 33 << 20;

/// Smaller volumes would have to be FAT12.
const MINIMUM: u64 = 8 << 20;

/// Bytes in front of and behind the file data that [`volume_size`] leaves for reserved sectors,
/// directories and partly used clusters.
const OVERHEAD: u64 = 1 << 20;

/// A volume cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FatError {
    /// The size or place of the volume is impossible.
    #[error("a FAT volume cannot have {size} bytes at offset {offset}: {problem}")]
    Size {
        /// Bytes asked for.
        size: u64,
        /// Where it was to lie.
        offset: u64,
        /// Why not.
        problem: &'static str,
    },
    /// The label is not 1 to 11 upper-case ASCII letters, digits, `-` or `_`.
    #[error("`{label}` cannot be a FAT label: 1 to 11 of A-Z, 0-9, - and _")]
    Label {
        /// The refused label.
        label: String,
    },
    /// A path cannot be on a FAT volume, or is there twice.
    #[error("`{path}` cannot be on a FAT volume: {problem}")]
    Path {
        /// The refused path.
        path: String,
        /// Why not.
        problem: &'static str,
    },
    /// The files do not fit.
    #[error("the FAT volume has room for {room} bytes, the files need {needed}")]
    Full {
        /// Bytes of all clusters.
        room: u64,
        /// Bytes of the clusters needed.
        needed: u64,
    },
    /// A file's bytes could not be read or written.
    #[error("cannot put `{path}` on the FAT volume")]
    File {
        /// Its path.
        path: String,
        /// What the system said; `UnexpectedEof` when the file ends early.
        #[source]
        source: io::Error,
    },
    /// The volume itself could not be written.
    #[error("cannot write the FAT volume")]
    Write(#[source] io::Error),
    /// There is no sound volume, or it could not be read.
    #[error("cannot read the FAT volume")]
    Read(#[source] io::Error),
    /// A file of the volume could not be read.
    #[error("cannot read `{path}` from the FAT volume")]
    ReadFile {
        /// Its path.
        path: String,
        /// What the system said; `NotFound` when it is not there.
        #[source]
        source: io::Error,
    },
}

/// What decides the volume beside its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume<'a> {
    /// Where it begins on the disk; a multiple of 512, and also its count of hidden sectors.
    pub offset: u64,
    /// Its bytes; a multiple of 512. From 33 MiB on it is FAT32, below that FAT16.
    pub size: u64,
    /// Serial number.
    pub id: u32,
    /// Label: 1 to 11 of `A-Z 0-9 - _`.
    pub label: &'a str,
    /// Seconds since 1970-01-01 UTC that all entries show; held inside 1980 to 2107.
    pub time: i64,
}

/// A file to put on the volume; its folders come into being with it.
pub struct File<'a> {
    /// Path with `/`, without a leading one.
    pub path: &'a str,
    /// Number of bytes, less than 4 GiB.
    pub size: u64,
    /// Where they come from; more bytes than `size` are left unread.
    pub data: &'a mut dyn Read,
}

/// Makes a volume at `volume.offset` of `out`, with the files in the order given; gives the
/// number of bytes really written.
///
/// **The range of `out` must read as zeros**, as that of a new file does: zeros are not written.
///
/// # Errors
/// See [`FatError`].
pub fn write(
    out: &mut (impl Read + Write + Seek),
    volume: &Volume<'_>,
    files: &mut [File<'_>],
) -> Result<u64, FatError> {
    let cluster = check(volume)?;
    check_paths(files)?;
    let mut disk = Paged::new(out, volume.offset, volume.size);
    let width = if volume.size < FAT32_MINIMUM {
        fatfs::FatType::Fat16
    } else {
        fatfs::FatType::Fat32
    };
    let options = fatfs::FormatVolumeOptions::new()
        .fat_type(width)
        .bytes_per_cluster(cluster)
        .volume_id(volume.id)
        .volume_label(padded(volume.label));
    fatfs::format_volume(&mut disk, options).map_err(FatError::Write)?;
    fill(&mut disk, files)?;
    repair::repair(&mut disk, volume).map_err(FatError::Write)?;
    disk.finish().map_err(FatError::Write)
}

/// A size, in whole MiB, of a volume with room for files of these sizes; at least 34 MiB, so that
/// it is FAT32 as UEFI prefers it.
#[must_use]
pub fn volume_size(files: impl IntoIterator<Item = u64>) -> u64 {
    let files: u64 = files
        .into_iter()
        .map(|size| size.next_multiple_of(4096))
        .sum();
    // Two tables of four bytes per cluster of 512 take 1/64 of the data.
    let size = files + files / 64 + OVERHEAD;
    size.max(34 << 20).next_multiple_of(1 << 20)
}

/// Checks the volume and chooses its bytes per cluster: as large as the width of the table
/// allows, which keeps tables small and reading fast, up to 4 KiB.
fn check(volume: &Volume<'_>) -> Result<u32, FatError> {
    let Volume {
        offset,
        size,
        label,
        ..
    } = *volume;
    let refuse = |problem| {
        Err(FatError::Size {
            size,
            offset,
            problem,
        })
    };
    if !size.is_multiple_of(SECTOR) || !offset.is_multiple_of(SECTOR) {
        return refuse("it must lie on sectors");
    }
    if size < MINIMUM {
        return refuse("the least is 8 MiB");
    }
    // 2^28 clusters of 4 KiB would be more, but the sectors are counted in 32 bits.
    if size / SECTOR > u64::from(u32::MAX) || offset / SECTOR > u64::from(u32::MAX) {
        return refuse("sectors are counted in 32 bits");
    }
    let allowed = |byte: u8| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    if label.is_empty() || label.len() > 11 || !label.bytes().all(allowed) {
        return Err(FatError::Label {
            label: label.to_owned(),
        });
    }
    if size < FAT32_MINIMUM {
        return Ok(if size < 16 << 20 { 1024 } else { 2048 });
    }
    // Well over the 65 525 clusters that make a volume FAT32, so that its tables may take their
    // share.
    let fits = |cluster: &u32| size / u64::from(*cluster) >= 67_000;
    Ok([4096, 2048, 1024].into_iter().find(fits).unwrap_or(512))
}

fn check_paths(files: &[File<'_>]) -> Result<(), FatError> {
    let mut seen = BTreeSet::new();
    for file in files {
        let refuse = |problem| {
            Err(FatError::Path {
                path: file.path.to_owned(),
                problem,
            })
        };
        for name in file.path.split('/') {
            if name.is_empty() || name.len() > 255 || name.ends_with(['.', ' ']) {
                return refuse("a name is empty, too long, or ends in a dot or blank");
            }
            let plain = |c: char| c.is_ascii_graphic() || c == ' ';
            if !name.chars().all(|c| plain(c) && !"\"*:<>?\\|".contains(c)) {
                return refuse("a name has characters other than plain ASCII ones");
            }
        }
        // Names differ in more than case.
        if !seen.insert(file.path.to_ascii_lowercase()) {
            return refuse("it is there twice");
        }
        if file.size > u64::from(u32::MAX) {
            return refuse("it has 4 GiB or more");
        }
    }
    Ok(())
}

/// Puts the files on the formatted volume.
fn fill<D: Read + Write + Seek>(disk: &mut D, files: &mut [File<'_>]) -> Result<(), FatError> {
    // The times are set by the repair pass: a provider would have to live for ever.
    let options = fatfs::FsOptions::new().time_provider(&repair::NO_TIME);
    let volume = fatfs::FileSystem::new(disk, options).map_err(FatError::Write)?;
    let stats = volume.stats().map_err(FatError::Write)?;
    let cluster = u64::from(stats.cluster_size());
    let folders = folders(files);
    // A folder of a few entries takes one cluster; the root of FAT32 one more.
    let needed: u64 = files
        .iter()
        .map(|file| file.size.next_multiple_of(cluster))
        .sum();
    let needed = needed + (folders.len() as u64 + 1) * cluster;
    let room = u64::from(stats.free_clusters()) * cluster;
    if needed > room {
        return Err(FatError::Full { room, needed });
    }
    let root = volume.root_dir();
    for folder in folders {
        let failed = |source| FatError::File {
            path: folder.to_owned(),
            source,
        };
        root.create_dir(folder).map_err(failed)?;
    }
    for file in files {
        let failed = |source| FatError::File {
            path: file.path.to_owned(),
            source,
        };
        let mut target = root.create_file(file.path).map_err(failed)?;
        let copied = io::copy(&mut file.data.take(file.size), &mut target).map_err(failed)?;
        if copied != file.size {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        target.flush().map_err(failed)?;
    }
    drop(root);
    volume.unmount().map_err(FatError::Write)
}

/// All folders of the files, parents before what they hold.
fn folders<'a>(files: &[File<'a>]) -> BTreeSet<&'a str> {
    let parents = |path: &'a str| {
        path.match_indices('/')
            .map(move |(index, _)| &path[..index])
    };
    files.iter().flat_map(|file| parents(file.path)).collect()
}

fn padded(label: &str) -> [u8; 11] {
    let mut padded = [b' '; 11];
    padded[..label.len()].copy_from_slice(label.as_bytes());
    padded
}

#[cfg(test)]
mod tests;
