//! The forms of disk and root beside the raw disk.

use std::fs;
use std::path::Path;

use baker_build::archive::Archived;
use baker_build::describe::{Bytes, Piece};
use baker_build::{Spool, archive, convert, netboot, oci};
use baker_model::Tree;
use baker_model::layout::Layout;
use baker_model::manifest::FileRole;
use baker_model::recipe::{Format, Recipe};

use super::Names;
use super::bake::{BakeRequest, Baking, size};
use crate::exit::{Exit, Failure};

/// What the forms are made of.
pub(super) struct Parts<'a> {
    /// Where everything lies on the raw disk.
    pub(super) layout: &'a Layout,
    /// The root as a tree.
    pub(super) root: &'a Tree,
    /// Its larger contents.
    pub(super) spool: &'a Spool,
}

/// Modules of the initrd: those of the recipe, and those that its formats need.
pub(super) fn initrd_modules(recipe: &Recipe) -> Vec<String> {
    let mut names = recipe.kernel.modules.clone();
    let formats = recipe.disk.formats.iter();
    for name in formats.flat_map(|format| format.initrd_modules()) {
        if !names.iter().any(|known| known == name) {
            names.push((*name).to_owned());
        }
    }
    names
}

/// Refuses formats named for this bake that the initrd is not made for: it is the same whatever
/// is named, as the recipe decides its bytes.
pub(super) fn check(request: BakeRequest<'_>) -> Result<(), Failure> {
    let recipe = &request.folder.recipe;
    let known = initrd_modules(recipe);
    let lacks = |format: &&Format| {
        let mut needed = format.initrd_modules().iter();
        needed.any(|name| !known.iter().any(|known| known == name))
    };
    match request.formats.unwrap_or_default().iter().find(lacks) {
        None => Ok(()),
        Some(format) => {
            let modules = format.initrd_modules().join(", ");
            let problem = format!("the format `{format}` needs the module {modules} in the initrd");
            let help = format!("add \"{format}\" to `formats` in the recipe's [disk]");
            Err(Failure::message(Exit::Recipe, problem).help(help))
        }
    }
}

impl Baking<'_> {
    /// Makes every form that is asked for.
    pub(super) fn formats(&self, out: &Path, parts: &Parts<'_>) -> Result<Vec<Piece>, Failure> {
        let names = Names::of(&self.folder.recipe);
        let wants = |format| self.formats.contains(&format);
        let mut pieces = Vec::new();
        let mut add = |name: String, role| {
            let bytes = Bytes::File(out.join(&name));
            pieces.push(Piece { name, role, bytes });
        };
        for format in Format::ALL.into_iter().filter(|format| wants(*format)) {
            let name = names.file(format);
            let file = out.join(&name);
            match format {
                // Always there; the archive is made below, for both of its uses.
                Format::Raw | Format::Tar | Format::Oci => continue,
                // Made before the UKIs, which go with it.
                Format::Netboot => {
                    add(names.kernel.clone(), FileRole::Kernel);
                    add(names.netboot_uki.clone(), FileRole::NetbootUki);
                }
                Format::Qcow2 | Format::Vmdk | Format::Vhd | Format::VhdFixed | Format::Iso => {
                    self.convert(&out.join(&names.disk), parts.layout, format, &file)?;
                }
            }
            add(name, format.role());
        }
        if wants(Format::Tar) || wants(Format::Oci) {
            let folder = if wants(Format::Tar) { out } else { &self.work };
            let layer = folder.join(names.file(Format::Tar));
            let archived = self.archive(parts, &layer)?;
            if wants(Format::Tar) {
                add(names.file(Format::Tar), Format::Tar.role());
            }
            if wants(Format::Oci) {
                let name = names.file(Format::Oci);
                self.oci(parts, &layer, archived, &out.join(&name))?;
                add(name, Format::Oci.role());
            }
        }
        Ok(pieces)
    }

    fn convert(
        &self,
        disk: &Path,
        layout: &Layout,
        format: Format,
        out: &Path,
    ) -> Result<(), Failure> {
        let recipe = &self.folder.recipe;
        let request = convert::Request {
            disk,
            layout,
            label: &format!("{}_{}", recipe.name, recipe.version),
            format,
            out,
            lock: self.digest,
            epoch: self.lock.epoch,
            threads: self.threads,
            interrupt: self.context.interrupt(),
        };
        let convert = || convert::convert(&request).map_err(|error| self.failed(error));
        self.stage(format.name(), convert, |bytes| size(*bytes))
            .map(drop)
    }

    /// Writes kernel and initrd for netboot, when they are asked for; gives the initrd. It is held
    /// in memory, as the machines hold it that boot it.
    pub(super) fn netboot(
        &self,
        out: &Path,
        kernel: &[u8],
        initrd: &[u8],
        (root, tree): (&Path, &Path),
    ) -> Result<Option<Vec<u8>>, Failure> {
        if !self.formats.contains(&Format::Netboot) {
            return Ok(None);
        }
        let names = Names::of(&self.folder.recipe);
        let path = out.join(names.file(Format::Netboot));
        let request = netboot::Request {
            initrd,
            root,
            tree,
            epoch: self.lock.epoch,
            out: &path,
        };
        let failed = |error| self.failed(error).context("cannot write the netboot pair");
        let netboot = || {
            fs::write(out.join(&names.kernel), kernel).map_err(failed)?;
            netboot::netboot(&request).map_err(|error| self.failed(error))
        };
        self.stage(Format::Netboot.name(), netboot, |bytes| size(*bytes))?;
        fs::read(&path).map(Some).map_err(failed)
    }

    fn archive(&self, parts: &Parts<'_>, out: &Path) -> Result<Archived, Failure> {
        let request = archive::Request {
            tree: parts.root,
            contents: parts.spool,
            out,
            threads: self.threads,
            interrupt: self.context.interrupt(),
        };
        let archive = || archive::archive(&request).map_err(|error| self.failed(error));
        self.stage(Format::Tar.name(), archive, |done| size(done.size))
    }

    fn oci(
        &self,
        parts: &Parts<'_>,
        layer: &Path,
        archived: Archived,
        out: &Path,
    ) -> Result<(), Failure> {
        let recipe = &self.folder.recipe;
        let request = oci::Request {
            name: &recipe.name,
            version: &recipe.version,
            architecture: recipe.architecture,
            epoch: self.lock.epoch,
            tree: parts.root,
            layer,
            archived,
            out,
        };
        let oci = || oci::oci(&request).map_err(|error| self.failed(error));
        self.stage(Format::Oci.name(), oci, |bytes| size(*bytes))
            .map(drop)
    }
}
