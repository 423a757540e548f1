//! The disk stage: partitions, boot files and images on one raw disk.
//!
//! Takes root image, hash tree, UKI and the recipe's `[disk]`; gives a sparse raw disk and its
//! layout. Every id comes from the lock's digest, those of root and hash tree from the root hash.
//! Never mounts, never asks the kernel, never writes a zero that the sparse file already reads
//! as.
//!
//! ```text
//! 1 MiB  ESP     /EFI/BOOT/BOOTX64.EFI = the UKI                           (slots = 1)
//!                /EFI/BOOT/BOOTX64.EFI = systemd-boot, /loader/loader.conf,
//!                /EFI/Linux/NAME_VERSION+TRIES.efi = the UKI                   (slots = 2)
//!        root    NAME_VERSION          its UUID: first half of the root hash
//!        verity  NAME_VERSION_verity   its UUID: second half
//!        root    _empty, verity _empty                                     (slots = 2)
//!        data                                                              (when asked for)
//! end    backup partition table in the last MiB
//! ```

mod copy;
mod entry;
mod plan;
mod upgrade;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use baker_formats::fat::{self, FatError, Volume};
use baker_formats::gpt::{self, GptError};
use baker_formats::verity;
use baker_model::Digest;
use baker_model::layout::{Layout, Role};
use baker_model::recipe::{Architecture, Disk};

pub use entry::{Counter, Entry, UKI_FOLDER};
pub use upgrade::{Upgrade, UpgradeError, Upgraded, entries, images, upgraded};

/// Label of the ESP's file system.
const VOLUME_LABEL: &str = "ESP";

/// What goes onto the disk.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The file to write, replaced when it is there. **Renaming and syncing it are the caller's
    /// job.**
    pub path: &'a Path,
    /// Name of the recipe.
    pub name: &'a str,
    /// Version of the release.
    pub version: &'a str,
    /// Architecture of the target: decides partition types and the boot file's name.
    pub architecture: Architecture,
    /// Digest of the lock: ids are derived from it.
    pub lock: Digest,
    /// Seconds since 1970-01-01 UTC that files on the ESP show.
    pub epoch: i64,
    /// The recipe's `[disk]`.
    pub disk: &'a Disk,
    /// The UKI, signed or not.
    pub uki: &'a [u8],
    /// systemd-boot; needed when the disk has two slots, unused otherwise.
    pub loader: Option<Loader<'a>>,
    /// The root file system image.
    pub root: &'a Path,
    /// Its hash tree.
    pub tree: &'a Path,
    /// Its root hash.
    pub root_hash: [u8; 32],
}

/// systemd-boot and its one setting.
#[derive(Debug, Clone, Copy)]
pub struct Loader<'a> {
    /// The program, signed or not.
    pub program: &'a [u8],
    /// Seconds that the menu is shown.
    pub menu_seconds: u32,
}

/// The disk that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawDisk {
    /// Where everything lies; `layout.size` is the file's size.
    pub layout: Layout,
    /// Bytes that are really in the file, the rest being holes.
    pub data: u64,
}

/// The disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The recipe asks for something other than one or two slots.
    #[error("a disk has 1 or 2 slots, not {slots}")]
    Slots {
        /// Slots asked for.
        slots: u8,
    },
    /// Two slots need systemd-boot, and it was not given.
    #[error("a disk with two slots needs systemd-boot, which the boot package did not give")]
    NoLoader,
    /// Name and version make partition names that a partition table cannot hold.
    #[error("partition name `{label}` is longer than {limit} characters; shorten name or version")]
    Label {
        /// The name.
        label: String,
        /// Characters allowed.
        limit: usize,
    },
    /// The root image does not fit into its slot.
    #[error("the root image has {size} bytes, its slot {slot}; raise `disk.slot-mib`")]
    SlotTooSmall {
        /// Bytes of the image.
        size: u64,
        /// Bytes of the slot.
        slot: u64,
    },
    /// The hash tree does not belong to the image.
    #[error("the hash tree has {found} bytes, one of the root image has {expected}")]
    Tree {
        /// Bytes that the tree of this image has.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A file of the work folder cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk file cannot be made or written.
    #[error("cannot write the disk `{}`", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The EFI system partition cannot be made.
    #[error("cannot make the EFI system partition")]
    Esp(#[source] FatError),
    /// The partition table cannot be made.
    #[error("cannot make the partition table")]
    Table(#[source] GptError),
}

/// Writes the disk: partitions first, the table last, so that a torn file is no disk.
///
/// # Errors
/// See [`DiskError`]. The file is left behind for the caller to remove.
pub fn disk(request: &Request<'_>) -> Result<RawDisk, DiskError> {
    let root = Image::open(request.root)?;
    let tree = Image::open(request.tree)?;
    let expected = verity::hash_size(root.size);
    if tree.size != expected {
        return Err(DiskError::Tree {
            expected,
            found: tree.size,
        });
    }
    let files = boot_files(request)?;
    let layout = plan::plan(
        request,
        root.size,
        files.iter().map(|file| file.bytes.len() as u64),
    )?;
    let failed = |source| DiskError::Write {
        path: request.path.to_owned(),
        source,
    };
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(true);
    let mut out = options.open(request.path).map_err(failed)?;
    out.set_len(layout.size).map_err(failed)?;
    let mut data = 0;
    // The first partition of a role is the one that is filled.
    let place = |role| {
        layout
            .partitions
            .iter()
            .find(move |partition| partition.role == role)
    };
    if let Some(esp) = place(Role::Esp) {
        let volume = Volume {
            offset: esp.offset,
            size: esp.size,
            id: volume_id(request.lock),
            label: VOLUME_LABEL,
            time: request.epoch,
        };
        data += write_esp(&mut out, &volume, &files)?;
    }
    for (image, role) in [(root, Role::Root), (tree, Role::RootVerity)] {
        if let Some(partition) = place(role) {
            data += image.copy(&mut out, partition.offset, request.path)?;
        }
    }
    gpt::write(&layout, &mut out).map_err(DiskError::Table)?;
    Ok(RawDisk { layout, data })
}

/// A file of the ESP.
struct BootFile<'a> {
    path: String,
    bytes: Cow<'a, [u8]>,
}

impl<'a> BootFile<'a> {
    fn new(path: &str, bytes: Cow<'a, [u8]>) -> Self {
        Self {
            path: path.to_owned(),
            bytes,
        }
    }
}

fn boot_files<'a>(request: &Request<'a>) -> Result<Vec<BootFile<'a>>, DiskError> {
    let removable = match request.architecture {
        Architecture::Amd64 => "EFI/BOOT/BOOTX64.EFI",
        Architecture::Arm64 => "EFI/BOOT/BOOTAA64.EFI",
    };
    let file = BootFile::new;
    match request.disk.slots {
        // One version, one copy of it: no loader has to choose.
        1 => Ok(vec![file(removable, request.uki.into())]),
        2 => {
            let loader = request.loader.ok_or(DiskError::NoLoader)?;
            let entry = Entry {
                stem: format!("{}_{}", request.name, request.version),
                counter: Some(Counter {
                    left: request.disk.tries().into(),
                    done: 0,
                }),
            };
            let settings = format!("timeout {}\n", loader.menu_seconds);
            Ok(vec![
                file(removable, loader.program.into()),
                file(&entry.path(), request.uki.into()),
                file("loader/loader.conf", settings.into_bytes().into()),
            ])
        }
        slots => Err(DiskError::Slots { slots }),
    }
}

fn write_esp(
    out: &mut File,
    volume: &Volume<'_>,
    files: &[BootFile<'_>],
) -> Result<u64, DiskError> {
    let mut readers: Vec<&[u8]> = files.iter().map(|file| &*file.bytes).collect();
    let mut sources: Vec<_> = files
        .iter()
        .zip(&mut readers)
        .map(|(file, data)| fat::File {
            path: &file.path,
            size: data.len() as u64,
            data,
        })
        .collect();
    fat::write(out, volume, &mut sources).map_err(DiskError::Esp)
}

fn volume_id(lock: Digest) -> u32 {
    let digest = lock.derive("fat");
    let [a, b, c, d, ..] = *digest.as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// An image in the work folder.
struct Image<'a> {
    path: &'a Path,
    file: File,
    size: u64,
}

impl<'a> Image<'a> {
    fn open(path: &'a Path) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok(Self { path, file, size })
    }

    fn copy(mut self, out: &mut File, offset: u64, disk: &Path) -> Result<u64, DiskError> {
        copy::copy(&mut self.file, self.size, out, offset).map_err(|source| {
            // The one error that only reading gives; all others are mostly the disk's.
            if source.kind() == io::ErrorKind::UnexpectedEof {
                DiskError::Read {
                    path: self.path.to_owned(),
                    source,
                }
            } else {
                DiskError::Write {
                    path: disk.to_owned(),
                    source,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
