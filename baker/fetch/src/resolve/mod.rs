//! Which packages a request comes to.
//!
//! Takes the records of all suites and the requests; gives the set of packages, or says in terms
//! of packages why there is none. Never looks at the network, a file or the clock.
//!
//! Two ways work together. [`choose`] takes the first choices, in the order in which apt takes
//! them, and is nearly always right; an independent check says whether its set holds. If not,
//! [`solver`] searches the whole space with those choices as a preference.

mod choose;
mod explain;
mod release;
mod request;
mod solver;
mod universe;
mod why;

use std::collections::{BTreeSet, HashSet};

pub use explain::unknown;
pub use release::blockers;
pub use request::Request;
pub use universe::{Group, PackageId, Universe};
pub use why::{Step, Taken, Why, why};

use crate::debian::relation::RelationError;

/// The rules of a resolution.
#[derive(Debug, Clone)]
pub struct Policy<'a> {
    /// Architecture of the target, in Debian's words.
    pub architecture: &'a str,
    /// Names of the suites, in the order of [`crate::debian::records::Record::suite`].
    pub suites: &'a [String],
    /// Names that are taken as present.
    pub assumed: BTreeSet<&'a str>,
    /// True to follow Recommends.
    pub recommends: bool,
}

/// A request cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No package of that name.
    #[error("package `{name}` is not in {}{}", suites.join(", "), did_you_mean(near))]
    Unknown {
        /// The name.
        name: String,
        /// The nearest names.
        near: Vec<String>,
        /// The suites searched.
        suites: Vec<String>,
    },
    /// Only other packages provide it.
    #[error("`{name}` is a virtual package; ask for one that provides it: {}", providers.join(", "))]
    Virtual {
        /// The name.
        name: String,
        /// Who provides it.
        providers: Vec<String>,
    },
    /// There are other versions only.
    #[error("package `{name}` has no version {version}; there is {}", found.join(", "))]
    NoSuchVersion {
        /// The name.
        name: String,
        /// The version asked for.
        version: String,
        /// Versions and where they are.
        found: Vec<String>,
    },
    /// A request that is no package name.
    #[error("`{request}` is no package; write `name`, `name=version` or `name:architecture`")]
    Request {
        /// The request.
        request: String,
    },
    /// A request for another architecture.
    #[error("`{request}` asks for another architecture than the recipe's {architecture}")]
    Architecture {
        /// The request.
        request: String,
        /// Architecture of the recipe.
        architecture: String,
    },
    /// A package both asked for and assumed.
    #[error("package `{name}` is asked for and assumed at once; remove one of the two")]
    Assumed {
        /// The name.
        name: String,
    },
    /// A field of a package that cannot be read.
    #[error("cannot read {field} of package {package}")]
    Relation {
        /// The package.
        package: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: RelationError,
    },
    /// There is no set of packages that meets all requests.
    #[error("these packages cannot be installed together:\n{}", indented(reasons))]
    Unsolvable {
        /// Why, line by line.
        reasons: Vec<String>,
    },
    /// A kernel package without an image.
    #[error("package `{package}` is no kernel image and depends on none")]
    NoKernel {
        /// The package.
        package: String,
    },
}

fn did_you_mean(near: &[String]) -> String {
    match near {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(", ")),
    }
}

fn indented(lines: &[String]) -> String {
    lines
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A set of packages that meets all requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// What was asked for, Essential packages included when the policy of the caller adds them.
    pub asked: Vec<PackageId>,
    /// All packages, sorted by name.
    pub packages: Vec<PackageId>,
    /// Assumed names that met a dependency of a chosen package.
    pub assumed_used: BTreeSet<String>,
}

/// Resolves `asked`, packages of the universe, to a set that holds.
///
/// # Errors
/// There is no such set, or a relation cannot be read.
pub fn resolve(universe: &Universe<'_>, asked: &[PackageId]) -> Result<Resolution, ResolveError> {
    let first = choose::choose(universe, asked)?;
    let mut packages = match holds(universe, asked, &first)? {
        true => first,
        false => search(universe, asked, first)?,
    };
    packages.sort_by_key(|id| universe.name(*id));
    let mut assumed_used = BTreeSet::new();
    for id in &packages {
        let needs = universe.needs(*id)?;
        assumed_used.extend(
            needs
                .groups
                .iter()
                .filter_map(|group| group.assumed)
                .map(str::to_owned),
        );
    }
    Ok(Resolution {
        asked: asked.to_vec(),
        packages,
        assumed_used,
    })
}

/// True when the set holds all that is asked for, meets every hard need and has no conflict.
fn holds(
    universe: &Universe<'_>,
    asked: &[PackageId],
    packages: &[PackageId],
) -> Result<bool, ResolveError> {
    let set: HashSet<_> = packages.iter().copied().collect();
    if !asked.iter().all(|id| set.contains(id)) {
        return Ok(false);
    }
    for id in packages {
        let needs = universe.needs(*id)?;
        let met = |group: &Group<'_>| {
            !group.is_hard()
                || group.assumed.is_some()
                || group.options.iter().any(|(id, _)| set.contains(id))
        };
        if !needs.groups.iter().all(met) || needs.against.iter().any(|(id, ..)| set.contains(id)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn search(
    universe: &Universe<'_>,
    asked: &[PackageId],
    first: Vec<PackageId>,
) -> Result<Vec<PackageId>, ResolveError> {
    let preferred: HashSet<_> = first.into_iter().collect();
    let mut wished = Vec::new();
    loop {
        let found = match solver::solve(universe, asked, &preferred, &wished)? {
            solver::Answer::Solved(found) => found,
            solver::Answer::Unsolvable(text) => {
                let reasons = explain::explain(universe, asked)?;
                let reasons = reasons.unwrap_or_else(|| text.lines().map(str::to_owned).collect());
                return Err(ResolveError::Unsolvable { reasons });
            }
        };
        let more = recommended(universe, &found, &wished)?;
        if more.is_empty() {
            return reachable(universe, asked, &found);
        }
        wished.extend(more);
    }
}

/// First choices for recommendations of the set that it does not meet and that were not tried yet.
fn recommended(
    universe: &Universe<'_>,
    found: &[PackageId],
    tried: &[PackageId],
) -> Result<Vec<PackageId>, ResolveError> {
    let set: HashSet<_> = found.iter().copied().collect();
    let tried: HashSet<_> = tried.iter().copied().collect();
    let mut more = BTreeSet::new();
    for id in found {
        let needs = universe.needs(*id)?;
        for group in needs
            .groups
            .iter()
            .filter(|group| !group.is_hard() && group.assumed.is_none())
        {
            if !group.options.iter().any(|(id, _)| set.contains(id)) {
                let fresh = group.options.iter().find(|(id, _)| !tried.contains(id));
                more.extend(fresh.map(|(id, _)| *id));
            }
        }
    }
    Ok(more.into_iter().collect())
}

/// Leaves out what the search took up on a way that it left again.
fn reachable(
    universe: &Universe<'_>,
    asked: &[PackageId],
    found: &[PackageId],
) -> Result<Vec<PackageId>, ResolveError> {
    let set: HashSet<_> = found.iter().copied().collect();
    let mut kept: Vec<PackageId> = asked.to_vec();
    let mut seen: HashSet<PackageId> = asked.iter().copied().collect();
    let mut next = 0;
    while let Some(id) = kept.get(next).copied() {
        next += 1;
        for group in &universe.needs(id)?.groups {
            let option = group.options.iter().map(|(id, _)| *id);
            let mut option = option.filter(|id| set.contains(id) && group.assumed.is_none());
            if let Some(id) = option.next().filter(|id| seen.insert(*id)) {
                kept.push(id);
            }
        }
    }
    Ok(kept)
}
