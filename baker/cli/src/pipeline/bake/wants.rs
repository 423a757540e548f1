//! What a bake would look for among results of earlier ones, and which of it the store has: for
//! those who bring it from another machine, or share it with one.
//!
//! Every key comes from the function that the bake itself calls.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use baker_build::image::{PACKED, packed_key};
use baker_build::keep::is_own;
use baker_build::{Keep, Spool};
use baker_fetch::Store;
use baker_model::Digest;
use baker_model::lock::PackageRole;
use baker_model::recipe::Scripts;
use baker_model::tree::INLINE_LIMIT;
use baker_ship::cache::{Blob, Kept, Slot};

use super::boot::INITRD;
use super::sandboxed::{LAYER, Layer};
use super::{BakeRequest, Baking};
use crate::context::Context;
use crate::exit::Failure;

/// What is wanted.
pub struct Wants {
    /// Packed data and the initrd, each wanted for itself.
    pub books: Vec<Slot>,
    /// Chains of layers, each from its top down: whoever has one needs none below it.
    pub chains: Vec<Vec<Slot>>,
}

/// An entry as the store has it.
pub struct Stored {
    /// The file of the result.
    pub result: PathBuf,
    /// The files of the objects that it names.
    pub objects: Vec<(PathBuf, Blob)>,
}

/// What a bake would find.
pub struct Larder<'a> {
    baking: Baking<'a>,
}

impl<'a> Larder<'a> {
    /// What the bake of `request` would find in `store`; `work` is an empty folder for what has to be
    /// unpacked to know it.
    pub fn new(
        request: BakeRequest<'a>,
        store: &'a Store,
        work: &Path,
        context: &'a Context,
    ) -> Self {
        Self {
            baking: Baking::new(request, store, work, context),
        }
    }

    /// Everything that the bake would look for and that costs more to make than to bring.
    ///
    /// # Errors
    /// A recipe whose layers are named by the release of its kernel has a kernel that cannot be read.
    pub fn wants(&self) -> Result<Wants, Failure> {
        let (lock, recipe) = (self.baking.lock, &self.baking.folder.recipe);
        let is_packed = |role| matches!(role, PackageRole::Root | PackageRole::Kernel);
        let packages = lock.packages.iter().filter(|it| is_packed(it.role));
        // Smaller files are packed with what stands around them.
        let files = lock.files.iter().filter(|file| file.size > INLINE_LIMIT);
        let sources = packages
            .map(|package| package.sha256)
            .chain(files.map(|file| file.sha256));
        let mut books: Vec<Slot> = sources.filter_map(|source| self.packed(&source)).collect();
        books.push(Slot {
            kind: INITRD,
            key: self.baking.initrd_key(),
        });
        books.sort();
        books.dedup();
        let mut chains = Vec::new();
        if recipe.needs_sandbox() {
            let layer = |key| Slot { kind: LAYER, key };
            let spool = Spool::new(&self.baking.work).map_err(|error| self.baking.failed(error))?;
            let (kernel, _) = self.baking.kernel(&spool)?;
            if recipe.debian.scripts == Scripts::Sandbox {
                let links = self.baking.links(&kernel.release)?;
                chains.push(links.iter().rev().map(|link| layer(link.key)).collect());
            }
            for stage in &recipe.stages {
                let ground = self.baking.ground(stage, &kernel.release)?;
                let key = self.baking.stage_key(stage, &ground, &kernel.release)?;
                chains.push(vec![layer(key), layer(ground.key)]);
            }
        }
        Ok(Wants { books, chains })
    }

    /// The book of the packed data of an input; none where no such data is kept.
    fn packed(&self, source: &Digest) -> Option<Slot> {
        let key = packed_key(&self.baking.folder.recipe.root, source)?;
        Some(Slot { kind: PACKED, key })
    }

    /// The book of the packed data of a layer that is in the store.
    pub fn packed_of(&self, layer: &Slot) -> Option<Slot> {
        let layer = self.baking.kept(&layer.key)?;
        self.packed(&layer.tree)
    }

    /// True when the bake would find it.
    pub fn has(&self, slot: &Slot) -> bool {
        match slot.kind {
            LAYER => self.baking.kept(&slot.key).is_some(),
            kind => self.keep().find(kind, &slot.key).is_some(),
        }
    }

    /// The files of an entry; none when it is not there, or another user could have written it.
    pub fn find(&self, slot: &Slot) -> Option<Stored> {
        if slot.kind != LAYER {
            let result = self.keep().find(slot.kind, &slot.key)?;
            let objects = Vec::new();
            return Some(Stored { result, objects });
        }
        let layer = self.baking.kept(&slot.key)?;
        let result = self.baking.layer_path(&slot.key);
        let archive = layer.archive();
        let path = self.baking.store.path(&archive.sha256);
        is_own(&File::open(&result).ok()?).then(|| Stored {
            result,
            objects: vec![(path, archive)],
        })
    }

    /// True when the result with these bytes names exactly the objects that were signed with it.
    pub fn fits(slot: &Slot, result: &[u8], kept: &Kept) -> bool {
        let layer: Result<Layer, _> = serde_json::from_slice(result);
        slot.kind == LAYER && layer.is_ok_and(|layer| kept.objects == [layer.archive()])
    }

    /// True for a result that names objects, and so has to be read before it is placed.
    pub fn is_list(slot: &Slot) -> bool {
        slot.kind == LAYER
    }

    /// Name of the file of a result among those of the store.
    pub fn file_name(slot: &Slot) -> String {
        match slot.kind {
            LAYER => format!("{slot}.json"),
            _ => slot.to_string(),
        }
    }

    fn keep(&self) -> &Keep {
        &self.baking.keep
    }
}

/// Bytes of a file.
pub fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}
