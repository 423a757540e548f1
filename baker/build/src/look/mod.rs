//! Looking into a disk without mounting it: what lies on it, and what its root holds.
//!
//! Takes the bytes of an image file, whoever made it: raw, qcow2, vmdk or vhd with a GPT, an MBR
//! or no table; or a tar archive, also a compressed one. Gives its partitions, its root as an
//! opened volume, the programs that firmware would start, and a [`Survey`] of what is installed.
//! Memory grows with the number of names, never with the size of the disk. Never writes, never
//! runs anything, opens no file but the one given and a nameless temporary one.

#[cfg(test)]
pub(crate) mod fixture;
mod packages;
mod program;
mod size;
mod survey;
mod systemd;
mod table;
#[cfg(test)]
mod tests;
mod unpack;

use std::io;

use baker_formats::io::Part;
use baker_formats::medium::{self, MediumError};
use baker_formats::volume::{Content, Format, Volume, VolumeError, probe};
use baker_model::tree::TreePath;
use serde::Serialize;

pub use packages::{InstalledPackage, Owners};
pub use program::{Program, ProgramSection};
pub use size::human;
pub use survey::{CommandLine, KernelModules, Privileged, Survey, survey};
pub use systemd::Unit;

/// What lies on a disk.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// What the file is: `raw`, `qcow2`, `vmdk`, `vhd`, `iso`, `tar`.
    pub medium: &'static str,
    /// Bytes of the file.
    pub file_size: u64,
    /// Bytes of the disk in it.
    pub disk_size: u64,
    /// `gpt`, `mbr` or `none`.
    pub table: &'static str,
    /// The partitions by their place; one without a name and type when there is no table.
    pub partitions: Vec<Partition>,
}

/// One partition.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Partition {
    /// Number in the table, from 1.
    pub number: u32,
    /// Its name; empty when the table has no names.
    pub name: String,
    /// Its type: a name when it is a known one, else as the table has it.
    pub kind: String,
    /// Its own UUID; empty when the table has none.
    pub uuid: String,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub size: u64,
    /// What it holds, by its first bytes.
    pub content: &'static str,
    /// Why its content cannot be read, when it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// An opened disk.
pub struct Look {
    /// What lies on it.
    pub disk: Disk,
    /// Its root, and the number of the partition that it lies in.
    pub root: Option<(u32, Volume)>,
    /// What firmware could start, sorted by path.
    pub programs: Vec<Program>,
}

/// The image cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// It cannot be read.
    #[error("cannot read the image")]
    Read(#[source] io::Error),
    /// It is no disk image that is known.
    #[error("cannot open the image")]
    Medium(#[from] MediumError),
    /// Its table cannot be read.
    #[error("cannot read the partition table")]
    Table(#[from] baker_formats::gpt::GptError),
    /// It is a volume as a whole, and that cannot be read.
    #[error("cannot open the image")]
    Volume(#[from] VolumeError),
}

/// Looks into the image `file`.
///
/// # Errors
/// See [`LookError`]. A partition that cannot be read is no error but a fact of the answer.
pub fn look(file: Part) -> Result<Look, LookError> {
    let file_size = file.size();
    if let Some((archive, packing)) = unpack::archive(&file).map_err(LookError::Read)? {
        return whole(archive, packing, file_size, Format::Tar);
    }
    let opened = medium::open(file)?;
    let disk = opened.disk;
    let content = probe(&disk).map_err(LookError::Read)?;
    let kind = opened.kind.name();
    if let Content::Volume(format) = content {
        return whole(disk, kind, file_size, format);
    }
    let (table, mut partitions) = table::read(&disk)?;
    let mut found = Found::default();
    for partition in &mut partitions {
        found.open(&disk, partition);
    }
    Ok(Look {
        disk: Disk {
            medium: kind,
            file_size,
            disk_size: disk.size(),
            table,
            partitions,
        },
        root: found.root,
        programs: found.programs,
    })
}

/// An image that is one volume, without a table.
fn whole(
    part: Part,
    medium: &'static str,
    file_size: u64,
    format: Format,
) -> Result<Look, LookError> {
    let size = part.size();
    let volume = Volume::open(part, format)?;
    let programs = program::find(&volume);
    Ok(Look {
        disk: Disk {
            medium,
            file_size,
            disk_size: size,
            table: "none",
            partitions: vec![Partition {
                number: 1,
                name: String::new(),
                kind: String::new(),
                uuid: String::new(),
                offset: 0,
                size,
                content: format.name(),
                problem: None,
            }],
        },
        root: Some((1, volume)),
        programs,
    })
}

/// What the partitions gave so far.
#[derive(Default)]
struct Found {
    root: Option<(u32, Volume)>,
    programs: Vec<Program>,
}

impl Found {
    fn open(&mut self, disk: &Part, partition: &mut Partition) {
        let range = partition.offset..partition.offset.saturating_add(partition.size);
        let Some(part) = disk.part(range) else {
            partition.problem = Some("it does not lie on the disk".to_owned());
            return;
        };
        let content = match probe(&part) {
            Ok(content) => content,
            Err(error) => {
                partition.problem = Some(error.to_string());
                return;
            }
        };
        partition.content = content.name();
        // The second slot of a root is as large as the first and tells nothing new.
        let Content::Volume(format) = content else {
            return;
        };
        if self.root.is_some() && format != Format::Fat {
            return;
        }
        match Volume::open(part, format) {
            Ok(volume) if format == Format::Fat => {
                self.programs.extend(program::find(&volume));
                self.programs
                    .sort_by(|one, other| one.path.cmp(&other.path));
            }
            Ok(volume) if is_root(&volume) => self.root = Some((partition.number, volume)),
            Ok(_) => {}
            Err(error) => {
                let cause = error.source.to_string();
                partition.problem = Some(format!("{error}: {cause}"));
            }
        }
    }
}

/// True for a volume that a system could run from.
fn is_root(volume: &Volume) -> bool {
    ["etc", "usr", "bin"]
        .iter()
        .filter_map(|name| TreePath::new(name).ok())
        .filter(|path| volume.entries().contains_key(path))
        .count()
        >= 2
}
