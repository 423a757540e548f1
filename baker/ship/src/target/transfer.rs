//! Brings one file to its place: by a second name where the file system allows it, else by a copy
//! that keeps holes.

use std::fs::{File, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek};

use super::Source;
use crate::atomic;
use crate::folder::Watch;

/// Bytes copied between two looks at the interrupt.
const CHUNK: u64 = 4 * 1024 * 1024;

/// Bytes per read when the kernel cannot copy by itself.
const BUFFER: usize = 256 * 1024;

/// Which side failed.
#[derive(Debug)]
pub(super) enum TransferError {
    /// The staged file.
    Read(io::Error),
    /// The new file.
    Write(io::Error),
    /// Somebody asked to stop.
    Interrupted,
}

/// Makes `to` out of the regular file `from`, mode 0644, synced.
///
/// A staged file gets a hard link and not a rename: should a later file fail, the staged folder is
/// still whole. The caller removes the old names at the end.
pub(super) fn bring(
    from: &Path,
    to: &Path,
    source: Source,
    watch: Watch<'_>,
) -> Result<(), TransferError> {
    let file = atomic::open_regular(from).map_err(TransferError::Read)?;
    let size = file.metadata().map_err(TransferError::Read)?.len();
    let linked = match source {
        Source::Staged => std::fs::hard_link(from, to),
        Source::Kept => Err(io::ErrorKind::Unsupported.into()),
    };
    let file = match linked {
        Ok(()) => {
            watch.advance(size);
            file
        }
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            return Err(TransferError::Write(error));
        }
        // Another file system, one without links, or a staged file that is not ours.
        Err(_) => copy(&file, to, size, watch)?,
    };
    file.set_permissions(Permissions::from_mode(0o644))
        .map_err(TransferError::Write)?;
    file.sync_all().map_err(TransferError::Write)
}

fn copy(source: &File, to: &Path, size: u64, watch: Watch<'_>) -> Result<File, TransferError> {
    let target = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to);
    let target = target.map_err(TransferError::Write)?;
    target.set_len(size).map_err(TransferError::Write)?;
    let mut at = 0;
    while let Some(data) = next_data(source, at, size).map_err(TransferError::Read)? {
        watch.advance(data.start - at);
        at = data.end;
        copy_range(source, &target, data, watch)?;
    }
    watch.advance(size - at);
    Ok(target)
}

/// The first run of data at or after `at`; none when only a hole is left.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    if at >= size {
        return Ok(None);
    }
    let seek = |from: u64, whence| -> Result<u64, Errno> {
        let offset = i64::try_from(from).map_err(|_| Errno::EOVERFLOW)?;
        lseek(file, offset, whence).and_then(|at| u64::try_from(at).map_err(|_| Errno::EOVERFLOW))
    };
    let start = match seek(at, Whence::SeekData) {
        Ok(start) => start.min(size),
        // lseek(2): no data after this offset.
        Err(Errno::ENXIO) => return Ok(None),
        // A file system that cannot tell holes from data: all is data.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some(at..size)),
        Err(errno) => return Err(errno.into()),
    };
    let end = seek(start, Whence::SeekHole).map(|end| end.min(size));
    Ok(Some(start..end.unwrap_or(size)).filter(|range| !range.is_empty()))
}

/// Copies one run of data. The kernel does it where it can (and shares the blocks where the file
/// system can); otherwise the bytes pass through here.
fn copy_range(
    source: &File,
    target: &File,
    range: Range<u64>,
    watch: Watch<'_>,
) -> Result<(), TransferError> {
    let mut at = range.start;
    let mut by_kernel = true;
    while at < range.end {
        watch.go_on().map_err(|_| TransferError::Interrupted)?;
        let want = CHUNK.min(range.end - at);
        let done = if by_kernel {
            match copy_in_kernel(source, target, at, want) {
                Ok(done) if done > 0 => done,
                Err(errno @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG)) => {
                    return Err(TransferError::Write(errno.into()));
                }
                // Across file systems, or on one that does not know the call; real trouble shows
                // again below, on the side that has it.
                _ => {
                    by_kernel = false;
                    continue;
                }
            }
        } else {
            copy_through_memory(source, target, at, want)?
        };
        watch.advance(done);
        at += done;
    }
    Ok(())
}

fn copy_in_kernel(source: &File, target: &File, at: u64, want: u64) -> Result<u64, Errno> {
    let mut from = i64::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
    let mut to = from;
    let want = usize::try_from(want).map_err(|_| Errno::EOVERFLOW)?;
    copy_file_range(source, Some(&mut from), target, Some(&mut to), want).map(|done| done as u64)
}

fn copy_through_memory(
    source: &File,
    target: &File,
    at: u64,
    want: u64,
) -> Result<u64, TransferError> {
    let size = usize::try_from(want).unwrap_or(BUFFER).min(BUFFER);
    let mut buffer = vec![0; size];
    source
        .read_exact_at(&mut buffer, at)
        .map_err(TransferError::Read)?;
    target
        .write_all_at(&buffer, at)
        .map_err(TransferError::Write)?;
    Ok(size as u64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use baker_model::{Interrupt, Silent};

    use super::*;

    /// A hole of 3 MiB, then data, then a hole to the end at 8 MiB.
    #[test]
    fn a_copy_keeps_bytes_and_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let source = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&from)
            .unwrap();
        source.set_len(8 << 20).unwrap();
        let data: Vec<u8> = (1..=251_u8).cycle().take(300_001).collect();
        source.write_all_at(&data, 3 << 20).unwrap();
        let interrupt = Interrupt::new();
        let watch = Watch {
            stage: "publish",
            listener: &Silent,
            interrupt: &interrupt,
        };
        let copied = copy(&source, &to, 8 << 20, watch).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), std::fs::read(&from).unwrap());
        let blocks = |file: &File| file.metadata().unwrap().blocks();
        assert!(
            blocks(&copied) <= blocks(&source).max(1200),
            "{}",
            blocks(&copied)
        );
    }

    #[test]
    fn both_ways_of_copying_agree_and_stop_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let data: Vec<u8> = (0..=252_u8).cycle().take(700_000).collect();
        std::fs::write(path("from"), &data).unwrap();
        let source = File::open(path("from")).unwrap();
        let target = File::create(path("to")).unwrap();
        let mut at = 0;
        while at < data.len() as u64 {
            at += copy_through_memory(&source, &target, at, data.len() as u64 - at).unwrap();
        }
        assert_eq!(std::fs::read(path("to")).unwrap(), data);
        let interrupt = Interrupt::new();
        interrupt.raise();
        let watch = Watch {
            stage: "publish",
            listener: &Silent,
            interrupt: &interrupt,
        };
        let stopped = copy(&source, &path("other"), data.len() as u64, watch);
        assert!(matches!(stopped, Err(TransferError::Interrupted)));
    }
}
