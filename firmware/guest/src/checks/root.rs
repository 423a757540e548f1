//! Questions about the root as a file system and as a device.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc::{O_DIRECT, O_TMPFILE};
use nix::sys::stat::{major, minor};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::{Answer, Progress, failed};

/// Where a file could appear if the root let it.
const PLACES: [&str; 2] = ["/", "/usr"];

/// Bytes per read; a multiple of [`BLOCK`].
const CHUNK: usize = 1 << 20;

/// The finest unit in which an unreadable place is named: the block of dm-verity.
const BLOCK: usize = 4096;

/// The root refuses writes: it says so, and does so.
pub fn read_only() -> Result<Answer, String> {
    let flags = statvfs("/")
        .map_err(|error| format!("statvfs of /: {error}"))?
        .flags();
    if !flags.contains(FsFlags::ST_RDONLY) {
        return Ok(Answer::no("mounted for writing"));
    }
    for place in PLACES {
        // A file without a name: should it be granted, it is gone again at once.
        let attempt = OpenOptions::new()
            .write(true)
            .custom_flags(O_TMPFILE)
            .open(place);
        match attempt.map_err(|error| error.raw_os_error()) {
            Err(Some(code)) if code == Errno::EROFS as i32 => {}
            Ok(_) => return Ok(Answer::no(format!("a file can be made in {place}"))),
            Err(code) => {
                let error = Errno::from_raw(code.unwrap_or_default());
                return Ok(Answer::no(format!(
                    "making a file in {place} gives {error}"
                )));
            }
        }
    }
    Ok(Answer::new(true, "mounted read-only, refuses files"))
}

/// Every block of the device under `/` can be read; found is their number in bytes.
///
/// Reads past the page cache: what was read before is read again from the disk, and nothing of
/// the system's cache is lost.
pub fn readable(progress: Progress<'_>) -> Result<Answer, String> {
    let node = root_device()?;
    let describe = node.display().to_string();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_DIRECT)
        .open(&node)
        .map_err(failed(&describe))?;
    Ok(match read_all(&file, progress) {
        Ok(bytes) => Answer::new(true, bytes),
        Err((offset, error)) => Answer::no(format!("{describe}: offset {offset}: {error}")),
    })
}

/// Reads to the end; on failure gives the first block that cannot be read.
fn read_all(file: &File, progress: Progress<'_>) -> Result<u64, (u64, io::Error)> {
    let mut room = vec![0; CHUNK + BLOCK];
    // Direct reads want an aligned buffer.
    let start = room.as_ptr().align_offset(BLOCK).min(BLOCK);
    let chunk = &mut room[start..start + CHUNK];
    let mut offset = 0;
    loop {
        match file.read_at(chunk, offset) {
            Ok(0) => return Ok(offset),
            Ok(count) => {
                offset += count as u64;
                progress(&format!("{} MiB", offset >> 20));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(first_unreadable(file, &mut chunk[..BLOCK], offset, error)),
        }
    }
}

fn first_unreadable(
    file: &File,
    block: &mut [u8],
    start: u64,
    error: io::Error,
) -> (u64, io::Error) {
    let blocks = (start..start + CHUNK as u64).step_by(BLOCK);
    for offset in blocks {
        if let Err(error) = file.read_at(block, offset) {
            return (offset, error);
        }
    }
    (start, error)
}

/// The node of the block device that `/` lies on.
fn root_device() -> Result<PathBuf, String> {
    let number = fs::metadata("/").map_err(failed("/"))?.dev();
    if major(number) != 0 {
        let path = format!("/sys/dev/block/{}:{}/uevent", major(number), minor(number));
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
        return name
            .map(|name| PathBuf::from("/dev").join(name))
            .ok_or_else(|| format!("{path} names no device"));
    }
    // File systems such as btrfs have numbers of their own, but name their device as source.
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).map_err(failed(path))?;
    let source = text.lines().rev().find_map(root_source);
    let device = source.filter(|source| source.starts_with("/dev/"));
    device.map(PathBuf::from).ok_or_else(|| {
        let source = source.unwrap_or("nothing that is known");
        format!("/ lies on no block device but on {source}")
    })
}

/// The source in a line of `mountinfo` that is about `/`; see `proc_pid_mountinfo(5)`.
fn root_source(line: &str) -> Option<&str> {
    let (mount, file_system) = line.split_once(" - ")?;
    let place = mount.split(' ').nth(4)?;
    file_system.split(' ').nth(1).filter(|_| place == "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_the_root_is_found() {
        let line = "30 1 0:27 /@ / rw,relatime shared:1 - btrfs /dev/vda2 rw,subvol=/@";
        assert_eq!(root_source(line), Some("/dev/vda2"));
        assert_eq!(root_source("31 30 0:5 / /dev rw - devtmpfs udev rw"), None);
        assert_eq!(root_source("nonsense"), None);
    }

    #[test]
    fn all_is_read_to_the_last_byte() {
        let path = std::env::temp_dir().join(format!("baker-read-{}", std::process::id()));
        fs::write(&path, vec![7; CHUNK + 5]).unwrap();
        let read = read_all(&File::open(&path).unwrap(), &|_| {}).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(read, CHUNK as u64 + 5);
        assert_eq!(
            read_all(&File::open("/").unwrap(), &|_| {}).unwrap_err().0,
            0
        );
    }
}
