//! The ioctls that no safe wrapper offers. All unsafe code of the guest is here.
#![expect(
    unsafe_code,
    reason = "ioctls on device-mapper, block and loop devices"
)]

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

/// `LOOP_CTL_GET_FREE` of `include/uapi/linux/loop.h`.
const LOOP_GET_FREE: u32 = 0x4c82;

/// `LOOP_CONFIGURE` of the same header.
const LOOP_CONFIGURE: u32 = 0x4c0a;

/// `LO_FLAGS_READ_ONLY` of the same header.
const LOOP_READ_ONLY: u32 = 1;

/// `struct loop_config` of the same header: `struct loop_info64` of 232 bytes inside.
#[repr(C)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    numbers: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// The number of a loop device that nobody uses; makes one when there is none.
///
/// # Errors
/// The kernel refuses.
pub fn free_loop(control: &File) -> io::Result<u32> {
    // SAFETY: this operation takes no argument.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_GET_FREE.into()) };
    let number = Errno::result(result).map_err(io::Error::from)?;
    u32::try_from(number).map_err(io::Error::other)
}

/// Makes the bytes of `file` those of the loop device, read-only. The device holds the file open,
/// also when its name goes.
///
/// # Errors
/// The kernel refuses.
pub fn attach_loop(device: &File, file: &File) -> io::Result<()> {
    let file = u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?;
    let config = LoopConfig {
        file,
        // That of the file system, 512 or more.
        block_size: 0,
        numbers: [0; 5],
        number: 0,
        encryption: [0; 2],
        flags: LOOP_READ_ONLY,
        names: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the struct has the layout of the kernel's header, lives until the call returns, and
    // the kernel only reads it.
    let result =
        unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE.into(), &raw const config) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<LoopConfig>(), 304);
        assert_eq!(size_of::<BlkpgPartition>(), 152);
    }
}
