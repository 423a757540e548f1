//! From a file into another at some place, with as little copying as the file system needs.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use baker_formats::io::copy_sparse;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, FsType, XFS_SUPER_MAGIC, fstatfs};

/// File systems in which files can have blocks in common.
const SHARING: [FsType; 2] = [BTRFS_SUPER_MAGIC, XFS_SUPER_MAGIC];

/// Copies the next `size` bytes of `input` to `out` from its byte `offset` on, which reads as zeros;
/// gives the bytes that `out` holds now. Blocks are shared where the file system can.
///
/// # Errors
/// The input fails or ends early (`UnexpectedEof`), or the output fails.
pub(super) fn copy(input: &mut File, size: u64, out: &mut File, offset: u64) -> io::Result<u64> {
    let shares = fstatfs(&*out).is_ok_and(|found| SHARING.contains(&found.filesystem_type()));
    if !shares {
        return copy_sparse(input, size, out, offset);
    }
    out.seek(SeekFrom::Start(offset))?;
    // From file to file this is copy_file_range(2), which shares whole blocks there.
    let copied = io::copy(&mut input.take(size), out)?;
    match copied == size {
        true => Ok(size),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
