//! A disk that is a CD too: ISO 9660 with El Torito in the gap before the first partition.
//!
//! After ECMA-119, the El Torito specification 1.0 and the UEFI specification, chapter 13.3.2.1.
//!
//! ```text
//! 0         protective MBR, GPT          as on the disk: a stick or a hard disk boots by it
//! 32 KiB    primary volume descriptor    sector 16 of 2048 bytes
//!           boot record                  names the catalog
//!           terminator
//!           boot catalog                 UEFI, no emulation: the ESP, where it lies
//!           path tables, both orders
//!           root directory               partitions as files
//! 1 MiB     partitions                   as on the disk
//! ```
//!
//! Takes the places of the partitions; gives the bytes for the gap. Every other byte is the
//! disk's, so the same partitions, and the same root hash, are found either way. The system of a
//! CD reads the partition table itself: kernels look for none on CD drives.

mod record;

use baker_model::plan::Day;

use record::{Both, directory_record};

/// Bytes of a sector of a CD.
pub const SECTOR: u64 = SECTOR_BYTES as u64;
const SECTOR_BYTES: usize = 2048;

/// Where ISO 9660 begins on a medium: what is before belongs to the system.
pub const START: u64 = 16 * SECTOR;

/// Sectors, from the start of the medium.
const CATALOG: u32 = 19;
const PATHS_LITTLE: u32 = 20;
const PATHS_BIG: u32 = 21;
const ROOT: u32 = 22;

/// Bytes of all structures.
pub const LENGTH: u64 = (ROOT as u64 + 1) * SECTOR - START;

/// What the volume is called and where everything is.
#[derive(Debug, Clone, Copy)]
pub struct Volume<'a> {
    /// Its name: 1 to 32 of `A-Z`, `0-9` and `_`.
    pub label: &'a str,
    /// When it was made: seconds since 1970-01-01 UTC.
    pub time: i64,
    /// Bytes of the whole medium, a multiple of [`SECTOR`].
    pub size: u64,
    /// Where the EFI system partition begins, a multiple of [`SECTOR`].
    pub boot: u64,
    /// What the root directory shows, sorted by name.
    pub files: &'a [File<'a>],
}

/// A range of the medium that has a name.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Up to 8 of `A-Z`, `0-9` and `_`, a dot, and up to 3 more.
    pub name: &'a str,
    /// Where it begins, a multiple of [`SECTOR`].
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
}

/// The volume cannot be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsoError {
    /// A name has characters or a length that a volume does not allow.
    #[error("`{name}` is no name on an ISO 9660 volume")]
    Name {
        /// The name.
        name: String,
    },
    /// Something does not begin or end with a sector of 2048 bytes, or lies beyond 8 TiB.
    #[error("{what} at byte {offset} is no place of an ISO 9660 volume")]
    Place {
        /// What it is.
        what: &'static str,
        /// The byte.
        offset: u64,
    },
    /// The files do not fit into a directory of one sector.
    #[error("{count} files are too many for one directory")]
    Files {
        /// How many there are.
        count: usize,
    },
}

/// The bytes from [`START`] on, [`LENGTH`] of them.
///
/// Files of 4 GiB and more are left out: ISO 9660 has no number for their size, and nobody needs
/// them as files.
///
/// # Errors
/// See [`IsoError`].
pub fn structures(volume: &Volume<'_>) -> Result<Vec<u8>, IsoError> {
    check_label(volume.label)?;
    let boot = sector("the EFI system partition", volume.boot)?;
    let mut bytes = Vec::new();
    for part in [
        primary(volume)?,
        boot_record(),
        terminator(),
        catalog(boot),
        path_table(ROOT.to_le_bytes(), 1_u16.to_le_bytes()),
        path_table(ROOT.to_be_bytes(), 1_u16.to_be_bytes()),
        directory(volume)?,
    ] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES), 0);
    }
    Ok(bytes)
}

fn check_label(label: &str) -> Result<(), IsoError> {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=32).contains(&label.len()) && label.bytes().all(plain) {
        return Ok(());
    }
    let name = label.to_owned();
    Err(IsoError::Name { name })
}

fn sector(what: &'static str, offset: u64) -> Result<u32, IsoError> {
    let number = u32::try_from(offset / SECTOR).ok();
    number
        .filter(|_| offset.is_multiple_of(SECTOR))
        .ok_or(IsoError::Place { what, offset })
}

/// ECMA-119 section 8.4.
fn primary(volume: &Volume<'_>) -> Result<Vec<u8>, IsoError> {
    let mut bytes = descriptor(1);
    let text = |bytes: &mut Vec<u8>, text: &str, length: usize| {
        let end = bytes.len() + length;
        bytes.extend(text.bytes().take(length));
        bytes.resize(end, b' ');
    };
    bytes.push(0);
    text(&mut bytes, "", 32);
    text(&mut bytes, volume.label, 32);
    bytes.resize(80, 0);
    bytes.extend(sector("the end", volume.size)?.both());
    bytes.resize(120, 0);
    // One volume, the first of its set, in blocks of a sector; a path table of one entry.
    bytes.extend(1_u16.both());
    bytes.extend(1_u16.both());
    bytes.extend(2048_u16.both());
    bytes.extend(10_u32.both());
    bytes.extend(PATHS_LITTLE.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(PATHS_BIG.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(directory_record(&[0], ROOT, 2048, volume.time));
    // Volume set, publisher, preparer, application; copyright, abstract, bibliography.
    text(&mut bytes, "", 3 * 128);
    text(&mut bytes, "BAKER", 128);
    text(&mut bytes, "", 3 * 37);
    let made = time(volume.time);
    let never = [&[b'0'; 16][..], &[0]].concat();
    // Made, changed, obsolete, good from.
    bytes.extend([&made[..], &made, &never, &made].concat());
    bytes.push(1);
    Ok(bytes)
}

/// El Torito, figure 7.
fn boot_record() -> Vec<u8> {
    let mut bytes = descriptor(0);
    bytes.extend(b"EL TORITO SPECIFICATION");
    bytes.resize(71, 0);
    bytes.extend(CATALOG.to_le_bytes());
    bytes
}

fn terminator() -> Vec<u8> {
    descriptor(255)
}

/// What all volume descriptors begin with.
fn descriptor(kind: u8) -> Vec<u8> {
    [&[kind][..], b"CD001", &[1]].concat()
}

/// El Torito, section 2: a validation entry and the one to boot.
fn catalog(boot: u32) -> Vec<u8> {
    /// UEFI.
    const PLATFORM: u8 = 0xef;
    let mut bytes = vec![1, PLATFORM];
    bytes.resize(30, 0);
    bytes.extend([0x55, 0xaa]);
    // All words of the entry sum up to zero.
    let words = bytes.chunks_exact(2);
    let sum = words.fold(0_u16, |sum, word| {
        sum.wrapping_add(u16::from_le_bytes([word[0], word[1]]))
    });
    bytes[28..30].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    // Bootable, no emulation, no segment, no system type. 0 sectors: to the end of the medium,
    // as 16 bits would only reach 32 MiB; the file system inside knows its own size.
    bytes.extend([0x88, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(boot.to_le_bytes());
    bytes.resize(64, 0);
    bytes
}

/// ECMA-119 section 9.4: the root directory, which is its own parent.
fn path_table(root: [u8; 4], parent: [u8; 2]) -> Vec<u8> {
    [&[1, 0][..], &root, &parent, &[0, 0]].concat()
}

fn directory(volume: &Volume<'_>) -> Result<Vec<u8>, IsoError> {
    let folder = |name: u8| directory_record(&[name], ROOT, 2048, volume.time);
    let mut bytes = [folder(0), folder(1)].concat();
    for file in volume.files {
        let place = sector("a file", file.offset)?;
        let Ok(size) = u32::try_from(file.size) else {
            continue;
        };
        let name = versioned(file.name)?;
        bytes.extend(record::file_record(&name, place, size, volume.time));
    }
    if bytes.len() as u64 > SECTOR {
        let count = volume.files.len();
        return Err(IsoError::Files { count });
    }
    Ok(bytes)
}

/// `NAME.EXT;1`.
fn versioned(name: &str) -> Result<Vec<u8>, IsoError> {
    let plain = |text: &str, most| {
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        text.len() <= most && text.bytes().all(plain)
    };
    let good = name
        .split_once('.')
        .is_some_and(|(stem, rest)| !stem.is_empty() && plain(stem, 8) && plain(rest, 3));
    if good {
        return Ok(format!("{name};1").into_bytes());
    }
    let name = name.to_owned();
    Err(IsoError::Name { name })
}

/// ECMA-119 section 8.4.26: digits, hundredths, and the distance from Greenwich.
fn time(seconds: i64) -> [u8; 17] {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let day = Day::of_unix(seconds).to_string().replace('-', "");
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let text = format!("{day}{hour:02}{minute:02}{second:02}00");
    let mut bytes = [0; 17];
    for (place, digit) in bytes[..16].iter_mut().zip(text.bytes()) {
        *place = digit;
    }
    bytes
}

#[cfg(test)]
mod tests;
