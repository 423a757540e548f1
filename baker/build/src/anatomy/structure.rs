//! What a byte of a disk can belong to, and what it would mean to damage it.

use std::fmt;

use baker_formats::{erofs, fat};

/// What a byte of a disk belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Structure {
    /// Sector 0.
    Mbr(MbrPart),
    /// A copy of the partition table.
    Table {
        /// Which copy.
        copy: Copy,
        /// Which part of it.
        part: TablePart,
    },
    /// Between partitions and table.
    Gap,
    /// The FAT volume of the ESP, up to the content of files that are no programs.
    Esp(EspPart),
    /// A program (a PE file) on the ESP.
    Program {
        /// Its path.
        path: String,
        /// Which part of it.
        part: ProgramPart,
    },
    /// A root file system.
    Root {
        /// Name of the partition.
        partition: String,
        /// Which part of it.
        part: RootPart,
    },
    /// A hash tree.
    HashTree {
        /// Name of the partition.
        partition: String,
        /// Which part of it.
        part: TreePart,
    },
    /// A partition for data, or with content that nobody here knows.
    Data {
        /// Name of the partition.
        partition: String,
    },
    /// A partition that waits for its first content.
    Blank {
        /// Name of the partition.
        partition: String,
    },
}

/// Copies of the partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Copy {
    /// At the beginning of the disk.
    Primary,
    /// At its end.
    Backup,
}

/// Parts of sector 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MbrPart {
    /// Boot code and disk signature, for BIOSes.
    BootCode,
    /// The entry that protects the disk from programs that know no GPT, and the three unused ones.
    Entries,
    /// The two last bytes.
    Signature,
}

/// Parts of a copy of the partition table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TablePart {
    /// The header.
    Header,
    /// The rest of its sector.
    HeaderRest,
    /// The entry of the partition of this name.
    Entry(String),
    /// Entries without a partition.
    FreeEntries,
}

/// Parts of the ESP's file system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EspPart {
    /// What belongs to no content.
    Volume(fat::Part),
    /// Entries in a directory for this path.
    Entry(String),
    /// Times in them; label, `.` and `..`.
    EntryNotes(String),
    /// Free entries of this directory.
    FreeEntries(String),
    /// Content of a file that is no program.
    File(String),
    /// Bytes behind the end of this file in its last cluster.
    Slack(String),
}

/// Parts of a PE file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProgramPart {
    /// DOS header and stub.
    DosHeader,
    /// PE signature, COFF and optional header.
    Headers,
    /// The checksum of the optional header.
    CheckSum,
    /// Where the certificate table lies.
    CertificateEntry,
    /// The section table.
    SectionTable,
    /// A section.
    Section(String),
    /// Fill behind a section.
    SectionPadding(String),
    /// The certificate table: the signature.
    Certificates,
    /// Fill between headers and sections, and what follows the last one.
    Padding,
}

/// Parts of a root file system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RootPart {
    /// A part of EROFS, and the path that it belongs to.
    Erofs(erofs::Part, Option<String>),
    /// A table of `SquashFS`.
    Squashfs(SquashfsPart),
    /// Behind the end of the file system.
    Rest,
}

/// Tables of `SquashFS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SquashfsPart {
    /// The superblock.
    SuperBlock,
    /// Compressor options, data blocks and fragments.
    Data,
    /// Inodes.
    Inodes,
    /// Directories.
    Directories,
    /// Where fragments lie.
    Fragments,
    /// Inodes by number.
    Exports,
    /// Owners and groups.
    Owners,
    /// Extended attributes.
    Attributes,
}

/// Parts of a hash tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TreePart {
    /// The superblock.
    SuperBlock,
    /// Its UUID.
    Uuid,
    /// What lies between and behind its fields.
    SuperBlockRest,
    /// Hashes of blocks of the level below; level 0 lies over the data.
    Level(u32),
    /// Behind the tree.
    Rest,
}

/// What damage to a structure can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: no one reads it, and this is why.
    Unused(&'static str),
    /// Nothing while its other copy is whole.
    Copied(&'static str),
    /// It only says where things are, or which, that are checked when found.
    Pointer(&'static str),
    /// It must be noticed.
    Content,
}

impl Structure {
    /// What damage to it can do.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self {
            Self::Mbr(MbrPart::BootCode) => Standing::Unused("UEFI runs no code of the MBR"),
            Self::Mbr(_) => {
                Standing::Pointer("the partition table behind it has its own checksums")
            }
            Self::Table { part, .. } => match part {
                TablePart::HeaderRest => Standing::Unused("the sector's rest is reserved"),
                _ => Standing::Copied("the other copy of the partition table is good"),
            },
            Self::Gap => Standing::Unused("it belongs to no partition"),
            Self::Esp(part) => part.standing(),
            Self::Program { part, .. } => part.standing(),
            Self::Root { part, .. } => match part {
                RootPart::Rest => Standing::Unused("it lies behind the file system"),
                _ => Standing::Content,
            },
            Self::HashTree { part, .. } => match part {
                TreePart::Rest => Standing::Unused("it lies behind the hash tree"),
                TreePart::SuperBlockRest => Standing::Unused("no field of the superblock is there"),
                TreePart::Uuid => Standing::Unused("it names the device for people only"),
                TreePart::SuperBlock | TreePart::Level(_) => Standing::Content,
            },
            Self::Data { .. } => Standing::Unused("data is not part of what is verified"),
            Self::Blank { .. } => Standing::Unused("the partition is empty"),
        }
    }

    /// The same without paths of the root: structures of one kind are as good as each other when
    /// a sample is taken.
    #[must_use]
    pub fn kind(&self) -> Self {
        match self {
            Self::Root {
                partition,
                part: RootPart::Erofs(part, Some(_)),
            } => Self::Root {
                partition: partition.clone(),
                part: RootPart::Erofs(*part, None),
            },
            other => other.clone(),
        }
    }
}

impl EspPart {
    fn standing(&self) -> Standing {
        const FINDS: &str = "it only leads to programs that the firmware verifies";
        match self {
            Self::Volume(part) => match part {
                fat::Part::BootSector | fat::Part::Table(0) => Standing::Pointer(FINDS),
                fat::Part::BootNotes => Standing::Unused("UEFI reads none of these fields"),
                fat::Part::Information => Standing::Unused("it holds hints for writers only"),
                fat::Part::BackupBoot => Standing::Copied("the first boot sector is good"),
                fat::Part::Table(_) => Standing::Copied("the first allocation table is good"),
                fat::Part::FreeTable(_) | fat::Part::FreeClusters => {
                    Standing::Unused("the clusters are free")
                }
                _ => Standing::Unused("it belongs to no file"),
            },
            Self::Entry(_) => Standing::Pointer(FINDS),
            Self::EntryNotes(_) => Standing::Unused("the firmware looks at no times and labels"),
            Self::File(_) => {
                Standing::Pointer("it only chooses among programs that the firmware verifies")
            }
            Self::FreeEntries(_) => Standing::Unused("the entries are free"),
            Self::Slack(_) => Standing::Unused("it lies behind the end of the file"),
        }
    }
}

impl ProgramPart {
    fn standing(&self) -> Standing {
        match self {
            Self::CheckSum => Standing::Unused("UEFI does not look at it"),
            // A certificate can be written in more than one way; what it vouches for was checked.
            Self::Certificates => {
                Standing::Pointer("the program that the signature vouches for was verified")
            }
            _ => Standing::Content,
        }
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr(part) => f.write_str(match part {
                MbrPart::BootCode => "MBR boot code",
                MbrPart::Entries => "MBR entries",
                MbrPart::Signature => "MBR signature",
            }),
            Self::Table { copy, part } => {
                f.write_str(match copy {
                    Copy::Primary => "primary GPT",
                    Copy::Backup => "backup GPT",
                })?;
                match part {
                    TablePart::Header => f.write_str(" header"),
                    TablePart::HeaderRest => f.write_str(" header sector, rest"),
                    TablePart::Entry(name) => write!(f, " entry of {name}"),
                    TablePart::FreeEntries => f.write_str(" free entries"),
                }
            }
            Self::Gap => f.write_str("gap between partitions"),
            Self::Esp(part) => write!(f, "ESP {part}"),
            Self::Program { path, part } => write!(f, "{path} {part}"),
            Self::Root { partition, part } => write!(f, "root {partition} {part}"),
            Self::HashTree { partition, part } => match part {
                TreePart::SuperBlock => write!(f, "hash tree {partition} superblock"),
                TreePart::Uuid => write!(f, "hash tree {partition} UUID"),
                TreePart::SuperBlockRest => write!(f, "hash tree {partition} superblock, rest"),
                TreePart::Level(level) => write!(f, "hash tree {partition} level {level}"),
                TreePart::Rest => write!(f, "hash tree {partition} rest"),
            },
            Self::Data { partition } => write!(f, "data of {partition}"),
            Self::Blank { partition } => write!(f, "empty partition {partition}"),
        }
    }
}

impl fmt::Display for EspPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(part) => match part {
                fat::Part::BootSector => f.write_str("boot sector"),
                fat::Part::BootNotes => f.write_str("boot sector notes"),
                fat::Part::Information => f.write_str("FSInfo"),
                fat::Part::BackupBoot => f.write_str("backup boot sector"),
                fat::Part::Reserved => f.write_str("reserved sectors"),
                fat::Part::Table(copy) => write!(f, "FAT {} used entries", copy + 1),
                fat::Part::FreeTable(copy) => write!(f, "FAT {} free entries", copy + 1),
                fat::Part::FreeClusters => f.write_str("free clusters"),
                fat::Part::Tail => f.write_str("tail"),
                fat::Part::Entry | fat::Part::EntryNotes | fat::Part::FreeEntries => {
                    f.write_str("directory")
                }
                fat::Part::File(_) | fat::Part::FileSlack => f.write_str("file"),
            },
            Self::Entry(path) => write!(f, "entry of {path}"),
            Self::EntryNotes(path) => write!(f, "entry notes of {path}"),
            Self::FreeEntries(path) => write!(f, "free entries of {path}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Slack(path) => write!(f, "slack of {path}"),
        }
    }
}

impl fmt::Display for ProgramPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DosHeader => f.write_str("DOS header"),
            Self::Headers => f.write_str("PE headers"),
            Self::CheckSum => f.write_str("PE checksum"),
            Self::CertificateEntry => f.write_str("certificate directory"),
            Self::SectionTable => f.write_str("section table"),
            Self::Section(name) => write!(f, "section {name}"),
            Self::SectionPadding(name) => write!(f, "padding of {name}"),
            Self::Certificates => f.write_str("certificate table"),
            Self::Padding => f.write_str("padding"),
        }
    }
}

impl fmt::Display for RootPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Erofs(part, path) => {
                f.write_str(match part {
                    erofs::Part::Front => "EROFS boot area",
                    erofs::Part::SuperBlock => "EROFS superblock",
                    erofs::Part::Codecs => "EROFS codec configuration",
                    erofs::Part::Data => "EROFS file data",
                    erofs::Part::Directory => "EROFS directory",
                    erofs::Part::Target => "EROFS link target",
                    erofs::Part::Inode => "EROFS inode",
                    erofs::Part::Attributes => "EROFS attributes",
                    erofs::Part::SharedAttributes => "EROFS shared attributes",
                    erofs::Part::Index => "EROFS index",
                    erofs::Part::Tail => "EROFS tail",
                    erofs::Part::Padding => "EROFS padding",
                })?;
                path.iter().try_for_each(|path| write!(f, " of {path}"))
            }
            Self::Squashfs(part) => f.write_str(match part {
                SquashfsPart::SuperBlock => "SquashFS superblock",
                SquashfsPart::Data => "SquashFS data",
                SquashfsPart::Inodes => "SquashFS inodes",
                SquashfsPart::Directories => "SquashFS directories",
                SquashfsPart::Fragments => "SquashFS fragment table",
                SquashfsPart::Exports => "SquashFS export table",
                SquashfsPart::Owners => "SquashFS owner table",
                SquashfsPart::Attributes => "SquashFS attributes",
            }),
            Self::Rest => f.write_str("rest"),
        }
    }
}
