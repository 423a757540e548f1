//! The netboot stage: an initrd that carries the root.
//!
//! Takes the initrd of the disk, root image and hash tree; gives one file: that initrd and,
//! behind it, an archive of the two images, as they are. A machine that got kernel and this
//! initrd over a network comes up without a disk, by the same command line and the same root
//! hash. Never changes what it takes.
//!
//! The kernel unpacks archives that follow each other, packed or not, when each begins at a
//! multiple of 4 bytes (`Documentation/driver-api/early-userspace/buffer-format.rst`). The images
//! are compressed themselves, so their archive is not.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use baker_contract::{CARRIED_ROOT, CARRIED_TREE};
use baker_formats::cpio::{CpioError, Kind, Metadata, Writer};

/// Bytes gathered before a write.
const BUFFER: usize = 1 << 20;

/// Where an archive may begin.
const ALIGNMENT: usize = 4;

/// What is put together.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The initrd of the disk, packed or not.
    pub initrd: &'a [u8],
    /// The root file system image.
    pub root: &'a Path,
    /// Its hash tree.
    pub tree: &'a Path,
    /// Seconds since 1970-01-01 UTC that every entry shows; held inside the format's 32 bits.
    pub epoch: i64,
    /// The file to write; must not be there.
    pub out: &'a Path,
}

/// The initrd cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NetbootError {
    /// An image cannot be opened.
    #[error("cannot read {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the netboot initrd {}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The images do not go into an archive.
    #[error("cannot put the root into the netboot initrd")]
    Cpio(#[from] CpioError),
}

/// Writes the initrd; gives its bytes.
///
/// # Errors
/// See [`NetbootError`]. The file is left behind for the caller to remove.
pub fn netboot(request: &Request<'_>) -> Result<u64, NetbootError> {
    let failed = |source| NetbootError::Write {
        path: request.out.to_owned(),
        source,
    };
    let file = File::create_new(request.out).map_err(failed)?;
    let mut out = BufWriter::with_capacity(BUFFER, file);
    let length = request.initrd.len();
    let padding = length.next_multiple_of(ALIGNMENT) - length;
    out.write_all(request.initrd)
        .and_then(|()| out.write_all(&[0; ALIGNMENT][..padding]))
        .map_err(failed)?;
    let mut archive = Writer::new(out);
    for folder in folders() {
        archive.append(folder, metadata(request, 0o755), Kind::Directory)?;
    }
    for (name, path) in [(CARRIED_ROOT, request.root), (CARRIED_TREE, request.tree)] {
        let unreadable = |source| NetbootError::Read {
            path: path.to_owned(),
            source,
        };
        let mut data = File::open(path).map_err(unreadable)?;
        let size = data.metadata().map_err(unreadable)?.len();
        let kind = Kind::File {
            size,
            data: &mut data,
        };
        archive.append(relative(name), metadata(request, 0o400), kind)?;
    }
    let mut out = archive.finish()?;
    out.flush().map_err(failed)?;
    let written = out.get_ref().metadata().map_err(failed)?;
    Ok(written.len())
}

/// The folders above the images, outermost first.
fn folders() -> impl Iterator<Item = &'static str> {
    let path = relative(CARRIED_ROOT);
    path.match_indices('/').map(move |(at, _)| &path[..at])
}

fn relative(path: &'static str) -> &'static str {
    path.trim_start_matches('/')
}

fn metadata(request: &Request<'_>, mode: u16) -> Metadata {
    let mtime = request.epoch.clamp(0, i64::from(u32::MAX));
    Metadata {
        mode,
        // In range by the clamp.
        mtime: u32::try_from(mtime).unwrap_or_default(),
        ..Metadata::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_follow_the_initrd_at_an_aligned_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("root"), [7; 8192]).unwrap();
        std::fs::write(path("tree"), [9; 4096]).unwrap();
        for length in 5..9 {
            let out = path(&length.to_string());
            let size = netboot(&Request {
                initrd: &vec![1; length],
                root: &path("root"),
                tree: &path("tree"),
                epoch: 1,
                out: &out,
            })
            .unwrap();
            let bytes = std::fs::read(out).unwrap();
            assert_eq!(bytes.len() as u64, size);
            let start = length.next_multiple_of(4);
            assert_eq!(&bytes[start..start + 6], b"070701");
            let names: Vec<&str> = ["lib", "lib/baker", "lib/baker/root.image"].into();
            assert_eq!(
                folders()
                    .chain([relative(CARRIED_ROOT)])
                    .collect::<Vec<_>>(),
                names
            );
            assert!(bytes.windows(8192).any(|window| window == [7; 8192]));
            assert!(bytes.windows(4096).any(|window| window == [9; 4096]));
        }
    }

    #[test]
    fn a_missing_image_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = netboot(&Request {
            initrd: &[],
            root: &folder.path().join("root"),
            tree: &folder.path().join("tree"),
            epoch: 0,
            out: &folder.path().join("out"),
        });
        let said = error.unwrap_err().to_string();
        assert!(
            said.contains("cannot read") && said.ends_with("/root"),
            "{said}"
        );
    }
}
