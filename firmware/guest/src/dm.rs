//! Device-mapper: making the verity device, and reading back what is active.
//!
//! The message layout is `struct dm_ioctl` and `struct dm_target_spec` of the kernel's
//! `include/uapi/linux/dm-ioctl.h`, in native byte order.

use std::fs::File;
use std::io;

use crate::sys::{DM_HEADER, device_mapper};

const CREATE: u8 = 3;
const REMOVE: u8 = 4;
const SUSPEND: u8 = 6;
const LOAD: u8 = 9;
const STATUS: u8 = 12;

const READ_ONLY: u32 = 1;
const STATUS_TABLE: u32 = 1 << 4;
const BUFFER_FULL: u32 = 1 << 8;

const FLAGS: usize = 28;
const TARGET_COUNT: usize = 20;
const DEVICE: usize = 40;
const NAME: usize = 48;
const UUID: usize = 176;

/// Room for names in the header, with their NUL.
const NAME_SIZE: usize = 128;
const UUID_SIZE: usize = 129;

/// Bytes of `struct dm_target_spec`.
const SPEC: usize = 40;
/// Room for the name of the target type, with its NUL.
const TYPE_SIZE: usize = 16;

/// Room for an answer: a verity table is some 400 bytes.
const ANSWER: usize = 16 * 1024;

/// One target of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// First sector (of 512 bytes) that it maps.
    pub start: u64,
    /// Number of sectors.
    pub length: u64,
    /// Type: `verity`.
    pub kind: String,
    /// Parameters, or the status line.
    pub parameters: String,
}

/// An open device-mapper.
#[derive(Debug)]
pub struct DeviceMapper(File);

impl DeviceMapper {
    /// Opens the control device.
    ///
    /// # Errors
    /// It is not there (device-mapper is not loaded) or may not be opened.
    pub fn open() -> io::Result<Self> {
        File::options()
            .read(true)
            .write(true)
            .open("/dev/mapper/control")
            .map(Self)
    }

    /// Makes a read-only device with one target and activates it; gives its device number. A
    /// device that could not be activated is removed again.
    ///
    /// # Errors
    /// A name is too long, or the kernel refuses the table.
    pub fn create(&self, name: &str, uuid: &str, target: &Target) -> io::Result<u64> {
        self.order(CREATE, &mut request(By::Name(name, uuid), READ_ONLY, None)?)?;
        let activate = || {
            self.order(
                LOAD,
                &mut request(By::Name(name, ""), READ_ONLY, Some(target))?,
            )?;
            let mut resume = request(By::Name(name, ""), 0, None)?;
            self.order(SUSPEND, &mut resume)?;
            Ok(u64_at(&resume, DEVICE))
        };
        activate().inspect_err(|_| {
            if let Ok(mut remove) = request(By::Name(name, ""), 0, None) {
                self.order(REMOVE, &mut remove).ok();
            }
        })
    }

    /// The active targets of a device, with their tables.
    ///
    /// # Errors
    /// The number is no device-mapper device, or the answer makes no sense.
    pub fn table(&self, device: u64) -> io::Result<Vec<Target>> {
        self.query(device, STATUS_TABLE)
    }

    /// The active targets of a device, with their status lines.
    ///
    /// # Errors
    /// As [`DeviceMapper::table`].
    pub fn status(&self, device: u64) -> io::Result<Vec<Target>> {
        self.query(device, 0)
    }

    fn query(&self, device: u64, flags: u32) -> io::Result<Vec<Target>> {
        let mut buffer = request(By::Device(device), flags, None)?;
        buffer.resize(ANSWER, 0);
        self.order(STATUS, &mut buffer)?;
        targets(&buffer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn order(&self, command: u8, buffer: &mut [u8]) -> io::Result<()> {
        device_mapper(&self.0, command, buffer)
    }
}

/// How a device is named.
enum By<'a> {
    /// By name; the UUID matters at creation only.
    Name(&'a str, &'a str),
    /// By device number.
    Device(u64),
}

fn request(by: By<'_>, flags: u32, target: Option<&Target>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; DM_HEADER];
    // Version 4.0.0 of the interface: the kernel accepts any minor version up to its own.
    bytes[..4].copy_from_slice(&4u32.to_ne_bytes());
    let data_start = u32::try_from(DM_HEADER).map_err(io::Error::other)?;
    bytes[16..20].copy_from_slice(&data_start.to_ne_bytes());
    bytes[TARGET_COUNT..TARGET_COUNT + 4]
        .copy_from_slice(&u32::from(target.is_some()).to_ne_bytes());
    bytes[FLAGS..FLAGS + 4].copy_from_slice(&flags.to_ne_bytes());
    match by {
        By::Name(name, uuid) => {
            put_text(&mut bytes[NAME..NAME + NAME_SIZE], name)?;
            put_text(&mut bytes[UUID..UUID + UUID_SIZE], uuid)?;
        }
        By::Device(device) => bytes[DEVICE..DEVICE + 8].copy_from_slice(&device.to_ne_bytes()),
    }
    if let Some(target) = target {
        put_target(&mut bytes, target)?;
    }
    Ok(bytes)
}

fn put_target(bytes: &mut Vec<u8>, target: &Target) -> io::Result<()> {
    let start = bytes.len();
    bytes.resize(start + SPEC, 0);
    bytes[start..start + 8].copy_from_slice(&target.start.to_ne_bytes());
    bytes[start + 8..start + 16].copy_from_slice(&target.length.to_ne_bytes());
    put_text(&mut bytes[start + 24..start + 24 + TYPE_SIZE], &target.kind)?;
    bytes.extend_from_slice(target.parameters.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    Ok(())
}

/// Puts text with its NUL into a zeroed field.
fn put_text(field: &mut [u8], text: &str) -> io::Result<()> {
    if text.len() >= field.len() || text.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    field[..text.len()].copy_from_slice(text.as_bytes());
    Ok(())
}

/// The targets of an answer; none when it was cut off or makes no sense.
fn targets(bytes: &[u8]) -> Option<Vec<Target>> {
    if u32_at(bytes, FLAGS)? & BUFFER_FULL != 0 {
        return None;
    }
    let data = bytes.get(u32_at(bytes, 16)? as usize..)?;
    let mut at = 0;
    let mut found = Vec::new();
    for _ in 0..u32_at(bytes, TARGET_COUNT)? {
        let spec = data.get(at..at + SPEC)?;
        found.push(Target {
            start: u64_at(spec, 0),
            length: u64_at(spec, 8),
            kind: text(&spec[24..])?,
            parameters: text(data.get(at + SPEC..)?)?,
        });
        // In an answer `next` counts from the start of the data.
        let next = u32_at(spec, 20)? as usize;
        if next <= at {
            return None;
        }
        at = next;
    }
    Some(found)
}

/// The text up to the NUL or the end.
fn text(field: &[u8]) -> Option<String> {
    let text = field.split(|&byte| byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

/// The number at `at`, which every caller knows to be inside.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verity() -> Target {
        Target {
            start: 0,
            length: 8000,
            kind: "verity".into(),
            parameters: "1 254:1".into(),
        }
    }

    #[test]
    fn a_load_request_has_the_kernels_layout() {
        let bytes = request(By::Name("root", "id"), READ_ONLY, Some(&verity())).unwrap();
        assert_eq!(bytes.len(), 312 + 40 + 8);
        assert_eq!(u32_at(&bytes, 0), Some(4));
        assert_eq!(u32_at(&bytes, 16), Some(312));
        assert_eq!(u32_at(&bytes, 20), Some(1));
        assert_eq!(u32_at(&bytes, 28), Some(1));
        assert_eq!(&bytes[48..53], b"root\0");
        assert_eq!(&bytes[176..179], b"id\0");
        assert_eq!(u64_at(&bytes, 312 + 8), 8000);
        assert_eq!(&bytes[312 + 24..312 + 31], b"verity\0");
        assert_eq!(&bytes[352..360], b"1 254:1\0");
    }

    #[test]
    fn an_answer_is_read_within_its_bounds() {
        let mut bytes = request(By::Device(7), 0, Some(&verity())).unwrap();
        assert_eq!(u64_at(&bytes, 40), 7);
        bytes[312 + 20] = 48;
        assert_eq!(targets(&bytes), Some(vec![verity()]));
        for cut in 0..352 {
            assert_eq!(targets(&bytes[..cut]), None, "cut at {cut}");
        }
        bytes[312 + 20] = 0;
        assert_eq!(targets(&bytes), None);
        bytes[29] = 1;
        assert_eq!(targets(&bytes), None);
    }

    #[test]
    fn long_names_are_refused() {
        assert!(request(By::Name(&"n".repeat(127), ""), 0, None).is_ok());
        assert!(request(By::Name(&"n".repeat(128), ""), 0, None).is_err());
    }
}
