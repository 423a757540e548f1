//! What the assemble stage gives and the configure stage takes.

use std::collections::BTreeMap;

use baker_model::Tree;
use baker_model::lock::PackageLock;
use baker_model::tree::TreePath;

/// The root as the packages left it, and what must be known of the packages themselves.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// The root file system; large contents lie in the [`crate::Spool`] that assemble filled.
    pub tree: Tree,
    /// The packages in the order of the lock.
    pub packages: Vec<Package>,
}

/// What a package says of itself, for the bill of materials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageText {
    /// What the lock says of it.
    pub lock: PackageLock,
    /// The text of its `control` file.
    pub control: String,
    /// Its copyright file; none when it brings none.
    pub copyright: Option<Vec<u8>>,
}

/// One package of role root, without its files' contents.
#[derive(Debug, Clone)]
pub struct Package {
    /// What the lock says of it.
    pub lock: PackageLock,
    /// The text of its `control` file.
    pub control: String,
    /// Maintainer scripts and other active members of `control.tar`.
    pub scripts: BTreeMap<Script, Vec<u8>>,
    /// Other members of `control.tar` by name (`md5sums`, `shlibs`, `conffiles`, `templates` ...).
    pub members: BTreeMap<String, Vec<u8>>,
    /// Every path of `data.tar`, directories included, as shipped (before `exclude`).
    pub paths: Vec<TreePath>,
}

/// The members of `control.tar` that dpkg would act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Script {
    /// Before unpacking.
    Preinst,
    /// After unpacking.
    Postinst,
    /// Before removal; never runs in an image.
    Prerm,
    /// After removal; never runs in an image.
    Postrm,
    /// Debconf questions.
    Config,
    /// Trigger interests and activations.
    Triggers,
}

impl Script {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Preinst,
        Self::Postinst,
        Self::Prerm,
        Self::Postrm,
        Self::Config,
        Self::Triggers,
    ];

    /// Name of the member in `control.tar`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preinst => "preinst",
            Self::Postinst => "postinst",
            Self::Prerm => "prerm",
            Self::Postrm => "postrm",
            Self::Config => "config",
            Self::Triggers => "triggers",
        }
    }
}
