//! The stages from packages to a sealed root: assemble, configure, image, verity; and what is read
//! of the root on the way.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use baker_build::inventory::{self, Item};
use baker_build::{
    Assembled, PackageText, Spool, assemble, configure, dpkg_database, hygiene, image, kernel,
    modules, overlay, slots, verity,
};
use baker_model::event::Outcome;
use baker_model::recipe::Scripts;
use baker_model::{Digest, Tree};

use super::super::{hygiene as hygiene_gate, materials, smoke};
use super::sandboxed::Layer;
use super::{Baking, size};
use crate::exit::Failure;

/// The root as it goes onto the disk.
pub(super) struct Sealed {
    pub(super) image: PathBuf,
    pub(super) tree: PathBuf,
    pub(super) root_hash: Digest,
}

/// The root before kernel modules, and what is known of it.
pub(super) struct Root {
    pub(super) tree: Tree,
    /// What its packages say of themselves.
    pub(super) texts: Vec<PackageText>,
    /// What the packages' scripts did, when they ran.
    pub(super) ran: Option<Layer>,
    /// What the recipe's stages made.
    pub(super) stages: Vec<Layer>,
}

impl Baking<'_> {
    /// What must not be in the root; looked for while it is packed.
    pub(super) fn hygiene(&self, root: &Tree, spool: &Spool) -> Result<hygiene::Report, Failure> {
        let recipe = &self.folder.recipe;
        let releases = self.work.parent();
        let request = hygiene::Request {
            tree: root,
            contents: spool,
            terms: &recipe.hygiene,
            day: smoke::today(),
            last_size: releases.and_then(|releases| hygiene_gate::last_size(releases, recipe)),
            threads: NonZeroUsize::MIN,
            interrupt: self.context.interrupt(),
        };
        self.stage(
            hygiene::STAGE,
            || hygiene::hygiene(request).map_err(|error| self.failed(error)),
            hygiene_gate::summary,
        )
    }

    /// Kernel and modules; stub and loader.
    pub(super) fn kernel(
        &self,
        spool: &Spool,
    ) -> Result<(kernel::KernelParts, kernel::BootParts), Failure> {
        let (request, machine) = (self.kernel_request(), self.folder.recipe.architecture);
        let read = || -> Result<_, assemble::AssembleError> {
            let kernel = kernel::kernel(request, spool)?;
            Ok((kernel, kernel::boot_parts(request, machine, spool)?))
        };
        self.stage_as(
            "kernel",
            || read().map_err(|error| self.assembly(error)),
            |(kernel, boot)| {
                let how = match kernel.is_reused && boot.is_reused {
                    true => Outcome::Reused,
                    false => Outcome::Done,
                };
                (how, kernel.release.clone())
            },
        )
    }

    pub(super) fn kernel_request(&self) -> kernel::Request<'_> {
        kernel::Request {
            lock: self.lock,
            inputs: self.store,
            keep: Some(&self.keep),
            interrupt: self.context.interrupt(),
        }
    }

    /// The root as packages and recipe want it, still without kernel modules; and what its
    /// packages say of themselves.
    pub(super) fn root(
        &self,
        spool: &Spool,
        kernel: Option<&kernel::KernelParts>,
    ) -> Result<Root, Failure> {
        let epoch = self.lock.epoch;
        let request = assemble::Request {
            lock: self.lock,
            inputs: self.store,
            keep: Some(&self.keep),
            spool,
            threads: self.threads,
            limits: assemble::Limits::default(),
            clashes: assemble::Clashes::of(self.folder.recipe.debian.scripts),
            listener: self.context.listener(),
            interrupt: self.context.interrupt(),
        };
        let mut ran = None;
        let mut assembled = assemble::assemble(request).map_err(|error| self.assembly(error))?;
        dpkg_database::record(&mut assembled, spool, epoch).map_err(|error| self.failed(error))?;
        let texts = inventory::texts(&assembled, spool).map_err(|error| self.failed(error))?;
        if let (Scripts::Sandbox, Some(kernel)) = (self.folder.recipe.debian.scripts, kernel) {
            let (scripted, layer) = self.scripts(assembled, kernel, spool)?;
            (assembled, ran) = (scripted, Some(layer));
        }
        let stages = match kernel {
            Some(kernel) => self.stages(kernel, spool)?,
            None => Vec::new(),
        };
        let (tree, _) = self.stage(
            configure::STAGE,
            || self.configured(assembled, &stages, spool),
            |(_, report)| format!("{} scripts covered", report.scripts.len()),
        )?;
        Ok(Root {
            tree,
            texts,
            ran,
            stages,
        })
    }

    /// Owner and digests of every file.
    pub(super) fn files(&self, root: &Tree, spool: &Spool) -> Result<Vec<Item>, Failure> {
        let (recipe, interrupt) = (&self.folder.recipe, self.context.interrupt());
        self.stage(
            "inventory",
            || {
                materials::files(recipe, root, spool, self.threads, interrupt)
                    .map_err(|error| self.inventory(error))
            },
            |files| format!("{} files", files.len()),
        )
    }

    /// Effects and accounts, then what stages made and the recipe's own files, then all that must
    /// see those.
    pub(super) fn configured(
        &self,
        assembled: Assembled,
        stages: &[Layer],
        spool: &Spool,
    ) -> Result<(Tree, configure::ConfigureReport), Failure> {
        let (recipe, epoch) = (&self.folder.recipe, self.lock.epoch);
        let mut configured = configure::prepare(assembled, recipe, spool, epoch)
            .map_err(|error| self.failed(error))?;
        let overlay = |error: overlay::OverlayError| {
            let help = error.hint();
            self.failed(error).help_if(help)
        };
        overlay::identity(&mut configured.tree, recipe, spool, epoch).map_err(overlay)?;
        self.take_outputs(&mut configured.tree, stages, spool)?;
        let locate = |name: &str| self.folder.locate(name);
        let request = overlay::Request {
            recipe,
            lock: self.lock,
            locate: &locate,
            stored: &|digest| self.store.path(digest),
            spool,
        };
        overlay::files(&mut configured.tree, request).map_err(overlay)?;
        configure::finish(configured, recipe, spool, epoch, self.context.listener())
            .map_err(|error| self.failed(error))
    }

    pub(super) fn install_modules(
        &self,
        root: &mut Tree,
        kernel: &kernel::KernelParts,
        spool: &Spool,
    ) -> Result<(), Failure> {
        let selection = slots::root_modules(&self.folder.recipe);
        modules::install(root, &kernel.modules, spool, &selection, self.lock.epoch)
            .map(drop)
            .map_err(|error| self.failed(error))
    }

    pub(super) fn leave_out(&self, root: &mut Tree) -> Result<(), Failure> {
        let patterns = &self.folder.recipe.root.exclude;
        let removed = overlay::exclude(root, patterns, "configure", self.context.listener());
        removed.map(drop).map_err(|error| self.failed(error))
    }

    /// Root image and hash tree.
    pub(super) fn seal(&self, root: &Tree, spool: &Spool) -> Result<Sealed, Failure> {
        let image = self.work.join("root.image");
        let request = image::Request {
            tree: root,
            contents: spool,
            keep: Some(&self.keep),
            root: &self.folder.recipe.root,
            lock: &self.digest,
            epoch: self.lock.epoch,
            threads: self.threads,
            out: &image,
            listener: self.context.listener(),
            interrupt: self.context.interrupt(),
        };
        image::image(request).map_err(|error| self.failed(error))?;
        let tree = self.work.join("root.verity");
        let request = verity::Request {
            image: &image,
            tree: &tree,
            lock: self.digest,
            threads: self.threads.get(),
        };
        let hash_tree = self.stage(
            "verity",
            || verity::verity(&request).map_err(|error| self.failed(error)),
            |tree| size(tree.hash_size),
        )?;
        Ok(Sealed {
            image,
            tree,
            root_hash: Digest::from_bytes(hash_tree.root_hash),
        })
    }
}
