//! What a recipe asks of the resolver, and what comes of it for root, kernel and boot loader.

use std::collections::BTreeMap;

use baker_model::lock::{PackageLock, PackageRole};
use baker_model::{Lock, Recipe};

use crate::archive::Suites;
use crate::debian::relation;
use crate::lock::{LockError, LockRequest};
use crate::resolve::{self, PackageId, Policy, Request, Resolution, ResolveError, Universe};
use crate::update::{self, Cause, Fates, Moves, Security};

/// How many packages may lie between the kernel package of the recipe and the image.
const KERNEL_STEPS: usize = 4;

/// The packages of all roles.
pub(crate) struct Chosen {
    pub(crate) resolution: Resolution,
    pub(crate) kernel: PackageId,
    pub(crate) boot: PackageId,
    /// Why packages of the root moved, by name.
    pub(crate) causes: BTreeMap<String, Cause>,
    pub(crate) kernel_cause: Cause,
    pub(crate) boot_cause: Cause,
}

/// What a recipe asks of the resolver.
pub(crate) struct Plan<'a> {
    requests: Vec<Request<'a>>,
    policy: Policy<'a>,
    essential: bool,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(recipe: &'a Recipe, suites: &'a [String]) -> Result<Self, ResolveError> {
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

    pub(crate) fn universe(&self, read: &'a Suites) -> Result<Universe<'a>, ResolveError> {
        Universe::new(&read.records, self.policy.clone(), &self.requests)
    }

    /// Chooses the packages of all roles, what may not move at its locked version; what keeps the
    /// rest from being met is let go, one step after the other.
    pub(crate) fn choose(
        &self,
        universe: &mut Universe<'_>,
        request: &LockRequest<'_>,
        read: &Suites,
        moves: Moves<'_>,
    ) -> Result<Chosen, LockError> {
        let security = Security::of(read);
        let recipe = request.recipe;
        let previous = request.previous.filter(|_| moves != Moves::All);
        // Who extends a recipe has its kernel and its loader.
        let (booted, booting) = match request.parent {
            Some(parent) => (Some(parent.lock), Moves::Named(&[])),
            None => (previous, moves),
        };
        let (kernel, kernel_cause) = kernel(universe, recipe, booted, &security, booting)?;
        let (boot, boot_cause) = boot(universe, recipe, booted, &security, booting)?;
        let mut fates = match previous {
            Some(previous) => Fates::of(previous, universe, &security, moves),
            None => Fates::default(),
        };
        if let Some(previous) = request.previous.filter(|_| moves == Moves::All) {
            let names = previous.packages.iter().map(|package| package.name.clone());
            fates.causes = names.map(|name| (name, Cause::Newest)).collect();
        }
        let resolution = loop {
            universe.hold(fates.held.values().copied())?;
            let error = match self.resolve(universe) {
                Ok(resolution) => break resolution,
                Err(error @ ResolveError::Unsolvable { .. }) if !fates.held.is_empty() => error,
                Err(error) => return Err(error.into()),
            };
            let held = fates.held.values().copied().collect();
            let blockers = resolve::blockers(universe, &self.asked(universe), &held)?;
            if blockers.is_empty() {
                return Err(error.into());
            }
            for (id, need) in blockers {
                let name = universe.name(id);
                fates.held.remove(name);
                fates.causes.insert(name.to_owned(), Cause::Forced(need));
            }
        };
        Ok(Chosen {
            resolution,
            kernel,
            boot,
            causes: fates.causes,
            kernel_cause,
            boot_cause,
        })
    }

    pub(crate) fn resolve(&self, universe: &Universe<'_>) -> Result<Resolution, ResolveError> {
        resolve::resolve(universe, &self.asked(universe))
    }

    fn asked(&self, universe: &Universe<'_>) -> Vec<PackageId> {
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
        asked
    }
}

/// The kernel image and, where it may have moved, why.
fn kernel(
    universe: &Universe<'_>,
    recipe: &Recipe,
    previous: Option<&Lock>,
    security: &Security<'_>,
    moves: Moves<'_>,
) -> Result<(PackageId, Cause), ResolveError> {
    let package = recipe.kernel.package.as_str();
    let newest = kernel_image(universe, package, resolve_one(universe, package)?)?;
    let locked = previous.and_then(|lock| of_role(lock, PackageRole::Kernel));
    let Some(locked) = locked else {
        return Ok((newest, Cause::Newest));
    };
    if flavour(&locked.name) != flavour(universe.name(newest)) {
        return Ok((newest, Cause::Recipe));
    }
    // Packages that lead to an image have versions of their own; what counts is the image's.
    let images = universe.versions(package).iter();
    let images: Vec<_> = images
        .filter_map(|id| kernel_image(universe, package, *id).ok())
        .collect();
    let names = [package, &locked.name];
    let (id, cause) = update::choose(locked, &names, &images, universe, security, moves);
    Ok((id.unwrap_or(newest), cause.unwrap_or(Cause::Recipe)))
}

/// The package with stub and boot loader and, where it may have moved, why.
fn boot(
    universe: &Universe<'_>,
    recipe: &Recipe,
    previous: Option<&Lock>,
    security: &Security<'_>,
    moves: Moves<'_>,
) -> Result<(PackageId, Cause), ResolveError> {
    let package = recipe.boot.package.as_str();
    let newest = resolve_one(universe, package)?;
    let locked = previous.and_then(|lock| of_role(lock, PackageRole::Boot));
    match locked.filter(|locked| locked.name == package) {
        None if previous.is_none() => Ok((newest, Cause::Newest)),
        None => Ok((newest, Cause::Recipe)),
        Some(locked) => {
            let offered = universe.versions(package);
            let (id, cause) =
                update::choose(locked, &[package], offered, universe, security, moves);
            Ok((id.unwrap_or(newest), cause.unwrap_or(Cause::Recipe)))
        }
    }
}

fn of_role(lock: &Lock, role: PackageRole) -> Option<&PackageLock> {
    lock.packages.iter().find(|package| package.role == role)
}

/// A kernel package's name without the words that tell its version: a recipe that asks for another
/// flavour than the locked one is not held at the old.
fn flavour(name: &str) -> Vec<&str> {
    let is_flavour = |word: &&str| !word.starts_with(|first: char| first.is_ascii_digit());
    name.split('-').filter(is_flavour).collect()
}

/// The package that a kernel package leads to: itself, or the image that it depends on. Its own
/// dependencies (an initramfs generator, module tools) are not wanted: baker does their work.
fn kernel_image(
    universe: &Universe<'_>,
    package: &str,
    start: PackageId,
) -> Result<PackageId, ResolveError> {
    let mut at = start;
    for _ in 0..KERNEL_STEPS {
        let name = universe.name(at);
        let depends = universe.record(at).depends;
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
        let mut fitting = versions.filter(|id| image.accepts(Some(universe.record(**id).version)));
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
