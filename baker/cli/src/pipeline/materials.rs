//! The bill of materials of a bake: what the stages know, put together.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use baker_build::describe::{Bytes, Piece};
use baker_build::inventory::{self, BootRequest, InventoryError, Item};
use baker_build::kernel::{BootParts, KernelParts};
use baker_build::sbom::{self, Documents};
use baker_build::{PackageText, Spool, hygiene};
use baker_fetch::{Presence, Store, StoreError};
use baker_model::manifest::FileRole;
use baker_model::recipe::Format;
use baker_model::tree::{Kind, LastLink, TreePath};
use baker_model::{Digest, Interrupt, Lock, Recipe, Tree};

use super::Names;
use crate::source::RecipeFolder;

/// The stage that only a recipe with Secure Boot has.
pub const SIGN_BOOT: &str = "sign-boot";

/// The last stage of a bake.
const DESCRIBE: &str = "describe";

/// The stages up to the raw disk, in the order in which data flows; some run at the same time.
const STAGES: [&str; 12] = [
    "kernel",
    "assemble",
    "configure",
    "initrd",
    "image",
    "verity",
    "inventory",
    hygiene::STAGE,
    "uki",
    "sbom",
    SIGN_BOOT,
    "disk",
];

/// The name of a stage, of those that bakes have; the last one's when it is none of them.
pub fn stage_named(name: &str) -> &'static str {
    let known = STAGES.into_iter().find(|stage| *stage == name);
    known.unwrap_or(DESCRIBE)
}

/// The stages of a bake, for its provenance.
pub fn stages(is_signed: bool, formats: &[Format]) -> Vec<String> {
    let to_disk = STAGES
        .into_iter()
        .filter(|stage| is_signed || *stage != SIGN_BOOT);
    // The layer of an OCI image is the archive.
    let is_made = |format: &Format| match format {
        Format::Raw => false,
        Format::Tar => formats.contains(&Format::Tar) || formats.contains(&Format::Oci),
        other => formats.contains(other),
    };
    let forms = Format::ALL.into_iter().filter(is_made).map(Format::name);
    let all = to_disk.chain(forms).chain([DESCRIBE]);
    all.map(str::to_owned).collect()
}

/// Puts the recipe's local files into the store, so that all inputs of a release are there when
/// it is bundled.
pub fn keep_local(folder: &RecipeFolder, lock: &Lock, store: &Store) -> Result<(), StoreError> {
    for file in &lock.files {
        if store.presence(&file.sha256, file.size)? != Presence::Present {
            store.put_file(&folder.locate(&file.path))?;
        }
    }
    Ok(())
}

/// An initrd and what is in it.
pub struct Packed {
    /// The packed bytes.
    pub bytes: Vec<u8>,
    /// Its files by path.
    pub files: Vec<(String, Vec<u8>)>,
}

/// What all of a bill of materials is made of.
pub struct Materials<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Its lock.
    pub lock: &'a Lock,
    /// The files of the root.
    pub files: Vec<Item>,
    /// What the packages of the root say of themselves.
    pub packages: &'a [PackageText],
    /// Kernel and modules.
    pub kernel: &'a KernelParts,
    /// Stub and loader.
    pub boot: &'a BootParts,
    /// True when the loader is on the disk.
    pub has_loader: bool,
    /// The initrd.
    pub initrd: &'a Packed,
    /// The UKI, unsigned.
    pub uki: &'a [u8],
    /// The root's `os-release`.
    pub os_release: &'a [u8],
}

/// Owner and digests of every file of the root.
pub fn files(
    recipe: &Recipe,
    tree: &Tree,
    spool: &Spool,
    threads: NonZeroUsize,
    interrupt: &Interrupt,
) -> Result<Vec<Item>, InventoryError> {
    inventory::files(inventory::Request {
        tree,
        contents: spool,
        recipe,
        threads,
        interrupt,
    })
}

impl Materials<'_> {
    /// The documents.
    pub fn documents(self) -> Result<Documents, InventoryError> {
        let mut items = self.files;
        items.extend(inventory::boot(BootRequest {
            lock: self.lock,
            initrd: &self.initrd.files,
            kernel: &self.kernel.image,
            stub: &self.boot.stub,
            loader: self.has_loader.then_some(&self.boot.loader),
            uki: self.uki,
        })?);
        let of_boot = self.kernel.packages.iter().chain(&self.boot.packages);
        let packages: Vec<PackageText> = self.packages.iter().chain(of_boot).cloned().collect();
        Ok(sbom::sbom(sbom::Request {
            recipe: self.recipe,
            lock: self.lock,
            inventory: &inventory::inventory(items, &packages),
            os_release: self.os_release,
            baker_version: env!("CARGO_PKG_VERSION"),
        }))
    }
}

/// Writes the documents into the draft and gives them as files of the release.
pub fn write(documents: &Documents, names: &Names, out: &Path) -> std::io::Result<[Piece; 2]> {
    let put = |name: &str, role, bytes: &[u8]| -> std::io::Result<Piece> {
        fs::write(out.join(name), bytes)?;
        Ok(Piece {
            name: name.to_owned(),
            role,
            bytes: Bytes::Known {
                size: bytes.len() as u64,
                sha256: Digest::of(bytes),
            },
        })
    };
    Ok([
        put(&names.spdx, FileRole::Spdx, &documents.spdx)?,
        put(&names.cyclonedx, FileRole::Cyclonedx, &documents.cyclonedx)?,
    ])
}

/// The bytes of one file of the tree.
pub fn file(tree: &Tree, spool: &Spool, path: &str) -> anyhow::Result<Vec<u8>> {
    let wanted = TreePath::new(path)?;
    let found = tree.resolve(&wanted, LastLink::Follow);
    let node = found.and_then(|path| tree.get(&path));
    let Some(Kind::File { content, .. }) = node.map(|node| &node.kind) else {
        anyhow::bail!("the root has no {wanted}");
    };
    Ok(spool.read(content)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_follow_from_what_is_made() {
        let plain = stages(false, &[Format::Raw]);
        assert!(!plain.iter().any(|stage| stage == SIGN_BOOT));
        assert_eq!(plain[plain.len() - 2..], ["disk", "describe"]);
        let more = stages(true, &[Format::Oci, Format::Qcow2]);
        let end = ["sign-boot", "disk", "qcow2", "tar", "oci", "describe"];
        assert_eq!(more[more.len() - end.len()..], end);
    }
}
