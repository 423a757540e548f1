//! Packages by name, version and size.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use baker_model::lock::PackageRole;
use serde::Serialize;

use super::Side;

/// One package that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageChange {
    /// Its name, with the architecture where there are several of the name.
    pub name: String,
    /// As the first side has it.
    pub from: Option<PackageState>,
    /// As the second side has it.
    pub to: Option<PackageState>,
}

/// A package on one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageState {
    /// Version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// Bytes, as [`super::Diff::size_basis`] says; none when one side does not tell those.
    pub size: Option<u64>,
}

/// How large a package is on both sides; zero where it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageSize {
    /// Its name.
    pub name: String,
    /// Bytes on the first side.
    pub from: u64,
    /// Bytes on the second side.
    pub to: u64,
    /// True when the versions differ.
    pub changed: bool,
}

/// What stands for files that belong to no package.
pub(super) const NOBODY: &str = "(no package)";

type States = BTreeMap<String, PackageState>;

/// Changes, all sizes, and what the sizes are.
pub(super) fn compare(
    from: &Side<'_>,
    to: &Side<'_>,
) -> (Vec<PackageChange>, Vec<PackageSize>, &'static str) {
    let (left, right, basis) = match (from.disk, to.disk, from.lock, to.lock) {
        (Some(left), Some(right), ..) => (installed(left), installed(right), "installed"),
        (_, _, Some(left), Some(right)) => (locked(left), locked(right), "files"),
        // A lock beside an image without one: sizes of files and of what is in them do not compare.
        _ => (unsized_states(from), unsized_states(to), "none"),
    };
    let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let changes = names.iter().filter_map(|name| {
        let (from, to) = (left.get(*name), right.get(*name));
        let same = from.zip(to).is_some_and(|(from, to)| {
            from.version == to.version && from.architecture == to.architecture
        });
        (!same).then(|| PackageChange {
            name: (*name).clone(),
            from: from.cloned(),
            to: to.cloned(),
        })
    });
    let changes = changes.collect();
    let size = |states: &States, name: &str| states.get(name).and_then(|state| state.size);
    let mut sizes: Vec<PackageSize> = names
        .iter()
        .map(|name| PackageSize {
            name: (*name).clone(),
            from: size(&left, name).unwrap_or(0),
            to: size(&right, name).unwrap_or(0),
            changed: left.get(*name).map(|state| &state.version)
                != right.get(*name).map(|state| &state.version),
        })
        .collect();
    if let Some((from, to)) = from.disk.zip(to.disk) {
        sizes.push(PackageSize {
            name: NOBODY.to_owned(),
            from: from.survey.unowned_size,
            to: to.survey.unowned_size,
            changed: false,
        });
    }
    sizes.retain(|size| size.from.max(size.to) > 0);
    sizes.sort_by(|one, other| {
        let key = |size: &PackageSize| Reverse(size.from.max(size.to));
        (key(one), &one.name).cmp(&(key(other), &other.name))
    });
    (changes, sizes, basis)
}

fn installed(disk: super::OpenDisk<'_>) -> States {
    let packages = disk.survey.packages.iter();
    named(packages.map(|package| {
        let state = PackageState {
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            size: Some(package.size),
        };
        (package.name.clone(), state)
    }))
}

fn locked(lock: &baker_model::Lock) -> States {
    let packages = lock.packages.iter();
    named(
        packages
            .filter(|package| package.role == PackageRole::Root)
            .map(|package| {
                let state = PackageState {
                    version: package.version.clone(),
                    architecture: package.architecture.clone(),
                    size: Some(package.size),
                };
                (package.name.clone(), state)
            }),
    )
}

fn unsized_states(side: &Side<'_>) -> States {
    let mut states = match (side.disk, side.lock) {
        (Some(disk), _) => installed(disk),
        (None, Some(lock)) => locked(lock),
        (None, None) => States::new(),
    };
    states.values_mut().for_each(|state| state.size = None);
    states
}

/// By name; by name and architecture what has several.
fn named(packages: impl Iterator<Item = (String, PackageState)>) -> States {
    let packages: Vec<_> = packages.collect();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for (name, _) in &packages {
        *counts.entry(name).or_default() += 1;
    }
    let several: BTreeSet<String> = counts
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .map(|(name, _)| name.to_owned())
        .collect();
    packages
        .into_iter()
        .map(|(name, state)| match several.contains(&name) {
            true => (format!("{name}:{}", state.architecture), state),
            false => (name, state),
        })
        .collect()
}
