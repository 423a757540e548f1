//! What a disk image file is, judged by its own bytes.
//!
//! Takes a seekable image that somebody else made, gives its kind. Nothing is trusted: an image
//! that would make QEMU open further files (a qcow2 or VMDK over a parent, data beside the file)
//! is refused, because those names come from whoever made the image and could name any file of
//! this machine. Never writes, never follows a name.
//!
//! After QEMU's `docs/interop/qcow2.txt`, VMware's "Virtual Disk Format 1.1", Microsoft's
//! "Virtual Hard Disk Image Format Specification" and ECMA-119 section 8.

mod open;
mod qcow2;
mod vhd;
mod vmdk;

use std::io::{self, Read, Seek, SeekFrom};

pub use open::{Medium, open};

/// Where the first volume descriptor of ISO 9660 lies: sector 16 of 2048 bytes.
const ISO_DESCRIPTOR: usize = 16 * 2048;

/// Bytes at the start that decide the kind.
const HEAD: usize = ISO_DESCRIPTOR + 8;

/// What a disk image file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The disk's own bytes.
    Raw,
    /// QEMU copy-on-write, version 2 or 3.
    Qcow2,
    /// VMware, everything in one sparse file.
    Vmdk,
    /// Virtual PC, fixed or dynamic.
    Vhd,
    /// ISO 9660. One that can also be written to a stick as it is ("isohybrid") counts as this.
    Iso,
}

impl Kind {
    /// The lower-case name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Iso => "iso",
        }
    }
}

/// An image that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// It cannot be read.
    #[error("cannot read the image")]
    Read(#[from] io::Error),
    /// There is nothing in it.
    #[error("the image is empty")]
    Empty,
    /// It is only part of a disk: the rest is in a file that it names.
    #[error("the {} image is not whole: its {what} is another file, `{name}`", kind.name())]
    Reference {
        /// What the image is.
        kind: Kind,
        /// Which part is elsewhere.
        what: &'static str,
        /// The name of the other file, as the image has it; shortened.
        name: String,
    },
    /// It is of a kind, or has a feature, that is not taken.
    #[error("the image is {what}")]
    Unsupported {
        /// What it is, with an article.
        what: &'static str,
        /// What makes a usable image of it.
        mend: &'static str,
    },
}

impl MediumError {
    /// What a person can do about it; none when only another image helps.
    #[must_use]
    pub fn mend(&self) -> Option<&'static str> {
        match self {
            Self::Read(_) | Self::Empty => None,
            Self::Reference { .. } => Some(
                "where you trust the image and the file that it names, make one whole image of \
                 both: qemu-img convert -O qcow2 IMAGE WHOLE.qcow2",
            ),
            Self::Unsupported { mend, .. } => Some(mend),
        }
    }
}

const CONVERT: &str = "convert it: qemu-img convert -O qcow2 IMAGE NEW.qcow2";
const UNPACK: &str = "unpack it and name the disk image inside";

/// Kinds that are recognised to be refused well: offset, magic, what it is, what helps.
const STRANGERS: [(usize, &[u8], &str, &str); 12] = [
    (0, b"vhdxfile", "a VHDX image", CONVERT),
    (
        0x40,
        b"\x7f\x10\xda\xbe",
        "a VirtualBox image (VDI)",
        CONVERT,
    ),
    (0, b"COWD", "an old VMware image (COWD)", CONVERT),
    (0, b"QED\0", "a QED image", CONVERT),
    (0, b"\x1f\x8b", "compressed with gzip", UNPACK),
    (0, b"\xfd7zXZ\0", "compressed with xz", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed with Zstandard", UNPACK),
    (0, b"BZh", "compressed with bzip2", UNPACK),
    (0, b"PK\x03\x04", "a ZIP archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (
        257,
        b"ustar",
        "a tar archive (OVA and Vagrant boxes are such)",
        UNPACK,
    ),
    (
        0,
        b"\x7fELF",
        "a program, no disk image",
        "a kernel is named with --kernel, and its initrd with --initrd",
    ),
];

/// Says what `image` is.
///
/// # Errors
/// See [`MediumError`].
pub fn identify(image: &mut (impl Read + Seek)) -> Result<Kind, MediumError> {
    let size = image.seek(SeekFrom::End(0))?;
    if size == 0 {
        return Err(MediumError::Empty);
    }
    let head = read_at(image, 0, HEAD)?;
    if head.starts_with(qcow2::MAGIC) {
        qcow2::check(&head)?;
        return Ok(Kind::Qcow2);
    }
    if head.starts_with(vmdk::MAGIC) {
        vmdk::check(image, size)?;
        return Ok(Kind::Vmdk);
    }
    if vmdk::is_descriptor(&head) {
        return Err(MediumError::Reference {
            kind: Kind::Vmdk,
            what: "data",
            name: vmdk::first_extent(&head),
        });
    }
    for (offset, magic, what, mend) in STRANGERS {
        if head.get(offset..).is_some_and(|at| at.starts_with(magic)) {
            return Err(MediumError::Unsupported { what, mend });
        }
    }
    let tail = read_at(image, size.saturating_sub(vhd::FOOTER), 512)?;
    for footer in [&head, &tail] {
        if vhd::is_footer(footer) {
            vhd::check(footer)?;
            return Ok(Kind::Vhd);
        }
    }
    let descriptor = head.get(ISO_DESCRIPTOR + 1..).unwrap_or_default();
    if descriptor.starts_with(b"CD001") {
        return Ok(Kind::Iso);
    }
    Ok(Kind::Raw)
}

/// Up to `length` bytes from `offset`, fewer where the image ends.
fn read_at(image: &mut (impl Read + Seek), offset: u64, length: usize) -> io::Result<Vec<u8>> {
    image.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    image.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The bytes of a field; none where the header ends before it.
fn field<const N: usize>(header: &[u8], offset: usize) -> Option<[u8; N]> {
    header.get(offset..)?.first_chunk().copied()
}

/// A name out of an image, fit to be shown.
fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]);
    text.trim_matches(['\0', ' ', '"']).to_owned()
}

#[cfg(test)]
mod tests;
