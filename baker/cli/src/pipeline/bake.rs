//! From lock and store to a draft: the stages assemble to describe.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use baker_build::describe::{Bytes, Piece};
use baker_build::inventory::{self, InventoryError, Item};
use baker_build::sbom::Documents;
use baker_build::{
    Assembled, PackageText, Spool, assemble, configure, describe, disk, dpkg_database, hygiene,
    image, initrd, kernel, modules, overlay, slots, uki, verity,
};
use baker_contract::ROOT_HASH_KEY;
use baker_fetch::{Presence, Store};
use baker_model::event::Outcome;
use baker_model::manifest::FileRole;
use baker_model::recipe::Format;
use baker_model::{Digest, Event, Lock, Manifest, Tree};

use super::formats::{self, Parts};
use super::hygiene as hygiene_gate;
use super::materials::{self, Materials, Packed};
use super::{Adopted, BootKeys, LOCK, Names, RECIPE, secure_boot, smoke};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::guest;
use crate::program;
use crate::source::RecipeFolder;
use crate::workdir::WorkFolder;

/// What a request to sign calls the boot loader.
const LOADER: &str = "systemd-boot";

/// A folder like a release, but untested and unsigned.
#[derive(Debug)]
pub struct Draft {
    /// The folder.
    pub path: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
}

/// What is baked.
#[derive(Debug, Clone, Copy)]
pub struct BakeRequest<'a> {
    /// The recipe.
    pub folder: &'a RecipeFolder,
    /// Its lock, checked.
    pub lock: &'a Lock,
    /// Who signs what firmware starts; nobody when the recipe does not ask for Secure Boot.
    pub boot_keys: Option<&'a BootKeys>,
    /// Forms of disk and root to make instead of the recipe's; always beside the raw disk.
    pub formats: Option<&'a [Format]>,
    /// A release whose signatures are taken over, when there are no keys.
    pub adopted: Option<&'a Adopted>,
    /// Threads; all CPUs when not given.
    pub threads: Option<NonZeroUsize>,
}

/// Bakes into `to/<name>-<version>.draft`.
pub fn bake_draft(
    request: BakeRequest<'_>,
    to: &Path,
    context: &Context,
) -> Result<Draft, Failure> {
    let names = Names::of(&request.folder.recipe);
    refuse_draft(to, &names)?;
    let work = work_folder(to, &names, context)?;
    let draft = bake(request, &work, context)?;
    let draft = place(draft, to, &names, context)?;
    context.show_timings();
    Ok(draft)
}

/// Says early what [`place`] would say late.
pub fn refuse_draft(to: &Path, names: &Names) -> Result<(), Failure> {
    let target = draft_folder(to, names);
    if target.exists() {
        let problem = format!("{} is already there", target.display());
        let help = format!(
            "remove it (rm -r {}), or name another folder with --to",
            target.display()
        );
        return Err(Failure::message(Exit::Build, problem).help(help));
    }
    Ok(())
}

fn draft_folder(to: &Path, names: &Names) -> PathBuf {
    to.join(format!("{}.draft", names.folder))
}

/// Gives a draft its manifest and its place, `to/<name>-<version>.draft`.
pub fn place(draft: Draft, to: &Path, names: &Names, context: &Context) -> Result<Draft, Failure> {
    let target = draft_folder(to, names);
    let write = |error| {
        context
            .failure(Exit::Build, error)
            .context(format!("cannot write {}", target.display()))
    };
    let manifest = draft.path.join(baker_ship::MANIFEST);
    fs::write(manifest, draft.manifest.to_bytes()).map_err(write)?;
    fs::rename(&draft.path, &target).map_err(write)?;
    Ok(Draft {
        path: target,
        ..draft
    })
}

/// The hidden folder for the work, beside the result.
pub fn work_folder(to: &Path, names: &Names, context: &Context) -> Result<WorkFolder, Failure> {
    WorkFolder::new(to, &names.folder).map_err(|error| {
        context
            .failure(Exit::Build, error)
            .context(format!("cannot write into {}", to.display()))
            .help("name a folder that you can write to with --to")
    })
}

/// Bakes into the folder `draft` of the work folder. The manifest is given, not written: tests
/// are yet to be added to it.
pub fn bake(
    request: BakeRequest<'_>,
    work: &WorkFolder,
    context: &Context,
) -> Result<Draft, Failure> {
    formats::check(request)?;
    let store = context.store()?;
    keep_local_files(request, &store).map_err(|error| {
        context
            .failure(Exit::Build, error)
            .context("cannot keep the local files of the recipe in the store")
    })?;
    let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let baking = Baking {
        folder: request.folder,
        lock: request.lock,
        digest: request.lock.digest(),
        boot_keys: request.boot_keys,
        formats: request
            .formats
            .unwrap_or(&request.folder.recipe.disk.formats),
        adopted: request.adopted,
        store: &store,
        work: work.path().to_owned(),
        threads: request.threads.unwrap_or_else(cores),
        context,
    };
    materials::keep_local(request.folder, request.lock, baking.store)
        .map_err(|error| baking.failed(error))?;
    let path = work.path().join("draft");
    fs::create_dir(&path).map_err(|error| baking.failed(error))?;
    let manifest = baking.run(&path)?;
    Ok(Draft { path, manifest })
}

/// Puts the local files of the recipe into the store: with the packages, it then has all that a
/// release was made of, and the release can be baked again after the recipe has moved on.
fn keep_local_files(request: BakeRequest<'_>, store: &Store) -> anyhow::Result<()> {
    for file in &request.lock.files {
        if store.presence(&file.sha256, file.size)? != Presence::Present {
            store.put_file(&request.folder.path.join(&file.path))?;
        }
    }
    Ok(())
}

/// One bake: what all its stages share.
pub(super) struct Baking<'a> {
    pub(super) folder: &'a RecipeFolder,
    pub(super) lock: &'a Lock,
    pub(super) digest: Digest,
    boot_keys: Option<&'a BootKeys>,
    pub(super) formats: &'a [Format],
    adopted: Option<&'a Adopted>,
    store: &'a Store,
    pub(super) work: PathBuf,
    pub(super) threads: NonZeroUsize,
    pub(super) context: &'a Context,
}

impl Baking<'_> {
    fn run(&self, out: &Path) -> Result<Manifest, Failure> {
        let spool = Spool::new(&self.work).map_err(|error| self.failed(error))?;
        // The kernel package is large and has nothing to do with the others: it is read beside
        // them, and its initrd is packed while the root is.
        let (root, kernel) = thread::scope(|scope| {
            let kernel = scope.spawn(|| self.kernel(&spool));
            // Read once, long before the manifest asks for it.
            scope.spawn(program::digest);
            (self.root(&spool), joined(kernel))
        });
        let ((mut root, packages), (kernel, boot)) = (root?, kernel?);
        self.install_modules(&mut root, &kernel, &spool)?;
        self.leave_out(&mut root)?;
        let (sealed, initrd, files, hygiene) = thread::scope(|scope| {
            let initrd = scope.spawn(|| self.initrd(&kernel, &spool));
            let files = scope.spawn(|| self.files(&root, &spool));
            let hygiene = scope.spawn(|| self.hygiene(&root, &spool));
            let sealed = self.seal(&root, &spool);
            (sealed, joined(initrd), joined(files), joined(hygiene))
        });
        let (sealed, initrd, files, hygiene) = (sealed?, initrd?, files?, hygiene?);
        let os_release = materials::file(&root, &spool, "usr/lib/os-release")
            .map_err(|error| self.failed(error))?;
        let uki = self.stage(
            "uki",
            || self.uki(&os_release, &kernel, &boot, &initrd.bytes, &sealed),
            |uki| size(uki.bytes.len() as u64),
        )?;
        let materials = Materials {
            recipe: &self.folder.recipe,
            lock: self.lock,
            files,
            packages: &packages,
            kernel: &kernel,
            boot: &boot,
            initrd: &initrd,
            uki: &uki.bytes,
            os_release: &os_release,
        };
        let (signed, documents) = thread::scope(|scope| {
            let documents = scope.spawn(|| self.documents(materials));
            (self.sign_boot(&uki), joined(documents))
        });
        let (uki, documents) = (signed?, documents?);
        let disk = self.disk(out, &sealed, &uki)?;
        let parts = Parts {
            layout: &disk.layout,
            root: &root,
            spool: &spool,
            kernel: &kernel.image,
            initrd: &initrd.bytes,
            image: &sealed.image,
            tree: &sealed.tree,
        };
        let mut pieces = self.formats(out, &parts)?;
        let written = materials::write(&documents, &Names::of(&self.folder.recipe), out);
        pieces.extend(written.map_err(|error| self.failed(error))?);
        let mut manifest = self.finish(out, &sealed, pieces)?;
        let terms = &self.folder.recipe.hygiene;
        manifest.waivers.extend(hygiene.waivers(terms));
        manifest.hygiene = Some(hygiene.fact());
        hygiene_gate::warn(&hygiene, terms, hygiene::STAGE, self.context.listener());
        Ok(manifest)
    }

    /// What must not be in the root; looked for while it is packed.
    fn hygiene(&self, root: &Tree, spool: &Spool) -> Result<hygiene::Report, Failure> {
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
    fn kernel(&self, spool: &Spool) -> Result<(kernel::KernelParts, kernel::BootParts), Failure> {
        let (request, machine) = (self.kernel_request(), self.folder.recipe.architecture);
        let read = || -> Result<_, assemble::AssembleError> {
            let kernel = kernel::kernel(request, spool)?;
            Ok((kernel, kernel::boot_parts(request, machine)?))
        };
        self.stage(
            "kernel",
            || read().map_err(|error| self.assembly(error)),
            |(kernel, _)| kernel.release.clone(),
        )
    }

    fn kernel_request(&self) -> kernel::Request<'_> {
        kernel::Request {
            lock: self.lock,
            inputs: self.store,
            threads: 1,
            interrupt: self.context.interrupt(),
        }
    }

    /// The root as packages and recipe want it, still without kernel modules; and what its
    /// packages say of themselves.
    fn root(&self, spool: &Spool) -> Result<(Tree, Vec<PackageText>), Failure> {
        let epoch = self.lock.epoch;
        let request = assemble::Request {
            lock: self.lock,
            inputs: self.store,
            spool,
            threads: self.threads,
            limits: assemble::Limits::default(),
            listener: self.context.listener(),
            interrupt: self.context.interrupt(),
        };
        let mut assembled = assemble::assemble(request).map_err(|error| self.assembly(error))?;
        dpkg_database::record(&mut assembled, spool, epoch).map_err(|error| self.failed(error))?;
        let texts = inventory::texts(&assembled, spool).map_err(|error| self.failed(error))?;
        self.stage(
            configure::STAGE,
            || self.configured(assembled, spool),
            |(_, report)| format!("{} scripts covered", report.scripts.len()),
        )
        .map(|(tree, _)| (tree, texts))
    }

    /// Owner and digests of every file.
    fn files(&self, root: &Tree, spool: &Spool) -> Result<Vec<Item>, Failure> {
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

    fn documents(&self, materials: Materials<'_>) -> Result<Documents, Failure> {
        self.stage(
            "sbom",
            || materials.documents().map_err(|error| self.inventory(error)),
            |documents| size((documents.spdx.len() + documents.cyclonedx.len()) as u64),
        )
    }

    /// Effects and accounts, then the recipe's own files, then all that must see those.
    fn configured(
        &self,
        assembled: Assembled,
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
        let request = overlay::Request {
            recipe,
            lock: self.lock,
            folder: &self.folder.path,
            spool,
        };
        overlay::files(&mut configured.tree, request).map_err(overlay)?;
        configure::finish(configured, recipe, spool, epoch, self.context.listener())
            .map_err(|error| self.failed(error))
    }

    fn install_modules(
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

    fn leave_out(&self, root: &mut Tree) -> Result<(), Failure> {
        let patterns = &self.folder.recipe.root.exclude;
        let removed = overlay::exclude(root, patterns, "configure", self.context.listener());
        removed.map(drop).map_err(|error| self.failed(error))
    }

    fn initrd(&self, kernel: &kernel::KernelParts, spool: &Spool) -> Result<Packed, Failure> {
        self.stage(
            "initrd",
            || self.packed_initrd(kernel, spool),
            |initrd| size(initrd.bytes.len() as u64),
        )
    }

    fn packed_initrd(
        &self,
        kernel: &kernel::KernelParts,
        spool: &Spool,
    ) -> Result<Packed, Failure> {
        let recipe = &self.folder.recipe;
        let request = modules::InitrdRequest {
            kernel: &kernel.modules,
            contents: spool,
            names: &formats::initrd_modules(recipe),
            optional: slots::optional_initrd_modules(recipe),
            root_format: recipe.root.format,
        };
        let modules = modules::initrd_modules(request).map_err(|error| self.failed(error))?;
        let modules: Vec<_> = modules
            .into_iter()
            .map(|module| initrd::Module {
                path: module.path,
                bytes: module.bytes,
                is_driver: module.is_driver,
            })
            .collect();
        let guest = guest::program(recipe.architecture)?;
        if Digest::of(&guest) != self.lock.guest.sha256 {
            let problem = "the guest program changed since the lock was checked";
            return Err(Failure::message(Exit::Fetch, problem));
        }
        let request = initrd::Request {
            guest: &guest,
            modules: &modules,
            root_format: recipe.root.format,
            epoch: self.lock.epoch,
            packing: initrd::Packing::default(),
            budget: None,
        };
        let packed = initrd::initrd(&request).map_err(|error| self.failed(error))?;
        let members = initrd::members(&request).map_err(|error| self.failed(error))?;
        let files = members
            .into_iter()
            .map(|(path, bytes)| (path.to_owned(), bytes.into_owned()));
        Ok(Packed {
            bytes: packed.bytes,
            files: files.collect(),
        })
    }

    /// Root image and hash tree.
    fn seal(&self, root: &Tree, spool: &Spool) -> Result<Sealed, Failure> {
        let image = self.work.join("root.image");
        let request = image::Request {
            tree: root,
            contents: spool,
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

    fn command_line(&self, root_hash: &Digest) -> String {
        let mut words = slots::command_line(&self.folder.recipe);
        words.push(format!("{ROOT_HASH_KEY}={root_hash}"));
        words.join(" ")
    }

    fn uki(
        &self,
        os_release: &[u8],
        kernel: &kernel::KernelParts,
        boot: &kernel::BootParts,
        initrd: &[u8],
        sealed: &Sealed,
    ) -> Result<Uki, Failure> {
        let request = uki::Request {
            stub: &boot.stub,
            kernel: &kernel.image,
            initrd,
            command_line: &self.command_line(&sealed.root_hash),
            os_release,
            release: &kernel.release,
        };
        let bytes = uki::uki(&request).map_err(|error| self.failed(error))?;
        Ok(Uki {
            bytes,
            loader: boot.loader.clone(),
        })
    }

    /// Puts signatures over UKI and loader when there is a key.
    fn sign_boot(&self, unsigned: &Uki) -> Result<Uki, Failure> {
        let Some(keys) = self.boot_keys else {
            return Ok(self.adopt_signatures(unsigned.clone()));
        };
        let sign = |name: &str, program: &[u8]| {
            keys.sign(name, program).map_err(|error| self.failed(error))
        };
        let names = Names::of(&self.folder.recipe);
        self.stage(
            materials::SIGN_BOOT,
            || {
                Ok(Uki {
                    bytes: sign(&names.uki, &unsigned.bytes)?,
                    loader: sign(LOADER, &unsigned.loader)?,
                })
            },
            |_| format!("by {}", keys.keys().database.name()),
        )
        .and_then(|signed| match keys.requested().is_empty() {
            true => Ok(signed),
            false => Err(Failure::message(
                Exit::Publish,
                "the boot programs are yet to be signed elsewhere",
            )),
        })
    }

    /// Puts the signatures of another release over the programs, when one is named.
    fn adopt_signatures(&self, unsigned: Uki) -> Uki {
        let Some(adopted) = self.adopted else {
            return unsigned;
        };
        Uki {
            bytes: adopted.attach("the UKI", unsigned.bytes, self.context),
            loader: adopted.attach("the boot loader", unsigned.loader, self.context),
        }
    }

    /// The raw disk, and what stands alone beside it.
    fn disk(&self, out: &Path, sealed: &Sealed, uki: &Uki) -> Result<disk::RawDisk, Failure> {
        let names = Names::of(&self.folder.recipe);
        let failed = |error: std::io::Error| self.failed(error).context("cannot write the draft");
        fs::write(out.join(&names.uki), &uki.bytes).map_err(failed)?;
        fs::write(out.join(RECIPE), &self.folder.text).map_err(failed)?;
        fs::write(out.join(LOCK), self.lock.to_text()).map_err(failed)?;
        let recipe = &self.folder.recipe;
        let loader = disk::Loader {
            program: &uki.loader,
            menu_seconds: recipe.boot.menu_seconds,
        };
        let request = disk::Request {
            path: &out.join(&names.disk),
            name: &recipe.name,
            version: &recipe.version,
            architecture: recipe.architecture,
            lock: self.digest,
            epoch: self.lock.epoch,
            disk: &recipe.disk,
            uki: &uki.bytes,
            loader: Some(loader),
            root: &sealed.image,
            tree: &sealed.tree,
            root_hash: *sealed.root_hash.as_bytes(),
        };
        self.stage(
            "disk",
            || disk::disk(&request).map_err(|error| self.failed(error)),
            |disk| format!("{} of data", size(disk.data)),
        )
    }

    /// The manifest; `pieces` are the files that the recipe may or may not ask for.
    fn finish(
        &self,
        out: &Path,
        sealed: &Sealed,
        mut pieces: Vec<Piece>,
    ) -> Result<Manifest, Failure> {
        let names = Names::of(&self.folder.recipe);
        let failed = |error: std::io::Error| self.failed(error).context("cannot write the draft");
        let piece = |name: &str, role| Piece {
            name: name.to_owned(),
            role,
            bytes: Bytes::File(out.join(name)),
        };
        pieces.extend([
            piece(&names.disk, FileRole::Disk),
            piece(&names.uki, FileRole::Uki),
            piece(RECIPE, FileRole::Recipe),
            piece(LOCK, FileRole::Lock),
        ]);
        if let Some(keys) = self.boot_keys {
            pieces.extend(secure_boot::write_certificates(keys, out).map_err(failed)?);
        }
        let request = describe::Request {
            recipe: &self.folder.recipe,
            lock: self.lock,
            root_hash: sealed.root_hash,
            command_line: self.command_line(&sealed.root_hash),
            baker_version: env!("CARGO_PKG_VERSION").to_owned(),
            baker_program: program::digest(),
            stages: materials::stages(self.boot_keys.is_some()),
            source: self.folder.git(),
            pieces,
            secure_boot: self.boot_keys.map(secure_boot::describe),
            waivers: Vec::new(),
            threads: self.threads,
            interrupt: self.context.interrupt(),
        };
        self.stage(
            "describe",
            || describe::describe(request).map_err(|error| self.failed(error)),
            |manifest| format!("{} files", manifest.files.len()),
        )
    }

    /// Runs a stage that does not tell of itself, and tells of it.
    pub(super) fn stage<T>(
        &self,
        stage: &'static str,
        work: impl FnOnce() -> Result<T, Failure>,
        summary: impl FnOnce(&T) -> String,
    ) -> Result<T, Failure> {
        let listener = self.context.listener();
        listener.event(Event::Started {
            stage,
            total: None,
            unit: "",
        });
        if self.context.interrupt().is_raised() {
            return Err(self.failed(anyhow::anyhow!("interrupted")));
        }
        let result = work()?;
        let summary = summary(&result);
        listener.event(Event::Finished {
            stage,
            how: Outcome::Done,
            summary,
        });
        Ok(result)
    }

    pub(super) fn failed(&self, error: impl Into<anyhow::Error>) -> Failure {
        self.context.failure(Exit::Build, error)
    }

    fn inventory(&self, error: InventoryError) -> Failure {
        let help = error.hint();
        self.failed(error).help_if(help)
    }

    fn assembly(&self, error: assemble::AssembleError) -> Failure {
        let help = error.hint();
        self.failed(error).help_if(help)
    }
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

struct Sealed {
    image: PathBuf,
    tree: PathBuf,
    root_hash: Digest,
}

#[derive(Clone)]
struct Uki {
    bytes: Vec<u8>,
    loader: Vec<u8>,
}

/// The result of a thread; its panic goes on here.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
