//! The two ioctls that no safe wrapper offers. All unsafe code of the guest is here.
#![expect(unsafe_code, reason = "ioctls on device-mapper and on block devices")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;

/// Size of `struct dm_ioctl` in `include/uapi/linux/dm-ioctl.h`.
pub const DM_HEADER: usize = 312;

/// Place of `data_size` in `struct dm_ioctl`.
const DM_DATA_SIZE: std::ops::Range<usize> = 12..16;

/// Does one device-mapper ioctl; the answer replaces the request in `buffer`.
///
/// # Errors
/// `buffer` is shorter than the header or longer than 4 GiB (`InvalidInput`), or the kernel
/// refuses.
pub fn device_mapper(control: &File, command: u8, buffer: &mut [u8]) -> io::Result<()> {
    let size = u32::try_from(buffer.len()).map_err(io::Error::other)?;
    if buffer.len() < DM_HEADER {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    buffer[DM_DATA_SIZE].copy_from_slice(&size.to_ne_bytes());
    let request = nix::request_code_readwrite!(0xfd, command, DM_HEADER);
    // SAFETY: the kernel reads and writes at most `data_size` bytes at the pointer, which was
    // just set to the length of the exclusively borrowed buffer.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), request, buffer.as_mut_ptr()) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// `struct blkpg_partition` of `include/uapi/linux/blkpg.h`.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: libc::c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg` of the same header.
#[repr(C)]
struct BlkpgArgument {
    operation: libc::c_int,
    flags: libc::c_int,
    data_length: libc::c_int,
    data: *mut BlkpgPartition,
}

/// `BLKPG_ADD_PARTITION`.
const BLKPG_ADD: libc::c_int = 1;

/// Tells the kernel of a partition that it did not find by itself; `start` and `length` in bytes.
///
/// # Errors
/// A number is out of range (`InvalidInput`), or the kernel refuses.
pub fn add_partition(disk: &File, number: u32, start: u64, length: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut partition = BlkpgPartition {
        start: start.try_into().map_err(invalid)?,
        length: length.try_into().map_err(invalid)?,
        number: number.try_into().map_err(invalid)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let argument = BlkpgArgument {
        operation: BLKPG_ADD,
        flags: 0,
        data_length: size_of::<BlkpgPartition>().try_into().map_err(invalid)?,
        data: &raw mut partition,
    };
    let request = nix::request_code_none!(0x12, 105);
    // SAFETY: both structs have the layout of the kernel's header, live until the call returns,
    // and the kernel only reads them.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), request, &raw const argument) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}
