//! What can go wrong while the root is assembled.

use std::fmt;
use std::io;

use baker_formats::deb;
use baker_model::tree::TreePath;
use baker_model::{Digest, ObjectError};

use super::control::ParagraphError;

/// The root cannot be assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The package file is not in the store, or the store cannot be read.
    #[error("cannot open package {package} ({file})")]
    Input {
        /// Package name.
        package: String,
        /// Path of the file in the archive.
        file: String,
        /// Why.
        #[source]
        source: ObjectError,
    },
    /// The stored file cannot be read.
    #[error("cannot read package {package} ({file})")]
    Read {
        /// Package name.
        package: String,
        /// Path of the file in the archive.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The stored file is not the one that the lock names.
    #[error("package {package} ({file}) is not what the lock names: {difference}")]
    Altered {
        /// Package name.
        package: String,
        /// Path of the file in the archive.
        file: String,
        /// What was expected and what is there.
        difference: Box<Difference>,
    },
    /// The file is the one locked, but it is no sound package.
    #[error("package {package} ({file}) cannot be unpacked")]
    Broken {
        /// Package name.
        package: String,
        /// Path of the file in the archive.
        file: String,
        /// What is wrong, and at which offset.
        #[source]
        source: Box<deb::DebError>,
    },
    /// The bytes of a file cannot be read from the package.
    #[error("package {package}: the content of `{entry}` at byte {offset} of its data is damaged")]
    Content {
        /// Package name.
        package: String,
        /// The entry as shipped.
        entry: String,
        /// Offset of its header in the uncompressed `data.tar`.
        offset: u64,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// An entry of the package cannot be part of an image.
    #[error("package {package}: entry `{entry}` at byte {offset} of its data: {refusal}")]
    Refused {
        /// Package name.
        package: String,
        /// The entry as shipped.
        entry: String,
        /// Offset of its header in the uncompressed `data.tar`.
        offset: u64,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// The control file cannot be used.
    #[error("package {package}: its control file cannot be read")]
    Control {
        /// Package name.
        package: String,
        /// What is wrong, and in which line.
        #[source]
        source: ParagraphError,
    },
    /// The package calls itself something else than the lock does.
    #[error(
        "package {package}: its control file says {field} `{found}`, the lock says `{expected}`"
    )]
    Misnamed {
        /// Package name in the lock.
        package: String,
        /// The field.
        field: &'static str,
        /// What the lock says.
        expected: String,
        /// What the package says.
        found: String,
    },
    /// The package has no control file, or one that is no text.
    #[error("package {package} has no control file that is text")]
    NoControl {
        /// Package name.
        package: String,
    },
    /// Packages ship the same paths and none replaces the other.
    #[error("packages ship the same paths: {conflicts}")]
    Conflicts {
        /// Every such path.
        conflicts: Conflicts,
    },
    /// The contents cannot be kept in the work folder.
    #[error("cannot keep the contents of package {package} in the work folder")]
    Spool {
        /// Package name.
        package: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The packages of the lock lack a file that the stage needs.
    #[error("no package of role {role} holds {what}")]
    Lacking {
        /// `kernel` or `boot`.
        role: &'static str,
        /// The file.
        what: String,
    },
    /// Two packages hold a file of which there can be one.
    #[error("more than one kernel is locked: {first} and {second}")]
    Ambiguous {
        /// The first found.
        first: String,
        /// Another.
        second: String,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl AssembleError {
    /// What mends it, when that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Input { .. } | Self::Altered { .. } => {
                Some("run `baker fetch`: it fetches every input that is missing or altered")
            }
            Self::Conflicts { .. } => {
                Some("leave one of the packages out of the recipe, then run `baker lock`")
            }
            Self::Spool { .. } => Some("free space in the work folder, or choose another one"),
            Self::Lacking { .. } | Self::Ambiguous { .. } => {
                Some("correct the package names under [kernel] and [boot], then run `baker lock`")
            }
            _ => None,
        }
    }
}

/// Size and digest of a file; what a lock knows of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Digest,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with SHA-256 {}", self.size, self.sha256)
    }
}

/// What the lock says of a file, and what the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Size and digest in the lock.
    pub expected: Fingerprint,
    /// Size and digest of the bytes that are there.
    pub found: Fingerprint,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

/// Why an entry cannot be part of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a path inside the tree.
    #[error("its path {0}")]
    Path(&'static str),
    /// A directory above it is a symlink that climbs above the root.
    #[error("the symlink {0} above it leaves the root")]
    LeavesRoot(TreePath),
    /// Symlinks above it never end.
    #[error("the symlink {0} above it leads round in a circle")]
    Loop(TreePath),
    /// Something above it is no directory.
    #[error("{0} above it is no directory")]
    NotADirectory(TreePath),
    /// A hard link to something that the package has not shipped before.
    #[error("it is a hard link to `{0}`, which is no file that came before it")]
    HardLink(String),
    /// The same path twice in one package.
    #[error("the package ships {0} twice")]
    Twice(TreePath),
    /// A symlink without a target, or with one that is too long.
    #[error("its target is empty or longer than 4095 bytes")]
    Target,
    /// More than this stage takes.
    #[error("{what}: the limit is {limit}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// Paths that two packages ship.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicts(pub Vec<Conflict>);

/// One path that two packages ship.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Where it lies in the tree.
    pub path: TreePath,
    /// The package merged first.
    pub first: String,
    /// The other.
    pub second: String,
}

/// So many conflicts are spelt out; two packages can share hundreds of paths.
const SHOWN: usize = 5;

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, conflict) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(
                f,
                "{comma}{} ({} and {})",
                conflict.path, conflict.first, conflict.second
            )?;
        }
        match self.0.len().checked_sub(SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, " and {more} more"),
        }
    }
}
