//! Baking a release again elsewhere, and comparing.
//!
//! The second bake is a process of its own: another folder, home, user name, time zone, locale,
//! umask and number of threads; only the store is the same, and its objects are checked by digest
//! when they are read. What a key made is taken over: see [`super::Adopted`].

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use baker_build::rebuild::{Difference, compare};
use baker_fetch::{FetchOptions, Store};
use baker_formats::io::Part;
use baker_model::manifest::{FileRole, ReleaseFile};
use baker_model::recipe::Architecture;
use baker_model::{Digest, Lock, Manifest};
use nix::sys::stat::{Mode, umask};
use serde::Serialize;

use super::{Artefact, LOCK, RECIPE};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::guest;

/// The version of the report format that this baker writes.
const REPORT_VERSION: u32 = 1;

/// How long between two looks at the second baker, and at the wish to stop.
const POLL: Duration = Duration::from_millis(50);

/// A zone that is furthest from UTC, so that its day is another one for most of the day.
const TIMEZONE: &str = "Pacific/Kiritimati";

/// A locale whose upper and lower case are not those of C.
const LOCALE: &str = "tr_TR.UTF-8";

/// What is rebuilt.
pub struct RebuildRequest<'a> {
    /// Folder of the release.
    pub release: &'a Path,
    /// Where local files of the recipe are, when the store does not have them.
    pub recipe: Option<&'a Path>,
    /// What to do about inputs that are not in the store.
    pub missing: Missing,
}

/// What to do about inputs that are not in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Say which, and stop.
    Refuse,
    /// Fetch them.
    Fetch,
}

/// `rebuild.json`: what came of baking a release again.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RebuildReport {
    /// Format version.
    pub report_version: u32,
    /// Name and version of the release.
    pub release: String,
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// Its version.
    #[serde(skip)]
    pub version: String,
    /// SHA-256 of its `manifest.json`.
    pub manifest: Digest,
    /// SHA-256 of its lock, in canonical form.
    pub lock: Digest,
    /// Version of the baker that made it, and again.
    pub baker: String,
    /// How the second bake differed from the first.
    pub conditions: Conditions,
    /// True when every file that a bake makes is the same.
    pub agrees: bool,
    /// The files that a bake makes.
    pub files: Vec<Compared>,
    /// The structures of the disk that differ: the cause first.
    pub differences: Vec<Difference>,
    /// Milliseconds of the whole.
    pub milliseconds: u64,
}

/// How the second bake was set apart.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Conditions {
    /// Threads.
    pub threads: usize,
    /// `TZ`.
    pub timezone: &'static str,
    /// `LC_ALL`.
    pub locale: &'static str,
    /// The umask, octal.
    pub umask: String,
    /// The folder that it worked in.
    pub folder: PathBuf,
}

/// A file on both sides.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Compared {
    /// Its name in the release.
    pub name: String,
    /// What it is for.
    pub role: FileRole,
    /// As the release has it; none when only the second bake made it.
    pub release: Option<Digest>,
    /// As it was made again; none when it was not.
    pub rebuilt: Option<Digest>,
}

impl Compared {
    fn agrees(&self) -> bool {
        self.release == self.rebuilt
    }
}

/// Bakes the release again and compares.
pub fn rebuild(request: &RebuildRequest<'_>, context: &Context) -> Result<RebuildReport, Failure> {
    let started = Instant::now();
    let artefact = Artefact::read(request.release)?;
    let (Some(manifest), Some((folder, Some(lock)))) = (&artefact.manifest, &artefact.recipe)
    else {
        let problem = format!("{} has no recipe and lock", request.release.display());
        return Err(Failure::message(Exit::Verify, problem));
    };
    check_builder(manifest, folder.recipe.architecture)?;
    let work = tempfile::tempdir().map_err(super::workdir_failure)?;
    provide(request, lock, work.path(), context)?;
    let draft = Second::new(work.path()).bake(request.release, context)?;
    let made = Artefact::read(&draft)?;
    let again = made
        .manifest
        .ok_or_else(|| Failure::message(Exit::Internal, "the second bake left no manifest"))?;
    let files = compared(manifest, &again);
    let differs = |file: &&Compared| file.role == FileRole::Disk && !file.agrees();
    let differences = match files.iter().find(differs) {
        Some(disk) => structures(request.release, &draft, disk, context)?,
        None => Vec::new(),
    };
    let bytes = fs::read(request.release.join(baker_ship::MANIFEST));
    let bytes = bytes.map_err(|error| Failure::new(Exit::Verify, error))?;
    Ok(RebuildReport {
        report_version: REPORT_VERSION,
        release: format!("{}-{}", manifest.name, manifest.version),
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        manifest: Digest::of(&bytes),
        lock: lock.digest(),
        baker: manifest.baker.version.clone(),
        conditions: Second::new(work.path()).conditions(),
        agrees: files.iter().all(Compared::agrees),
        files,
        differences,
        milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// The bytes are promised for equal bakers only.
fn check_builder(manifest: &Manifest, architecture: Architecture) -> Result<(), Failure> {
    let (version, ours) = (&manifest.baker.version, env!("CARGO_PKG_VERSION"));
    let guest = guest::lock(architecture)?.sha256;
    let problem = if version != ours {
        format!("the release was made by baker {version}, this is {ours}")
    } else if manifest.baker.guest != guest {
        format!(
            "the release holds the guest program {} of another build of baker, this one has {guest}",
            manifest.baker.guest
        )
    } else {
        return Ok(());
    };
    Err(Failure::message(Exit::Environment, problem)
        .help("rebuild it with the baker that made it: its source is named in the manifest"))
}

/// Lays recipe, lock and local files into a folder, and sees that all inputs are there.
fn provide(
    request: &RebuildRequest<'_>,
    lock: &Lock,
    work: &Path,
    context: &Context,
) -> Result<(), Failure> {
    let store = context.store()?;
    if request.missing == Missing::Fetch {
        context.fetch_inputs(lock, FetchOptions::default())?;
    }
    let folder = work.join("recipe");
    let lay = || -> anyhow::Result<()> {
        fs::create_dir(&folder)?;
        for name in [RECIPE, LOCK] {
            fs::copy(request.release.join(name), folder.join(name))?;
        }
        for file in &lock.files {
            let bytes = local(&store, request.recipe, file)?;
            let target = folder.join(&file.path);
            fs::create_dir_all(target.parent().unwrap_or(&folder))?;
            fs::write(&target, bytes)?;
        }
        Ok(())
    };
    lay().map_err(|error| {
        Failure::new(Exit::Fetch, error)
            .context("cannot lay out the recipe of the release again")
            .help(
                "name the folder of the recipe, which holds its local files, with --recipe FOLDER",
            )
    })
}

/// A local file of the recipe, by its digest.
fn local(
    store: &Store,
    recipe: Option<&Path>,
    file: &baker_model::lock::FileLock,
) -> anyhow::Result<Vec<u8>> {
    let inside = !file.path.split('/').any(|part| matches!(part, "" | ".."));
    anyhow::ensure!(inside, "`{}` is no name of a local file", file.path);
    let bytes = match recipe {
        Some(folder) => fs::read(folder.join(&file.path))
            .with_context(|| format!("cannot read {}", folder.join(&file.path).display()))?,
        None => {
            let mut bytes = Vec::new();
            let mut object = store
                .open_verified(&file.sha256, file.size)
                .with_context(|| format!("the local file {} is not in the store", file.path))?;
            std::io::Read::read_to_end(&mut object, &mut bytes)?;
            bytes
        }
    };
    let found = Digest::of(&bytes);
    anyhow::ensure!(
        found == file.sha256,
        "the local file {} has the digest {found}, the lock says {}",
        file.path,
        file.sha256
    );
    Ok(bytes)
}

/// The second bake.
struct Second<'a> {
    work: &'a Path,
    threads: usize,
    umask: Mode,
}

impl<'a> Second<'a> {
    fn new(work: &'a Path) -> Self {
        // A number of threads that nobody has by default: one more than there are CPUs.
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            work,
            threads: cores + 1,
            umask: Mode::S_IRWXG | Mode::S_IRWXO,
        }
    }

    fn conditions(&self) -> Conditions {
        Conditions {
            threads: self.threads,
            timezone: TIMEZONE,
            locale: LOCALE,
            umask: format!("{:04o}", self.umask.bits()),
            folder: self.work.to_owned(),
        }
    }

    /// Runs it; gives the folder of its draft.
    fn bake(&self, release: &Path, context: &Context) -> Result<PathBuf, Failure> {
        let broken = |error: std::io::Error| {
            Failure::new(Exit::Internal, error).context("cannot start the second bake")
        };
        let out = self.work.join("out");
        let mut command = Command::new(std::env::current_exe().map_err(broken)?);
        command
            .arg("bake")
            .arg(self.work.join("recipe"))
            .arg("--to")
            .arg(&out)
            .arg("--threads")
            .arg(self.threads.to_string())
            .arg("--adopt-signatures")
            .arg(std::path::absolute(release).map_err(broken)?)
            .arg("--store")
            .arg(std::path::absolute(context.store()?.root()).map_err(broken)?)
            .arg("--quiet")
            .arg("--anew")
            .arg("--sandbox")
            .arg(context.sandbox().name())
            .current_dir(self.work)
            .env_clear()
            .envs(guest_programs())
            .envs([
                ("TZ", TIMEZONE),
                ("LC_ALL", LOCALE),
                ("USER", "somebody-else"),
            ])
            .env("HOME", self.work)
            .env("TMPDIR", self.work)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        context.printer().say("baking the release again");
        // The umask belongs to the process; children get it when they are started.
        let ours = umask(self.umask);
        let started = command.spawn();
        umask(ours);
        let mut child = started.map_err(broken)?;
        let status: ExitStatus = loop {
            match child.try_wait().map_err(broken)? {
                Some(status) => break status,
                None if context.interrupt().is_raised() => {
                    drop(child.kill());
                    drop(child.wait());
                    let text = "interrupted; nothing half-written is left";
                    return Err(Failure::message(Exit::Interrupted, text));
                }
                None => std::thread::sleep(POLL),
            }
        };
        if !status.success() {
            let problem = "the release cannot be baked again; the reason stands above";
            return Err(Failure::message(Exit::Build, problem)
                .help("inputs that are not in the store are fetched with --fetch"));
        }
        let drafts = fs::read_dir(&out).map_err(broken)?;
        let draft = drafts.filter_map(Result::ok).map(|entry| entry.path());
        let mut drafts = draft.filter(|path| path.join(baker_ship::MANIFEST).is_file());
        drafts
            .next()
            .ok_or_else(|| Failure::message(Exit::Internal, "the second bake left no draft"))
    }
}

/// The variables that name guest programs for machines of another kind: the one thing of the
/// environment that decides bytes, and the lock pins those.
fn guest_programs() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"BAKER_GUEST_"))
}

/// The files that a bake makes, on both sides. Evidence and certificates come from elsewhere, and
/// the record of scripts says how long each took.
fn compared(release: &Manifest, again: &Manifest) -> Vec<Compared> {
    use FileRole::{Certificate, Evidence, Scripts};
    let made = |file: &&ReleaseFile| !matches!(file.role, Evidence | Certificate | Scripts);
    let find = |manifest: &Manifest, name: &str| {
        let file = manifest.files.iter().find(|file| file.name == name);
        file.map(|file| file.sha256)
    };
    let mut files: Vec<Compared> = release
        .files
        .iter()
        .chain(&again.files)
        .filter(made)
        .map(|file| Compared {
            name: file.name.clone(),
            role: file.role,
            release: find(release, &file.name),
            rebuilt: find(again, &file.name),
        })
        .collect();
    files.sort_by(|one, other| one.name.cmp(&other.name));
    files.dedup_by(|one, other| one.name == other.name);
    files
}

/// The structures of two disks that differ.
fn structures(
    release: &Path,
    draft: &Path,
    disk: &Compared,
    context: &Context,
) -> Result<Vec<Difference>, Failure> {
    let open = |folder: &Path| {
        let path = folder.join(&disk.name);
        let file = File::open(&path);
        let opened = file.and_then(|file| Ok((file.metadata()?.len(), file)));
        opened
            .map(|(size, file)| Part::new(Arc::new(file), size))
            .map_err(|error| {
                Failure::new(Exit::Verify, error).context(format!("cannot read {}", path.display()))
            })
    };
    compare(&open(release)?, &open(draft)?, context.interrupt())
        .map_err(|error| context.failure(Exit::Internal, error))
}
