//! `baker lock`

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use baker_fetch::{LockRequest, Sources, Store};
use baker_model::Lock;
use baker_model::lock::{FileLock, GuestLock};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::guest;
use crate::source::RecipeFolder;
use crate::workdir::write_atomically;

/// Pins every input of a recipe by digest and size, and writes `recipe.lock`.
///
/// The archives' signatures are checked, then their indexes, then the packages
/// are resolved. An archive older than the last lock's is refused.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the recipe
    recipe: PathBuf,
    /// Explain why a package is in the image, and write nothing
    #[arg(long, value_name = "PACKAGE", conflicts_with_all = ["check", "refresh"])]
    why: Option<String>,
    /// Only say whether the lock fits the recipe
    #[arg(long, conflicts_with = "refresh")]
    check: bool,
    /// Keep all packages; pin local files and the guest program anew, offline
    #[arg(long)]
    refresh: bool,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let folder = RecipeFolder::read(&args.recipe)?;
    if args.check {
        let lock = folder.checked_lock()?;
        return context.answer(
            &format!("{} is up to date", folder.lock_path().display()),
            &lock,
        );
    }
    if args.refresh {
        return refresh(&folder, context);
    }
    let previous = folder.read_lock()?;
    let (guest, files) = (guest::lock(folder.recipe.architecture)?, folder.files()?);
    let (sources, store) = (context.sources()?, context.store()?);
    let request = request(
        &folder,
        previous.as_ref(),
        (&guest, &files),
        &sources,
        &store,
        context,
    )?;
    match &args.why {
        Some(package) => {
            let why =
                baker_fetch::why(&request, package).map_err(|error| context.lock_failure(error))?;
            let value = serde_json::json!({ "package": package, "why": why.to_string() });
            context.answer(&why.to_string(), &value)
        }
        None => {
            let lock = baker_fetch::lock(&request).map_err(|error| context.lock_failure(error))?;
            write(&folder, previous.as_ref(), &lock, context)
        }
    }
}

fn request<'a>(
    folder: &'a RecipeFolder,
    previous: Option<&'a Lock>,
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
        let problem = format!("{} has no recipe.lock to refresh", folder.path.display());
        let help = format!("run: baker lock {}", folder.path.display());
        return Err(Failure::message(Exit::Fetch, problem).help(help));
    };
    if previous.recipe != folder.recipe.digest() {
        let problem = "the recipe was edited after it was locked; its packages may differ now";
        let help = format!("run: baker lock {}", folder.path.display());
        return Err(Failure::message(Exit::Fetch, problem).help(help));
    }
    let lock = Lock {
        guest: guest::lock(folder.recipe.architecture)?,
        files: folder.files()?,
        ..previous.clone()
    };
    write(folder, Some(&previous), &lock, context)
}

fn write(
    folder: &RecipeFolder,
    previous: Option<&Lock>,
    lock: &Lock,
    context: &Context,
) -> Result<(), Failure> {
    let path = folder.lock_path();
    let text = lock.to_text();
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return context.answer(&format!("{} is unchanged", path.display()), lock);
    }
    write_atomically(&path, text.as_bytes()).map_err(|error| {
        Failure::new(Exit::Fetch, error).context(format!("cannot write {}", path.display()))
    })?;
    context.answer(&summary(previous, lock, &path.display().to_string()), lock)
}

/// What changed, one package per line.
fn summary(previous: Option<&Lock>, lock: &Lock, path: &str) -> String {
    let mut lines = vec![format!("{path}: {} packages", lock.packages.len())];
    let Some(previous) = previous else {
        return lines.remove(0);
    };
    for package in &lock.packages {
        let same_name = |old: &&baker_model::lock::PackageLock| {
            (&old.name, &old.architecture, old.role)
                == (&package.name, &package.architecture, package.role)
        };
        match previous.packages.iter().find(same_name) {
            None => lines.push(format!("  + {} {}", package.name, package.version)),
            Some(old) if old.version != package.version => {
                lines.push(format!(
                    "  {} {} -> {}",
                    package.name, old.version, package.version
                ));
            }
            Some(_) => {}
        }
    }
    for old in &previous.packages {
        if !lock.packages.iter().any(|package| package.name == old.name) {
            lines.push(format!("  - {} {}", old.name, old.version));
        }
    }
    lines.join("\n")
}
