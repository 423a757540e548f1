//! The resolve stage: recipe in, lock out.
//!
//! Takes a recipe and the sources; gives a lock that names every input by digest. The only stage
//! that asks the network what there is. Never writes into the recipe's folder.

use std::collections::BTreeSet;

use baker_model::event::Outcome;
use baker_model::lock::{FileLock, GuestLock, LOCK_VERSION, PackageLock, PackageRole};
use baker_model::recipe::{Debian, Scripts};
use baker_model::{Event, Interrupt, Listener, Lock, Recipe};

use crate::archive::{self, ArchiveError, Reading, Suites};
use crate::debian::relation;
use crate::resolve::{self, PackageId, Policy, Request, Resolution, ResolveError, Universe, Why};
use crate::sources::{Sources, archive_of};
use crate::store::Store;

const STAGE: &str = "resolve";

/// How many packages may lie between the kernel package of the recipe and the image.
const KERNEL_STEPS: usize = 4;

/// Everything that goes into a lock.
#[derive(Clone, Copy)]
pub struct LockRequest<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The lock that is to be replaced: archives older than it are refused.
    pub previous: Option<&'a Lock>,
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

/// A recipe cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The archives cannot be read or are refused.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The packages cannot be resolved.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// There is nothing to explain.
    #[error("package `{package}` is not part of the image")]
    NotChosen {
        /// The package.
        package: String,
    },
}

/// Locks a recipe.
///
/// # Errors
/// An archive is refused or cannot be reached, or the packages cannot be resolved.
pub fn lock(request: &LockRequest<'_>) -> Result<Lock, LockError> {
    let LockRequest {
        recipe, listener, ..
    } = *request;
    listener.event(Event::Started {
        stage: STAGE,
        total: None,
        unit: "bytes",
    });
    let suites = recipe.debian.suites();
    let read = archive::read(reading(request, &suites))?;
    let plan = Plan::new(recipe, &suites)?;
    let universe = plan.universe(&read)?;
    let resolution = plan.resolve(&universe)?;
    warn_unused(recipe, &resolution, listener);

    let locked = |id, role| package_lock(&universe, id, role, &read.archives);
    let root = resolution.packages.iter();
    let mut packages: Vec<PackageLock> = root.map(|id| locked(*id, PackageRole::Root)).collect();
    if recipe.debian.scripts == Scripts::Sandbox {
        packages.extend(tools(recipe, &suites, &read, &packages)?);
    }
    let kernel = kernel_image(&universe, &recipe.kernel.package)?;
    packages.push(locked(kernel, PackageRole::Kernel));
    let boot = resolve_one(&universe, &recipe.boot.package)?;
    packages.push(locked(boot, PackageRole::Boot));
    packages.sort();

    let mut files = request.files.to_vec();
    files.sort();
    let mut archives = read.archives.clone();
    archives.sort();
    let lock = Lock {
        version: LOCK_VERSION,
        recipe: recipe.digest(),
        epoch: archives
            .iter()
            .map(|archive| archive.date)
            .max()
            .unwrap_or_default(),
        guest: request.guest.clone(),
        files,
        archives,
        packages,
    };
    let summary = format!(
        "{} packages from {} suites",
        lock.packages.len(),
        lock.archives.len()
    );
    listener.event(Event::Finished {
        stage: STAGE,
        how: Outcome::Done,
        summary,
    });
    Ok(lock)
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

/// What a recipe asks of the resolver.
struct Plan<'a> {
    requests: Vec<Request<'a>>,
    policy: Policy<'a>,
    essential: bool,
}

impl<'a> Plan<'a> {
    fn new(recipe: &'a Recipe, suites: &'a [String]) -> Result<Self, ResolveError> {
        let debian = &recipe.debian;
        let architecture = recipe.architecture.name();
        let requests = debian
            .packages
            .iter()
            .map(|text| Request::parse(text, architecture));
        let policy = Policy {
            architecture,
            suites,
            assumed: debian
                .assumed
                .iter()
                .map(|assumed| assumed.package.as_str())
                .collect(),
            recommends: debian.recommends,
        };
        Ok(Self {
            requests: requests.collect::<Result<_, _>>()?,
            policy,
            essential: debian.essential,
        })
    }

    fn universe(&self, read: &'a Suites) -> Result<Universe<'a>, ResolveError> {
        Universe::new(&read.records, self.policy.clone(), &self.requests)
    }

    fn resolve(&self, universe: &Universe<'_>) -> Result<Resolution, ResolveError> {
        let mut asked = Vec::new();
        let names = self
            .requests
            .iter()
            .filter_map(|request| universe.candidate(request.name));
        let essential = if self.essential {
            universe.essential()
        } else {
            Vec::new()
        };
        for id in names.chain(essential) {
            if !asked.contains(&id) {
                asked.push(id);
            }
        }
        resolve::resolve(universe, &asked)
    }
}

/// What the packages' own scripts may rely on and the image does without: all that is Essential,
/// and what the recipe takes as present. They run with it, and it is taken away again.
fn tools(
    recipe: &Recipe,
    suites: &[String],
    read: &Suites,
    root: &[PackageLock],
) -> Result<Vec<PackageLock>, LockError> {
    let pinned = root
        .iter()
        .map(|package| format!("{}={}", package.name, package.version));
    let debian = Debian {
        packages: pinned.collect(),
        essential: true,
        recommends: false,
        assumed: Vec::new(),
        ..recipe.debian.clone()
    };
    let everything = Recipe {
        debian,
        ..recipe.clone()
    };
    let plan = Plan::new(&everything, suites)?;
    let universe = plan.universe(read)?;
    let resolution = plan.resolve(&universe)?;
    let locked = resolution
        .packages
        .iter()
        .map(|id| package_lock(&universe, *id, PackageRole::Tool, &read.archives));
    let is_new = |tool: &PackageLock| root.iter().all(|package| package.name != tool.name);
    Ok(locked.filter(is_new).collect())
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

/// The package that a kernel package leads to: itself, or the image that it depends on. Its own
/// dependencies (an initramfs generator, module tools) are not wanted: baker does their work.
fn kernel_image(universe: &Universe<'_>, package: &str) -> Result<PackageId, ResolveError> {
    let mut at = resolve_one(universe, package)?;
    for _ in 0..KERNEL_STEPS {
        let name = universe.name(at);
        let depends = &universe.record(at).depends;
        let parsed = relation::parse(depends).map_err(|source| ResolveError::Relation {
            package: name.to_owned(),
            field: "Depends",
            source,
        })?;
        let relations = parsed.iter().filter_map(|group| group.relations.first());
        let Some(image) = relations
            .into_iter()
            .find(|r| r.name.starts_with("linux-image-"))
        else {
            return match name.starts_with("linux-image-") {
                true => Ok(at),
                false => Err(ResolveError::NoKernel {
                    package: package.to_owned(),
                }),
            };
        };
        let versions = universe.versions(image.name).iter();
        let mut fitting = versions.filter(|id| image.accepts(Some(&universe.record(**id).version)));
        at = *fitting.next().ok_or_else(|| ResolveError::NoKernel {
            package: package.to_owned(),
        })?;
    }
    Err(ResolveError::NoKernel {
        package: package.to_owned(),
    })
}

/// The highest version of one package, without its dependencies.
fn resolve_one(universe: &Universe<'_>, package: &str) -> Result<PackageId, ResolveError> {
    universe
        .candidate(package)
        .ok_or_else(|| resolve::unknown(universe, package))
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
