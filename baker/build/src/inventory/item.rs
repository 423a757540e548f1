//! One file of an inventory.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use baker_model::Digest;
use baker_model::tree::{Kind, Node, Origin, TreePath};

use super::Fingerprint;

/// Where something lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In the root file system.
    Root,
    /// In the archive that the kernel unpacks before there is a root.
    Initrd,
    /// In the UKI.
    Uki,
    /// On the EFI system partition.
    Esp,
}

impl Place {
    /// Its name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Initrd => "initrd",
            Self::Uki => "uki",
            Self::Esp => "esp",
        }
    }

    /// The place of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Root, Self::Initrd, Self::Uki, Self::Esp];
        all.into_iter().find(|place| place.name() == name)
    }
}

/// Who answers for a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The package of this name.
    Package(Arc<str>),
    /// An entry of the recipe.
    Recipe,
    /// A built-in effect of baker, by name.
    Effect(String),
    /// baker's guest program.
    Guest,
    /// A directory that is there because something lies in it.
    Implied,
    /// Nobody.
    Nobody,
}

impl Owner {
    /// The owner of a node of the root.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        match &node.origin {
            Origin::Package(name) => Self::Package(name.clone()),
            Origin::Recipe => Self::Recipe,
            Origin::Effect(name) => Self::Effect((*name).to_owned()),
            Origin::Implied if node.kind == Kind::Directory => Self::Implied,
            Origin::Implied => Self::Nobody,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(name) => write!(f, "package {name}"),
            Self::Recipe => f.write_str("recipe"),
            Self::Effect(name) => write!(f, "effect {name}"),
            Self::Guest => f.write_str("guest"),
            Self::Implied => f.write_str("implied"),
            Self::Nobody => f.write_str("nobody"),
        }
    }
}

/// The text names no owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no owner")]
pub struct OwnerError(String);

impl FromStr for Owner {
    type Err = OwnerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(' ') {
            Some(("package", name)) if !name.is_empty() => Self::Package(name.into()),
            Some(("effect", name)) if !name.is_empty() => Self::Effect(name.to_owned()),
            None if text == "recipe" => Self::Recipe,
            None if text == "guest" => Self::Guest,
            None if text == "implied" => Self::Implied,
            None if text == "nobody" => Self::Nobody,
            _ => return Err(OwnerError(text.to_owned())),
        })
    }
}

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A regular file.
    File(Fingerprint),
    /// A UEFI program, with its Authenticode digest, which a signature does not change.
    Program(Fingerprint, Digest),
    /// A symbolic link to this target.
    Symlink(String),
    /// A directory.
    Directory,
    /// A device (`c 1:3`, `b 8:0`), a pipe (`p`) or a socket (`s`).
    Special(String),
}

impl What {
    /// The target of a link, readable.
    #[must_use]
    pub fn link(target: &[u8]) -> String {
        readable(target)
    }

    /// A device, pipe or socket in a few letters; none for other kinds.
    #[must_use]
    pub fn special(kind: &Kind) -> Option<String> {
        match kind {
            Kind::CharDevice { major, minor } => Some(format!("c {major}:{minor}")),
            Kind::BlockDevice { major, minor } => Some(format!("b {major}:{minor}")),
            Kind::Fifo => Some("p".to_owned()),
            Kind::Socket => Some("s".to_owned()),
            Kind::Directory | Kind::File { .. } | Kind::Symlink { .. } => None,
        }
    }
}

/// One file of an inventory. Sorted by place and path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Where it lies.
    pub place: Place,
    /// Its path there; a word for what has none.
    pub path: String,
    /// Who answers for it.
    pub owner: Owner,
    /// What it is.
    pub what: What,
}

impl Item {
    /// An item.
    #[must_use]
    pub fn new(place: Place, path: impl Into<String>, owner: Owner, what: What) -> Self {
        let path = path.into();
        Self {
            place,
            path,
            owner,
            what,
        }
    }

    /// Size and digests of a file.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        match &self.what {
            What::File(print) | What::Program(print, _) => Some(print),
            What::Symlink(_) | What::Directory | What::Special(_) => None,
        }
    }
}

/// The path as an inventory has it, with its leading slash.
#[must_use]
pub fn name_of(path: &TreePath) -> String {
    format!("/{}", readable(path.as_bytes()))
}

/// UTF-8 as it is; other bytes escaped, and the backslash then too, so that no two names become one.
pub(super) fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}
