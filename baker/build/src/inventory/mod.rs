//! What is in a release: every package, every file with its owner and digest.
//!
//! Takes the finished root, the boot programs and what packages say of themselves; gives the
//! [`Inventory`], from which bills of materials are written and by which a disk is accounted for.
//! Reads contents that are spooled already, decides nothing and writes nothing. A digest that is
//! known is taken over; only SHA-1, which SPDX 2.3 wants of every file, is computed here.

mod copyright;
mod fingerprint;
mod item;
mod licence;
mod package;
#[cfg(test)]
mod tests;

use std::io;
use std::num::NonZeroUsize;

use baker_formats::pe::{PeError, authenticode};
use baker_model::lock::PackageRole;
use baker_model::tree::{Contents, Kind, Node, Origin};
use baker_model::{Digest, Interrupt, Lock, Recipe, Tree};

pub use copyright::Licensing;
pub use fingerprint::Fingerprint;
pub use item::{Item, Owner, OwnerError, Place, What, name_of};
pub use package::{PackageFacts, texts};

use crate::PackageText;

/// How many paths an error names.
const NAMED: usize = 10;

/// Everything that is in a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The packages, sorted by name, architecture and version.
    pub packages: Vec<PackageFacts>,
    /// The files, sorted by place and path.
    pub items: Vec<Item>,
}

/// What [`files`] needs.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The root as it goes into the image.
    pub tree: &'a Tree,
    /// Where its large files are.
    pub contents: &'a dyn Contents,
    /// The recipe, for its budget.
    pub recipe: &'a Recipe,
    /// How many files are hashed at once; never changes the result.
    pub threads: NonZeroUsize,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

/// What boots the root: parts of the UKI, and what lies beside it on the ESP.
#[derive(Clone, Copy)]
pub struct BootRequest<'a> {
    /// Which packages have the roles `kernel` and `boot`.
    pub lock: &'a Lock,
    /// Files of the initrd by path.
    pub initrd: &'a [(String, Vec<u8>)],
    /// The kernel image.
    pub kernel: &'a [u8],
    /// systemd-stub as its package has it.
    pub stub: &'a [u8],
    /// systemd-boot as its package has it; none when it is not on the disk.
    pub loader: Option<&'a [u8]>,
    /// The UKI that was made of them, unsigned.
    pub uki: &'a [u8],
}

/// There is no inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// A file cannot be read back.
    #[error("cannot read {path} for the inventory")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// More files without an owner than the recipe allows.
    #[error(
        "{found} files belong to nobody, {budget} may: {}{}", paths.join(", "),
        if *found > paths.len() { ", ..." } else { "" }
    )]
    Unowned {
        /// How many.
        found: usize,
        /// How many may.
        budget: u32,
        /// The first of them.
        paths: Vec<String>,
    },
    /// A boot program is no PE file.
    #[error("cannot read the {what} for the inventory")]
    Program {
        /// Which.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: PeError,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl InventoryError {
    /// What mends it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let Self::Unowned { found, .. } = self else {
            return None;
        };
        Some(format!(
            "let a package or the recipe bring these files, exclude them in [root], or allow them: \
             [sbom] unowned-files = {found}"
        ))
    }
}

/// Every node of the root, with owner and digests.
///
/// # Errors
/// See [`InventoryError`].
pub fn files(request: Request<'_>) -> Result<Vec<Item>, InventoryError> {
    check_budget(request.tree, request.recipe.sbom.unowned_files)?;
    let contents: Vec<_> = request
        .tree
        .walk()
        .filter_map(|(path, node)| match &node.kind {
            Kind::File { content, .. } => Some((path, content)),
            _ => None,
        })
        .collect();
    let mut prints = fingerprint::all(&contents, &request)?.into_iter();
    let item = |(path, node): (&_, &Node)| Item {
        place: Place::Root,
        path: name_of(path),
        owner: Owner::of(node),
        what: match &node.kind {
            Kind::Directory => What::Directory,
            Kind::File { .. } => What::File(prints.next().unwrap_or_default()),
            Kind::Symlink { target } => What::Symlink(What::link(target)),
            kind => What::Special(What::special(kind).unwrap_or_default()),
        },
    };
    Ok(request.tree.walk().map(item).collect())
}

/// A directory that only holds what has owners needs none itself.
fn check_budget(tree: &Tree, budget: u32) -> Result<(), InventoryError> {
    let nobodys = tree
        .walk()
        .filter(|(_, node)| node.origin == Origin::Implied && node.kind != Kind::Directory);
    let mut paths: Vec<String> = nobodys.map(|(path, _)| name_of(path)).collect();
    let found = paths.len();
    if u32::try_from(found).is_ok_and(|found| found <= budget) {
        return Ok(());
    }
    paths.truncate(NAMED);
    Err(InventoryError::Unowned {
        found,
        budget,
        paths,
    })
}

/// What boots the root.
///
/// # Errors
/// See [`InventoryError`].
pub fn boot(request: BootRequest<'_>) -> Result<Vec<Item>, InventoryError> {
    let of_role = |role: PackageRole| {
        let package = request.lock.packages.iter().find(|p| p.role == role);
        package.map_or(Owner::Nobody, |p| Owner::Package(p.name.as_str().into()))
    };
    let (kernel, boot) = (of_role(PackageRole::Kernel), of_role(PackageRole::Boot));
    let mut items = Vec::new();
    for (path, bytes) in request.initrd {
        let owner = match path.as_str() {
            "init" => Owner::Guest,
            path if path.ends_with(".ko") => kernel.clone(),
            _ => Owner::Effect("initrd".to_owned()),
        };
        let what = What::File(Fingerprint::of(bytes));
        items.push(Item::new(Place::Initrd, format!("/{path}"), owner, what));
    }
    let program = |what: &'static str, bytes: &[u8]| {
        authenticode::digest(bytes)
            .map(|digest| What::Program(Fingerprint::of(bytes), digest))
            .map_err(|source| InventoryError::Program { what, source })
    };
    let image = What::File(Fingerprint::of(request.kernel));
    let (stub, uki) = (
        program("UEFI stub", request.stub)?,
        program("UKI", request.uki)?,
    );
    let made = Owner::Effect("uki".to_owned());
    items.extend([
        Item::new(Place::Uki, "linux", kernel, image),
        Item::new(Place::Uki, "stub", boot.clone(), stub),
        Item::new(Place::Esp, "uki", made, uki),
    ]);
    if let Some(loader) = request.loader {
        let loader = program("boot loader", loader)?;
        items.push(Item::new(Place::Esp, "loader", boot, loader));
    }
    Ok(items)
}

/// Puts files and packages together.
#[must_use]
pub fn inventory(mut items: Vec<Item>, packages: &[PackageText]) -> Inventory {
    items.sort();
    let mut packages: Vec<PackageFacts> = packages.iter().map(PackageFacts::of).collect();
    packages.sort_by(|a, b| a.key().cmp(&b.key()));
    Inventory { packages, items }
}

impl Inventory {
    /// Items that belong to `owner`.
    pub fn of<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = &'a Item> {
        self.items.iter().filter(move |item| item.owner == *owner)
    }

    /// The digest of the guest program.
    #[must_use]
    pub fn guest(&self) -> Option<Digest> {
        let item = self.of(&Owner::Guest).next()?;
        item.fingerprint().map(|print| print.sha256)
    }
}
