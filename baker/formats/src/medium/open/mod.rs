//! The disk inside an image file, as bytes that can be read at any place.
//!
//! Takes the file; gives the disk. Tables are read when they are needed and a few of them kept, so
//! memory does not grow with the image. Own readers, since they are small, since no kept crate
//! reads all three, and since what a stranger's image may make this program do is decided here.
//!
//! ```text
//! qcow2   header, L1 table -> L2 tables -> clusters, each plain, zero, or compressed
//! vmdk    header (or its copy at the end), grain directory -> grain tables -> grains, each plain
//!         or behind a marker and compressed
//! vhd     fixed: the disk, then a footer; dynamic: block table -> { sector bitmap, block }
//! ```

mod clusters;
mod qcow2;
mod vhd;
mod vmdk;

use std::io;
use std::sync::Arc;

use super::{Kind, MediumError, identify};
use crate::io::{Part, Source};
use clusters::{Clustered, Clusters};

/// An opened image.
#[derive(Clone)]
pub struct Medium {
    /// What the file is.
    pub kind: Kind,
    /// The disk in it.
    pub disk: Part,
}

/// Opens the disk in the image file `file`.
///
/// # Errors
/// As [`identify`]; also when the tables of the image contradict themselves or its size.
pub fn open(file: Part) -> Result<Medium, MediumError> {
    let kind = identify(&mut file.clone())?;
    let disk = match kind {
        Kind::Raw | Kind::Iso => file,
        Kind::Qcow2 => clustered(qcow2::open(file)?),
        Kind::Vmdk => clustered(vmdk::open(file)?),
        Kind::Vhd => match vhd::open(file)? {
            vhd::Vhd::Fixed(disk) => disk,
            vhd::Vhd::Dynamic(blocks) => clustered(blocks),
        },
    };
    Ok(Medium { kind, disk })
}

fn clustered(clusters: impl Clusters + 'static) -> Part {
    let size = clusters.disk_size();
    let source: Arc<dyn Source + Send> = Arc::new(Clustered(clusters));
    Part::new(source, size)
}

/// The error of an image whose tables make no sense.
fn damaged(problem: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the image is damaged: {problem}"),
    )
}

#[cfg(test)]
mod tests;
