//! `baker lock`

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use baker_fetch::{LockRequest, Moves, Parent, Sources, Store};
use baker_model::Lock;
use baker_model::lock::{FileLock, GuestLock};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::guest;
use crate::source::RecipeFolder;
use crate::ui::changes::{self, Written};
use crate::workdir::write_atomically;

/// Pins every input of a recipe by digest and size, and writes `recipe.lock`.
///
/// The archives' signatures are checked, then their indexes, then the packages
/// are resolved. An archive older than the last lock's is refused.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the recipe
    recipe: PathBuf,
    /// Lock this profile only [default: the recipe, then each of its profiles]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// With --update or --security-only: the packages that may move; all, when
    /// none is named
    #[arg(value_name = "PACKAGE", requires = "moving")]
    packages: Vec<String>,
    /// Explain why a package is in the image, and write nothing
    #[arg(long, value_name = "PACKAGE", conflicts_with_all = ["check", "refresh"])]
    why: Option<String>,
    /// Only say whether the lock fits the recipe
    #[arg(long, conflicts_with = "refresh")]
    check: bool,
    /// Keep all packages; pin local files and the guest program anew, offline
    #[arg(long)]
    refresh: bool,
    /// Move packages to their newest version and show what changes and why;
    /// those that are not named stay, except where a named one forces them
    #[arg(long, group = "moving", conflicts_with_all = ["why", "check", "refresh"])]
    update: bool,
    /// Move only packages for which a security suite has a newer version
    #[arg(long, group = "moving", conflicts_with_all = ["why", "check", "refresh"])]
    security_only: bool,
    /// Show what would change, and write nothing
    #[arg(long, requires = "moving")]
    dry_run: bool,
}

impl Args {
    /// What may move.
    fn moves(&self) -> Moves<'_> {
        match (self.security_only, self.packages.as_slice()) {
            (true, packages) => Moves::Security(packages),
            (false, []) => Moves::All,
            (false, packages) => Moves::Named(packages),
        }
    }

    fn is_update(&self) -> bool {
        self.update || self.security_only
    }
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let folder = RecipeFolder::read_profile(&args.recipe, args.profile.as_deref())?;
    lock(args, &folder, context)?;
    // Packages of the recipe are those of its profiles.
    let profiles = folder.profiles.iter().filter(|_| args.why.is_none());
    profiles
        .map(|profile| RecipeFolder::read_profile(&args.recipe, Some(profile)))
        .try_for_each(|folder| lock(args, &folder?, context))
}

fn lock(args: &Args, folder: &RecipeFolder, context: &Context) -> Result<(), Failure> {
    if args.check {
        let lock = folder.checked_lock()?;
        return context.answer(
            &format!("{} is up to date", folder.lock_path().display()),
            &lock,
        );
    }
    if args.refresh {
        return refresh(folder, context);
    }
    let previous = folder.read_lock()?;
    // A profile that was not locked yet comes in with the others.
    let is_new_profile = args.profile.is_none() && folder.profile.is_some();
    if args.is_update() && previous.is_none() && !is_new_profile {
        return Err(nothing_to(folder, "update"));
    }
    let (guest, files) = (guest::lock(folder.recipe.architecture)?, folder.files()?);
    let (sources, store) = (context.sources()?, context.store()?);
    let parent = folder.parent()?;
    let parent = parent.as_ref().map(|(parent, lock)| Parent {
        name: &parent.name,
        lock,
        answers: &parent.answers,
        runs: &parent.runs,
    });
    let request = request(
        folder,
        (previous.as_ref(), parent),
        (&guest, &files),
        &sources,
        &store,
        context,
    )?;
    if let Some(package) = &args.why {
        let why =
            baker_fetch::why(&request, package).map_err(|error| context.lock_failure(error))?;
        let value = serde_json::json!({ "package": package, "why": why.to_string() });
        return context.answer(&why.to_string(), &value);
    }
    let updated =
        baker_fetch::update(&request, args.moves()).map_err(|error| context.lock_failure(error))?;
    let writing = match args.dry_run {
        true => Writing::Pretended,
        false => Writing::Done,
    };
    let written = write(folder, &updated.lock, writing)?;
    let count = updated.lock.packages.len();
    let text = changes::text(&folder.lock_path(), written, count, &updated.changes);
    match args.is_update() {
        true => context.answer(
            &text,
            &changes::value(&folder.lock_path(), written, &updated.changes),
        ),
        false => context.answer(&text, &updated.lock),
    }
}

fn nothing_to(folder: &RecipeFolder, act: &str) -> Failure {
    let problem = format!("there is no {} to {act}", folder.lock_path().display());
    let help = format!("run: baker lock {}", folder.words());
    Failure::message(Exit::Fetch, problem).help(help)
}

fn request<'a>(
    folder: &'a RecipeFolder,
    (previous, parent): (Option<&'a Lock>, Option<Parent<'a>>),
    (guest, files): (&'a GuestLock, &'a [FileLock]),
    sources: &'a Sources,
    store: &'a Store,
    context: &'a Context,
) -> Result<LockRequest<'a>, Failure> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|error| {
            Failure::new(Exit::Internal, error).context("the clock of this machine is before 1970")
        })?;
    Ok(LockRequest {
        recipe: &folder.recipe,
        previous,
        parent,
        guest,
        files,
        sources,
        store,
        now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        listener: context.listener(),
        interrupt: context.interrupt(),
    })
}

/// Everything but packages and archives anew.
fn refresh(folder: &RecipeFolder, context: &Context) -> Result<(), Failure> {
    let Some(previous) = folder.read_lock()? else {
        return Err(nothing_to(folder, "refresh"));
    };
    if previous.recipe != folder.recipe.digest() {
        let problem = "the recipe was edited after it was locked; its packages may differ now";
        let help = format!("run: baker lock {}", folder.words());
        return Err(Failure::message(Exit::Fetch, problem).help(help));
    }
    let lock = Lock {
        guest: guest::lock(folder.recipe.architecture)?,
        files: folder.files()?,
        ..previous.clone()
    };
    let written = write(folder, &lock, Writing::Done)?;
    let text = changes::text(&folder.lock_path(), written, lock.packages.len(), &[]);
    context.answer(&text, &lock)
}

/// Whether the lock is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Done,
    Pretended,
}

/// Writes the lock if it differs from what is there.
fn write(folder: &RecipeFolder, lock: &Lock, writing: Writing) -> Result<Written, Failure> {
    let path = folder.lock_path();
    let text = lock.to_text();
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(Written::Unchanged);
    }
    if writing == Writing::Pretended {
        return Ok(Written::Pretended);
    }
    write_atomically(&path, text.as_bytes()).map_err(|error| {
        Failure::new(Exit::Fetch, error).context(format!("cannot write {}", path.display()))
    })?;
    Ok(Written::New)
}
