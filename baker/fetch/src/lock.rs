//! The resolve stage: recipe in, lock out.
//!
//! Takes a recipe and the sources; gives a lock that names every input by digest. The only stage
//! that asks the network what there is. Never writes into the recipe's folder.

use std::collections::{BTreeSet, HashSet};

use baker_model::event::Outcome;
use baker_model::lock::{FileLock, GuestLock, LOCK_VERSION, PackageLock, PackageRole, StageLock};
use baker_model::recipe::{Debian, Scripts, Stage};
use baker_model::{Digest, Event, Interrupt, Listener, Lock, Recipe};

use crate::archive::{self, ArchiveError, Reading, Suites};
use crate::debian::records::Record;
use crate::family;
use crate::plan::{Chosen, Plan};
use crate::resolve::{self, PackageId, Resolution, ResolveError, Universe, Why};
use crate::sources::{Sources, archive_of};
use crate::store::Store;
use crate::update::{self, Cause, Change, Moves};

const STAGE: &str = "resolve";

/// Everything that goes into a lock.
#[derive(Clone, Copy)]
pub struct LockRequest<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The lock that is to be replaced: archives older than it are refused.
    pub previous: Option<&'a Lock>,
    /// The recipe that this one extends: its packages stay as they are.
    pub parent: Option<Parent<'a>>,
    /// The guest program of this baker.
    pub guest: &'a GuestLock,
    /// The local files that the recipe names.
    pub files: &'a [FileLock],
    /// Mirrors and keyrings.
    pub sources: &'a Sources,
    /// Where indexes are kept.
    pub store: &'a Store,
    /// Now, seconds since 1970-01-01 UTC.
    pub now: i64,
    /// Hears what happens.
    pub listener: &'a dyn Listener,
    /// Asks to stop.
    pub interrupt: &'a Interrupt,
}

/// A recipe that another one extends.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its lock.
    pub lock: &'a Lock,
    /// Its answers to its packages' questions.
    pub answers: &'a str,
    /// Names of its `[[run]]` commands.
    pub runs: &'a [String],
}

/// A recipe cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The archives cannot be read or are refused.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The packages cannot be resolved.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A name that the lock to be updated does not have.
    #[error("package `{package}` is not in the lock")]
    NotLocked {
        /// The package.
        package: String,
    },
    /// A package in another version than the recipe has that is extended.
    #[error("`{asked}` is asked for, and the recipe `{parent}`, which is extended, has {version}")]
    Pinned {
        /// As the recipe asks for it.
        asked: String,
        /// The recipe that is extended.
        parent: String,
        /// The version that it is locked at.
        version: String,
    },
    /// There is nothing to explain.
    #[error("package `{package}` is not part of the image")]
    NotChosen {
        /// The package.
        package: String,
    },
}

/// Locks a recipe: everything at its newest version.
///
/// # Errors
/// An archive is refused or cannot be reached, or the packages cannot be resolved.
pub fn lock(request: &LockRequest<'_>) -> Result<Lock, LockError> {
    update(request, Moves::All).map(|updated| updated.lock)
}

/// A lock written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updated {
    /// The lock.
    pub lock: Lock,
    /// What differs from the previous one, by name; nothing when there was none.
    pub changes: Vec<Change>,
}

/// Locks a recipe, with everything at the version of the previous lock that may not move. When no
/// package changes, the archives of the previous lock stay, too: nothing new entered.
///
/// # Errors
/// As [`lock`]; also when a package is named that the previous lock does not have.
pub fn update(request: &LockRequest<'_>, moves: Moves<'_>) -> Result<Updated, LockError> {
    let LockRequest {
        recipe, listener, ..
    } = *request;
    listener.event(Event::Started {
        stage: STAGE,
        total: None,
        unit: "bytes",
    });
    let suites = recipe.debian.suites();
    let moves = match request.previous {
        None => Moves::All,
        Some(previous) => {
            update::check_names(
                previous,
                &recipe.kernel.package,
                &recipe.boot.package,
                moves,
            )?;
            moves
        }
    };
    let mut read = archive::read(reading(request, &suites))?;
    let offered = read.archives.len();
    if let Some(previous) = request.previous.filter(|_| moves != Moves::All) {
        update::add_kept(&mut read, previous, request.store)?;
    }
    if let Some(parent) = request.parent {
        update::add_kept(&mut read, parent.lock, request.store)?;
    }
    let names: Vec<String> = read.archives.iter().map(|a| a.suite.clone()).collect();
    let family = family::pinned(recipe, request.parent)?;
    let plan = Plan::new(&family, &names)?;
    let mut universe = plan.universe(&read)?;
    let chosen = plan.choose(&mut universe, request, &read, moves)?;
    warn_unused(recipe, &chosen.resolution, listener);

    let mut lock = written(request, &universe, &chosen, &read);
    let places = Places {
        suites: &names,
        read: &read,
        moves,
    };
    if recipe.debian.scripts == Scripts::Sandbox {
        let tools = tools(request, places, &lock.packages)?;
        lock.packages.extend(tools);
        lock.packages.sort();
    }
    for stage in &recipe.stages {
        lock.stages.push(self::stage(request, places, stage)?);
    }
    lock.layers = family::layers(request.parent);
    vouch(&mut lock, &read, offered);
    if let Some(previous) = request.previous.filter(|_| moves != Moves::All)
        && (&previous.packages, &previous.stages) == (&lock.packages, &lock.stages)
    {
        lock.archives.clone_from(&previous.archives);
        lock.epoch = previous.epoch;
    }
    let changes = match request.previous {
        Some(previous) => changes(previous, &lock, &universe, &chosen, &read)?,
        None => Vec::new(),
    };
    let summary = format!(
        "{} packages from {} suites",
        lock.packages.len(),
        suites.len()
    );
    listener.event(Event::Finished {
        stage: STAGE,
        how: Outcome::Done,
        summary,
    });
    Ok(Updated { lock, changes })
}

fn written(
    request: &LockRequest<'_>,
    universe: &Universe<'_>,
    chosen: &Chosen,
    read: &Suites,
) -> Lock {
    let root = chosen.resolution.packages.iter();
    let root = root.map(|id| (*id, PackageRole::Root));
    let all: Vec<_> = root
        .chain([
            (chosen.kernel, PackageRole::Kernel),
            (chosen.boot, PackageRole::Boot),
        ])
        .collect();
    let locked =
        |(id, role): &(PackageId, PackageRole)| package_lock(universe, *id, *role, &read.archives);
    let mut packages: Vec<PackageLock> = all.iter().map(locked).collect();
    packages.sort();
    let mut files = request.files.to_vec();
    files.sort();
    Lock {
        version: LOCK_VERSION,
        recipe: request.recipe.digest(),
        epoch: 0,
        guest: request.guest.clone(),
        files,
        archives: Vec::new(),
        packages,
        layers: Vec::new(),
        stages: Vec::new(),
    }
}

/// Names the archives that vouch for the packages: those that offer now, and old ones as long as
/// a package is of them; the newest says what time it is.
fn vouch(lock: &mut Lock, read: &Suites, offered: usize) {
    let digests: HashSet<Digest> = lock.all_packages().map(|package| package.sha256).collect();
    let records = read.records.iter();
    let used: BTreeSet<usize> = records
        .filter(|record| digests.contains(&record.sha256))
        .map(|record| usize::from(record.suite))
        .collect();
    let archives = read.archives.iter().enumerate();
    let mut archives: Vec<_> = archives
        .filter(|(number, _)| *number < offered || used.contains(number))
        .map(|(_, archive)| archive.clone())
        .collect();
    archives.sort();
    archives.dedup();
    let dates = archives.iter().map(|archive| archive.date);
    lock.epoch = dates.max().unwrap_or_default();
    lock.archives = archives;
}

/// Where packages that are only there while something runs are chosen from.
#[derive(Clone, Copy)]
struct Places<'a> {
    suites: &'a [String],
    read: &'a Suites,
    moves: Moves<'a>,
}

/// What the packages' own scripts may rely on and the image does without: all that is Essential,
/// and what the recipe takes as present. They run with it, and it is taken away again.
fn tools(
    request: &LockRequest<'_>,
    places: Places<'_>,
    root: &[PackageLock],
) -> Result<Vec<PackageLock>, LockError> {
    let is_root = |package: &&PackageLock| package.role == PackageRole::Root;
    let known: BTreeSet<&str> = root.iter().filter(is_root).map(name).collect();
    let inherited = family::tools(request.parent).filter(|tool| !known.contains(name(tool)));
    let pinned = root.iter().filter(is_root).chain(inherited).map(pin);
    let previous = request.previous.map_or(&[][..], |lock| &lock.packages);
    let mut all = everything(request, places, pinned.collect(), previous)?;
    all.retain(|tool| !known.contains(name(tool)));
    Ok(all)
}

/// The packages of a stage: those that it names and all that is Essential.
fn stage(
    request: &LockRequest<'_>,
    places: Places<'_>,
    stage: &Stage,
) -> Result<StageLock, LockError> {
    let of = |lock: &'_ Lock| -> Vec<PackageLock> {
        let mut stages = lock.stages.iter();
        let found = stages.find(|known| known.name == stage.name);
        found.map_or_else(Vec::new, |stage| stage.packages.clone())
    };
    let previous = request.previous.map(of).unwrap_or_default();
    let mut packages = everything(request, places, stage.packages.clone(), &previous)?;
    packages.sort();
    Ok(StageLock {
        name: stage.name.clone(),
        packages,
    })
}

/// These packages, all that they need, and all that is Essential; those of `previous` that may
/// not move stay where nothing forces them.
fn everything(
    request: &LockRequest<'_>,
    places: Places<'_>,
    packages: Vec<String>,
    previous: &[PackageLock],
) -> Result<Vec<PackageLock>, LockError> {
    let recipe = request.recipe;
    let debian = Debian {
        packages,
        essential: true,
        recommends: false,
        assumed: Vec::new(),
        ..recipe.debian.clone()
    };
    let everything = Recipe {
        debian,
        ..recipe.clone()
    };
    let plan = Plan::new(&everything, places.suites)?;
    let mut universe = plan.universe(places.read)?;
    let stays = staying(previous, &universe, places);
    universe.hold(stays)?;
    let resolution = match plan.resolve(&universe) {
        Err(ResolveError::Unsolvable { .. }) => {
            universe.hold([])?;
            plan.resolve(&universe)?
        }
        other => other?,
    };
    let chosen = resolution.packages.iter();
    Ok(chosen
        .map(|id| package_lock(&universe, *id, PackageRole::Tool, &places.read.archives))
        .collect())
}

/// Tools of the previous lock that may not move and that the archive still has.
fn staying(
    previous: &[PackageLock],
    universe: &Universe<'_>,
    Places { read, moves, .. }: Places<'_>,
) -> Vec<PackageId> {
    let is_secured = |name: &str| {
        let candidate = universe.candidate(name).map(|id| universe.record(id).suite);
        let archive = candidate.and_then(|suite| read.archives.get(usize::from(suite)));
        archive.is_some_and(|archive| archive.suite.ends_with("-security"))
    };
    let stays = |name: &String| match moves {
        Moves::All => false,
        Moves::Named(names) => !names.contains(name),
        Moves::Security(names) => !is_secured(name) || !(names.is_empty() || names.contains(name)),
    };
    let tools = previous
        .iter()
        .filter(|package| package.role == PackageRole::Tool && stays(&package.name));
    let found = tools.filter_map(|package| {
        let mut versions = universe.versions(&package.name).iter().copied();
        versions.find(|id| *universe.record(*id).version == *package.version)
    });
    found.collect()
}

fn name(package: &PackageLock) -> &str {
    &package.name
}

/// The request for this very version.
pub(crate) fn pin(package: &PackageLock) -> String {
    format!("{}={}", package.name, package.version)
}

/// Every package that differs, with suites and cause.
fn changes(
    before: &Lock,
    after: &Lock,
    universe: &Universe<'_>,
    chosen: &Chosen,
    read: &Suites,
) -> Result<Vec<Change>, LockError> {
    let mut changes = Vec::new();
    for (old, new) in update::pairs(before, after) {
        let Some(package) = new.or(old) else { continue };
        let was = old.map(|old| old.role).filter(|was| *was != package.role);
        let cause = match new {
            None => Cause::NotNeeded,
            Some(_) if was == Some(PackageRole::Root) => Cause::Scripts,
            Some(_) if old.is_none() || was.is_some() => {
                match resolve::why(universe, &chosen.resolution, &package.name)? {
                    Some(Why {
                        asked: false,
                        needed_by,
                        ..
                    }) if !needed_by.is_empty() => {
                        let step = &needed_by[0];
                        Cause::NeededBy(format!("{} {}: {}", step.from, step.field, step.relation))
                    }
                    _ => Cause::Recipe,
                }
            }
            Some(_) => match package.role {
                PackageRole::Kernel => chosen.kernel_cause.clone(),
                PackageRole::Boot => chosen.boot_cause.clone(),
                // Nobody let it move, so the recipe asks for another version.
                PackageRole::Root | PackageRole::Tool => chosen
                    .causes
                    .get(&package.name)
                    .cloned()
                    .unwrap_or(Cause::Recipe),
            },
        };
        let offers = |record: &Record<'_>| {
            new.is_some_and(|new| record.name == new.name && record.sha256 == new.sha256)
        };
        let suites = read.records.iter().filter(offers);
        let suites = suites.filter_map(|record| read.archives.get(usize::from(record.suite)));
        let suites: BTreeSet<_> = suites.map(|archive| archive.suite.clone()).collect();
        changes.push(Change {
            package: package.name.clone(),
            role: package.role,
            was,
            from: old.map(|old| old.version.clone()),
            to: new.map(|new| new.version.clone()),
            suites: suites.into_iter().collect(),
            cause,
        });
    }
    changes.sort_by(|left, right| (&left.package, left.role).cmp(&(&right.package, right.role)));
    Ok(changes)
}

/// Explains why a package is part of the root file system. When the indexes of the previous lock
/// are still in the store, they are used and no network is touched.
///
/// # Errors
/// As [`lock`]; also when the package is not part of it.
pub fn why(request: &LockRequest<'_>, package: &str) -> Result<Why, LockError> {
    let suites = request.recipe.debian.suites();
    let locked = request.previous.filter(|lock| {
        suites
            .iter()
            .all(|suite| lock.archives.iter().any(|archive| archive.suite == *suite))
    });
    let stored = locked.map(|lock| archive::read_locked(lock, &suites, request.store));
    let read = match stored {
        Some(Ok(read)) => read,
        _ => archive::read(reading(request, &suites))?,
    };
    let plan = Plan::new(request.recipe, &suites)?;
    let universe = plan.universe(&read)?;
    let resolution = plan.resolve(&universe)?;
    resolve::why(&universe, &resolution, package)?.ok_or_else(|| LockError::NotChosen {
        package: package.to_owned(),
    })
}

fn reading<'a>(request: &LockRequest<'a>, suites: &'a [String]) -> Reading<'a> {
    Reading {
        suites,
        components: &request.recipe.debian.components,
        architecture: request.recipe.architecture.name(),
        previous: request.previous,
        sources: request.sources,
        store: request.store,
        now: request.now,
        listener: request.listener,
        interrupt: request.interrupt,
        stage: STAGE,
    }
}

fn warn_unused(recipe: &Recipe, resolution: &Resolution, listener: &dyn Listener) {
    let given: BTreeSet<_> = recipe
        .debian
        .assumed
        .iter()
        .map(|assumed| &assumed.package)
        .collect();
    for package in given
        .into_iter()
        .filter(|name| !resolution.assumed_used.contains(*name))
    {
        let text = format!("nothing depends on the assumed package `{package}`; remove the entry");
        listener.event(Event::Warning { stage: STAGE, text });
    }
}

fn package_lock(
    universe: &Universe<'_>,
    id: PackageId,
    role: PackageRole,
    archives: &[baker_model::lock::ArchiveLock],
) -> PackageLock {
    let record = universe.record(id);
    let suite = archives
        .get(usize::from(record.suite))
        .map_or("", |archive| &archive.suite);
    PackageLock {
        name: record.name.to_string(),
        version: record.version.to_string(),
        architecture: record.architecture.to_string(),
        role,
        archive: archive_of(suite).to_owned(),
        path: record.path.to_string(),
        size: record.size,
        sha256: record.sha256,
    }
}
