//! Reading a volume back: the names on it, and files whole.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::{FatError, SECTOR};

/// Folders deeper than this are no boot loader's; it also ends a volume whose folders go round.
const DEPTH: usize = 16;

/// More entries than any ESP has.
const ENTRIES: usize = 4096;

/// A sound volume is read in less than this many times its size; one whose chains go round is
/// given up then.
const BUDGET: u64 = 8;

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Path with `/`, without a leading one, in the case in which it is written.
    pub path: String,
    /// Number of bytes.
    pub size: u64,
}

/// All files of the volume in the `size` bytes of `input` from `offset` on, sorted by path.
/// Writes nothing, not even when the volume was not unmounted cleanly.
///
/// # Errors
/// [`FatError::Read`]: the bytes hold no FAT volume, it is damaged, or `input` fails.
pub fn list(
    input: &mut (impl Read + Seek),
    offset: u64,
    size: u64,
) -> Result<Vec<Found>, FatError> {
    let volume = open(input, offset, size)?;
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), volume.root_dir(), 0)];
    while let Some((path, folder, depth)) = folders.pop() {
        for entry in folder.iter() {
            let entry = entry.map_err(FatError::Read)?;
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            let path = match path.as_str() {
                "" => name,
                parent => format!("{parent}/{name}"),
            };
            if depth >= DEPTH || found.len() + folders.len() >= ENTRIES {
                let problem = io::Error::other("its folders never end");
                return Err(FatError::Read(problem));
            }
            if entry.is_dir() {
                folders.push((path, entry.to_dir(), depth + 1));
            } else {
                let size = entry.len();
                found.push(Found { path, size });
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// The bytes of one file of the volume, at most `limit`.
///
/// # Errors
/// As [`list`]; also when there is no such file or it is larger.
pub fn read(
    input: &mut (impl Read + Seek),
    offset: u64,
    size: u64,
    path: &str,
    limit: u64,
) -> Result<Vec<u8>, FatError> {
    let failed = |source| FatError::ReadFile {
        path: path.to_owned(),
        source,
    };
    let volume = open(input, offset, size)?;
    let file = volume.root_dir().open_file(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut limited = file.take(limit.saturating_add(1));
    limited.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

/// Writes one file of the volume to `out`.
///
/// # Errors
/// As [`list`]; also when there is no such file or `out` fails.
pub fn copy(
    input: &mut (impl Read + Seek),
    offset: u64,
    size: u64,
    path: &str,
    out: &mut dyn Write,
) -> Result<(), FatError> {
    let failed = |source| FatError::ReadFile {
        path: path.to_owned(),
        source,
    };
    let volume = open(input, offset, size)?;
    let mut file = volume.root_dir().open_file(path).map_err(failed)?;
    io::copy(&mut file, out).map(drop).map_err(failed)
}

type Volume<'a, R> = fatfs::FileSystem<Window<'a, R>>;

fn open<R: Read + Seek>(input: &mut R, offset: u64, size: u64) -> Result<Volume<'_, R>, FatError> {
    let mut window = Window {
        input,
        offset,
        size,
        position: 0,
        budget: size.saturating_mul(BUDGET),
    };
    check_geometry(&mut window).map_err(FatError::Read)?;
    fatfs::FileSystem::new(window, fatfs::FsOptions::new()).map_err(FatError::Read)
}

/// Refuses numbers of the boot sector that the crate would calculate with until it panics.
fn check_geometry<R: Read + Seek>(window: &mut Window<'_, R>) -> io::Result<()> {
    let mut sector = [0; 64];
    window.seek(SeekFrom::Start(0))?;
    window.read_exact(&mut sector)?;
    window.seek(SeekFrom::Start(0))?;
    let short = |at: usize| u64::from(u16::from_le_bytes([sector[at], sector[at + 1]]));
    let long = |at: usize| short(at) | short(at + 2) << 16;
    let either = |one: u64, other: u64| if one == 0 { other } else { one };
    let (bytes, per_cluster, copies) = (short(11), sector[13], u64::from(sector[16]));
    let total = either(short(19), long(32));
    let table = either(short(22), long(36));
    let root = (short(17) * 32).div_ceil(SECTOR);
    let data = short(14) + copies * table + root;
    let sound = bytes == SECTOR
        && per_cluster.is_power_of_two()
        && copies > 0
        && short(14) > 0
        && data < total
        && total <= window.size / SECTOR;
    let problem = "its boot sector contradicts itself or the size of its partition";
    sound.then_some(()).ok_or_else(|| io::Error::other(problem))
}

/// A range of a disk. The crate asks for `Write` to read, too; it gets an error for it.
struct Window<'a, R> {
    input: &'a mut R,
    offset: u64,
    size: u64,
    position: u64,
    /// Bytes that may still be read.
    budget: u64,
}

impl<R: Read + Seek> Read for Window<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(self.position);
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let at = self.offset.checked_add(self.position);
        let at = at.ok_or(io::ErrorKind::InvalidInput)?;
        self.input.seek(SeekFrom::Start(at))?;
        let count = self.input.read(&mut buffer[..wanted])?;
        self.position += count as u64;
        let left = self.budget.checked_sub(count as u64);
        self.budget = left.ok_or_else(|| io::Error::other("its cluster chains never end"))?;
        Ok(count)
    }
}

impl<R> Write for Window<'_, R> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R> Seek for Window<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.size.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
