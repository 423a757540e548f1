//! From lock and store to a draft: the stages assemble to describe.

mod boot;
mod last;
mod look;
mod root;
mod sandboxed;
mod scripts;
mod shell;
mod stages;
mod wants;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use baker_build::describe::{Bytes, Piece};
use baker_build::inventory::InventoryError;
use baker_build::sbom::Documents;
use baker_build::{Keep, Spool, assemble, describe, hygiene};
use baker_fetch::Store;
use baker_model::event::Outcome;
use baker_model::manifest::FileRole;
use baker_model::recipe::Format;
use baker_model::{Digest, Event, Lock, Manifest};

pub(super) use self::boot::initrd_modules;
use self::root::{Root, Sealed};
pub use self::shell::shell;
pub use self::wants::{Larder, size_of};
use super::formats::{self, Parts};
use super::hygiene as hygiene_gate;
use super::materials::{self, Materials};
use super::{Adopted, BootKeys, LOCK, Names, RECIPE, secure_boot};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::program;
use crate::source::RecipeFolder;
use crate::workdir::WorkFolder;

/// What stands in place of all stages when nothing has changed.
const DRAFT: &str = "draft";

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
    /// What becomes of results of earlier bakes.
    pub kept: Kept,
}

/// What becomes of what scripts gave in an earlier bake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is used when everything that went in is the same.
    Used,
    /// They run again: somebody wants to know whether they give the same.
    Ignored,
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
    store.claim(request.lock);
    let baking = Baking::new(request, &store, work.path(), context);
    materials::keep_local(request.folder, request.lock, baking.store)
        .map_err(|error| baking.failed(error))?;
    let path = work.path().join("draft");
    fs::create_dir(&path).map_err(|error| baking.failed(error))?;
    let inputs = last::inputs(request, work.path().parent());
    let last = last::Draft::open(request, &baking.keep);
    if let (Some(last), Some(inputs)) = (&last, &inputs) {
        context.progress().changed(last.index.changes(inputs));
        let reused = || baking.last(last, inputs, &path);
        if let Some(manifest) = baking.reuse(reused) {
            return Ok(Draft { path, manifest });
        }
    }
    let before = context.warnings().len();
    let manifest = baking.run(&path)?;
    if let Some(inputs) = inputs {
        let warnings = context.warnings().split_off(before);
        let kept = baking.keep_draft(request, inputs, (&path, &manifest), warnings);
        if let Err(error) = kept {
            // A store without room is no reason to have no draft.
            context.listener().event(Event::Warning {
                stage: DRAFT,
                text: format!("not kept for the next bake: {error:#}"),
            });
        }
    }
    Ok(Draft { path, manifest })
}

/// One bake: what all its stages share.
pub(super) struct Baking<'a> {
    pub(super) folder: &'a RecipeFolder,
    pub(super) lock: &'a Lock,
    pub(super) digest: Digest,
    boot_keys: Option<&'a BootKeys>,
    pub(super) formats: &'a [Format],
    adopted: Option<&'a Adopted>,
    kept: Kept,
    /// What earlier bakes made of the same inputs.
    keep: Keep,
    store: &'a Store,
    pub(super) work: PathBuf,
    pub(super) threads: NonZeroUsize,
    pub(super) context: &'a Context,
}

impl<'a> Baking<'a> {
    fn new(request: BakeRequest<'a>, store: &'a Store, work: &Path, context: &'a Context) -> Self {
        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            folder: request.folder,
            lock: request.lock,
            digest: request.lock.digest(),
            boot_keys: request.boot_keys,
            formats: request
                .formats
                .unwrap_or(&request.folder.recipe.disk.formats),
            adopted: request.adopted,
            kept: request.kept,
            keep: Keep::new(
                store.stages(),
                store.scratch(),
                request.kept == Kept::Ignored,
            ),
            store,
            work: work.to_owned(),
            threads: request.threads.unwrap_or_else(cores),
            context,
        }
    }
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
            if !self.folder.recipe.needs_sandbox() {
                return (self.root(&spool, None), joined(kernel));
            }
            // A machine for the scripts boots the very kernel.
            let kernel = joined(kernel);
            let parts = kernel.as_ref().ok().map(|(kernel, _)| kernel);
            (self.root(&spool, parts), kernel)
        });
        let (root, (kernel, boot)) = (root?, kernel?);
        let Root {
            tree: mut root,
            texts: packages,
            ran,
            stages,
        } = root;
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
        let (image, tree) = (&sealed.image, &sealed.tree);
        let netboot = self.netboot(out, &kernel.image, &initrd.bytes, (image, tree))?;
        let initrds = (&initrd.bytes[..], netboot.as_deref());
        let uki = self.stage(
            "uki",
            || self.uki(&os_release, &kernel, &boot, initrds, &sealed),
            |uki| size(uki.bytes.len() as u64),
        )?;
        drop(netboot);
        let materials = Materials {
            recipe: &self.folder.recipe,
            lock: self.lock,
            files,
            packages: &packages,
            kernel: &kernel,
            boot: &boot,
            has_loader: self.has_loader(),
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
        };
        let mut pieces = self.formats(out, &parts)?;
        let written = materials::write(&documents, &Names::of(&self.folder.recipe), out);
        pieces.extend(written.map_err(|error| self.failed(error))?);
        let names = Names::of(&self.folder.recipe);
        let record = scripts::write_record(ran.as_ref(), &stages, out, &names);
        pieces.extend(record.map_err(|error| self.failed(error))?);
        let mut manifest = self.finish(out, &sealed, pieces)?;
        let terms = &self.folder.recipe.hygiene;
        manifest.waivers.extend(hygiene.waivers(terms));
        manifest.hygiene = Some(hygiene.fact());
        hygiene_gate::warn(&hygiene, terms, hygiene::STAGE, self.context.listener());
        Ok(manifest)
    }

    fn documents(&self, materials: Materials<'_>) -> Result<Documents, Failure> {
        self.stage(
            "sbom",
            || materials.documents().map_err(|error| self.inventory(error)),
            |documents| size((documents.spdx.len() + documents.cyclonedx.len()) as u64),
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
            stages: materials::stages(self.boot_keys.is_some(), self.formats),
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

    /// Tells of a whole draft that is there already.
    fn reuse(&self, draft: impl FnOnce() -> Option<Manifest>) -> Option<Manifest> {
        let manifest = draft()?;
        self.context.listener().event(Event::Finished {
            stage: DRAFT,
            how: Outcome::Reused,
            summary: format!("nothing changed, {} files", manifest.files.len()),
        });
        Some(manifest)
    }

    /// Runs a stage that does not tell of itself, and tells of it.
    pub(super) fn stage<T>(
        &self,
        stage: &'static str,
        work: impl FnOnce() -> Result<T, Failure>,
        summary: impl FnOnce(&T) -> String,
    ) -> Result<T, Failure> {
        self.stage_as(stage, work, |result| (Outcome::Done, summary(result)))
    }

    /// The same of one that may find its result.
    pub(super) fn stage_as<T>(
        &self,
        stage: &'static str,
        work: impl FnOnce() -> Result<T, Failure>,
        summary: impl FnOnce(&T) -> (Outcome, String),
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
        let (how, summary) = summary(&result);
        listener.event(Event::Finished {
            stage,
            how,
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

/// The result of a thread; its panic goes on here.
fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
