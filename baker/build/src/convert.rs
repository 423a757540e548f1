//! The convert stage: the raw disk in other forms.
//!
//! Takes the finished raw disk, ids from the lock; gives one file for each form asked for. Never
//! changes the disk: every form holds the same bytes, and what is signed in one is signed in all.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use baker_formats::disk_image::{Conversion, ImageError, qcow2, vhd, vmdk};
use baker_formats::io::{Slice, copy_sparse};
use baker_formats::iso::{self, IsoError};
use baker_model::layout::{Layout, Role};
use baker_model::recipe::Format;
use baker_model::{Digest, Interrupt};

/// Bytes gathered before a write.
const BUFFER: usize = 1 << 20;

/// What is converted, and into what.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The raw disk.
    pub disk: &'a Path,
    /// Where everything lies on it.
    pub layout: &'a Layout,
    /// Name and version, for forms that have a label.
    pub label: &'a str,
    /// The form to make; nothing happens for forms that are none of the disk.
    pub format: Format,
    /// The file to write; must not be there.
    pub out: &'a Path,
    /// Digest of the lock: ids are derived from it.
    pub lock: Digest,
    /// Seconds since 1970-01-01 UTC that the image shows where it shows a time.
    pub epoch: i64,
    /// Threads that compress; never changes the result.
    pub threads: NonZeroUsize,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

/// The disk cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The form is none of a disk.
    #[error("`{format}` is no form of a disk")]
    NoDisk {
        /// The form.
        format: Format,
    },
    /// The raw disk cannot be opened.
    #[error("cannot read the disk {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("cannot write {}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The image cannot be made.
    #[error("cannot make {}", path.display())]
    Image {
        /// Its path.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: ImageError,
    },
    /// The disk cannot be a CD.
    #[error("the disk cannot be a CD")]
    Iso(#[source] IsoError),
    /// The first partition lies where a CD has its structures.
    #[error("the first partition begins at byte {offset}, a CD has its structures up to {needed}")]
    Gap {
        /// Where it begins.
        offset: u64,
        /// Bytes that must be free before it.
        needed: u64,
    },
}

/// Writes one form of the disk; gives the bytes of its file.
///
/// # Errors
/// See [`ConvertError`]. The file is left behind for the caller to remove.
pub fn convert(request: &Request<'_>) -> Result<u64, ConvertError> {
    let unreadable = |source| ConvertError::Read {
        path: request.disk.to_owned(),
        source,
    };
    let disk = File::open(request.disk).map_err(unreadable)?;
    let conversion = Conversion {
        disk: &disk,
        size: disk.metadata().map_err(unreadable)?.len(),
        threads: request.threads,
        interrupt: request.interrupt,
    };
    let failed = |source| ConvertError::Write {
        path: request.out.to_owned(),
        source,
    };
    let file = File::create_new(request.out).map_err(failed)?;
    if request.format == Format::Iso {
        // What is left out of the copy, mostly at the end, reads as zeros.
        file.set_len(conversion.size).map_err(failed)?;
    }
    let mut out = BufWriter::with_capacity(BUFFER, file);
    let size = write(request, &conversion, &mut out)?;
    out.flush().map_err(failed)?;
    Ok(size)
}

fn write(
    request: &Request<'_>,
    conversion: &Conversion<'_>,
    out: &mut BufWriter<File>,
) -> Result<u64, ConvertError> {
    let lock = request.lock;
    let made = match request.format {
        Format::Qcow2 => qcow2::write(conversion, qcow2::Compression::Zlib, out),
        Format::Vmdk => {
            let name = request.out.file_name().unwrap_or_default();
            let [a, b, c, d, ..] = *lock.derive("vmdk-content").as_bytes();
            let identity = vmdk::Identity {
                name: &name.to_string_lossy(),
                content: u32::from_be_bytes([a, b, c, d]),
            };
            vmdk::write(conversion, identity, out)
        }
        Format::Vhd => vhd::write(conversion, vhd::Variant::Dynamic, identity(request), out),
        Format::VhdFixed => vhd::write(conversion, vhd::Variant::Fixed, identity(request), out),
        Format::Iso => return iso(request, conversion, out),
        format => return Err(ConvertError::NoDisk { format }),
    };
    made.map_err(|source| ConvertError::Image {
        path: request.out.to_owned(),
        source,
    })
}

/// The disk, with the structures of a CD before its first partition.
fn iso(
    request: &Request<'_>,
    conversion: &Conversion<'_>,
    out: &mut BufWriter<File>,
) -> Result<u64, ConvertError> {
    let first = |role| {
        let mut partitions = request.layout.partitions.iter();
        partitions.find(move |partition| partition.role == role)
    };
    let rows = [
        ("ESP.IMG", Role::Esp),
        ("ROOT.IMG", Role::Root),
        ("VERITY.IMG", Role::RootVerity),
    ];
    let files = rows.into_iter().filter_map(|(name, role)| {
        let partition = first(role)?;
        Some(iso::File {
            name,
            offset: partition.offset,
            size: partition.size,
        })
    });
    let files: Vec<iso::File<'_>> = files.collect();
    let boot = first(Role::Esp).map_or(0, |esp| esp.offset);
    let needed = iso::START + iso::LENGTH;
    let starts = request.layout.partitions.iter().map(|one| one.offset);
    if let Some(offset) = starts.min().filter(|offset| *offset < needed) {
        return Err(ConvertError::Gap { offset, needed });
    }
    let structures = iso::structures(&iso::Volume {
        label: &label(request.label),
        time: request.epoch,
        size: conversion.size,
        boot,
        files: &files,
    })
    .map_err(ConvertError::Iso)?;
    let mut disk = Slice::new(conversion.disk, 0..conversion.size);
    copy_sparse(&mut disk, conversion.size, out, 0)
        .and_then(|_| out.seek(SeekFrom::Start(iso::START)))
        .and_then(|_| out.write_all(&structures))
        .map_err(|source| ConvertError::Write {
            path: request.out.to_owned(),
            source,
        })?;
    Ok(conversion.size)
}

/// A label in the letters of ISO 9660.
fn label(text: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    text.chars().take(32).map(letter).collect()
}

fn identity(request: &Request<'_>) -> vhd::Identity {
    vhd::Identity {
        uuid: request.lock.derive(request.format.name()).to_uuid_bytes(),
        time: request.epoch,
    }
}

#[cfg(test)]
mod tests {
    use baker_model::layout::Partition;

    use super::*;

    fn layout() -> Layout {
        let partition = |role, offset| Partition {
            role,
            name: "x".into(),
            type_uuid: "".into(),
            uuid: [0; 16],
            offset,
            size: 1 << 20,
            attributes: 0,
        };
        Layout {
            disk_uuid: [0; 16],
            size: 9 << 20,
            partitions: vec![
                partition(Role::Esp, 1 << 20),
                partition(Role::Root, 3 << 20),
            ],
        }
    }

    fn converted(folder: &Path, format: Format, threads: usize) -> Result<Vec<u8>, ConvertError> {
        let out = folder.join(format!("{format}-{threads}"));
        let size = convert(&Request {
            disk: &folder.join("raw"),
            layout: &layout(),
            label: "tiny-1.0.0",
            format,
            out: &out,
            lock: Digest::of(b"lock"),
            epoch: 1_700_000_000,
            threads: NonZeroUsize::new(threads).unwrap(),
            interrupt: &Interrupt::new(),
        })?;
        let bytes = std::fs::read(out).unwrap();
        assert_eq!(bytes.len() as u64, size);
        Ok(bytes)
    }

    #[test]
    fn threads_and_folders_change_nothing() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        for folder in [&one, &other] {
            let mut raw = vec![0; 9 << 20];
            raw[3 << 20..4 << 20].fill(7);
            std::fs::write(folder.path().join("raw"), raw).unwrap();
        }
        let disks = [
            Format::Qcow2,
            Format::Vmdk,
            Format::Vhd,
            Format::VhdFixed,
            Format::Iso,
        ];
        let mut all = std::collections::BTreeSet::new();
        for format in disks {
            // The name of the file is inside a VMDK, so both have the same.
            let first = converted(one.path(), format, 1).unwrap();
            assert!(
                converted(other.path(), format, 1).unwrap() == first,
                "{format}"
            );
            assert!(all.insert(Digest::of(&first)), "{format}");
            if format != Format::Vmdk {
                assert!(
                    converted(one.path(), format, 3).unwrap() == first,
                    "{format}"
                );
            }
        }
    }

    #[test]
    fn a_cd_is_the_disk_but_for_the_gap() {
        let folder = tempfile::tempdir().unwrap();
        let mut raw: Vec<u8> = (0..9 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
        raw[17 << 10..1 << 20].fill(0);
        std::fs::write(folder.path().join("raw"), &raw).unwrap();
        let cd = converted(folder.path(), Format::Iso, 1).unwrap();
        let gap = 32 << 10..1 << 20;
        assert!(cd[..gap.start] == raw[..gap.start] && cd[gap.end..] == raw[gap.end..]);
        assert_eq!(&cd[gap.start + 1..gap.start + 6], b"CD001");
        assert_eq!(&cd[gap.start + 40..gap.start + 51], b"TINY_1_0_0 ");
    }

    #[test]
    fn what_is_no_disk_and_what_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = converted(folder.path(), Format::Qcow2, 1).unwrap_err();
        assert!(missing.to_string().contains("/raw"), "{missing}");
        std::fs::write(folder.path().join("raw"), [0; 512]).unwrap();
        let tar = converted(folder.path(), Format::Tar, 1).unwrap_err();
        assert_eq!(tar.to_string(), "`tar` is no form of a disk");
        converted(folder.path(), Format::Qcow2, 1).unwrap();
        let twice = converted(folder.path(), Format::Qcow2, 1).unwrap_err();
        assert!(twice.to_string().contains("cannot write"), "{twice}");
    }
}
