//! Recipes that extend another one: they take over its packages as they are locked, so that its
//! part of the image is configured once for all of them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use baker_model::lock::{LayerLock, PackageLock, PackageRole};
use baker_model::recipe::Debian;
use baker_model::{Lock, Recipe};

use crate::lock::{LockError, Parent, pin};

/// The recipe with every package of its parent asked for in the version that it is locked at.
pub(crate) fn pinned<'a>(
    recipe: &'a Recipe,
    parent: Option<Parent<'_>>,
) -> Result<Cow<'a, Recipe>, LockError> {
    let Some(parent) = parent else {
        return Ok(Cow::Borrowed(recipe));
    };
    let theirs = parent.lock.packages.iter();
    let theirs: Vec<&PackageLock> = theirs
        .filter(|package| package.role == PackageRole::Root)
        .collect();
    let mut packages: Vec<String> = theirs.iter().map(|package| pin(package)).collect();
    for asked in &recipe.debian.packages {
        let (name, version) = match asked.split_once('=') {
            Some((name, version)) => (name, Some(version)),
            None => (asked.as_str(), None),
        };
        let name = name.split(':').next().unwrap_or(name);
        match theirs.iter().find(|package| package.name == name) {
            None => packages.push(asked.clone()),
            Some(package) if version.is_none_or(|version| version == package.version) => {}
            Some(package) => {
                return Err(LockError::Pinned {
                    asked: asked.clone(),
                    parent: parent.name.to_owned(),
                    version: package.version.clone(),
                });
            }
        }
    }
    let debian = Debian {
        packages,
        ..recipe.debian.clone()
    };
    Ok(Cow::Owned(Recipe {
        debian,
        ..recipe.clone()
    }))
}

/// What the parent has for its scripts only.
pub(crate) fn tools(parent: Option<Parent<'_>>) -> impl Iterator<Item = &PackageLock> {
    let lock = parent.map(|parent| parent.lock);
    let packages = lock.into_iter().flat_map(|lock| &lock.packages);
    packages.filter(|package| package.role == PackageRole::Tool)
}

/// The layers below a recipe: those of its parent, and the parent.
pub(crate) fn layers(parent: Option<Parent<'_>>) -> Vec<LayerLock> {
    let Some(parent) = parent else {
        return Vec::new();
    };
    let lock = parent.lock;
    let mut layers = lock.layers.clone();
    let of_layers = |names: fn(&LayerLock) -> &[String]| -> BTreeSet<&str> {
        let all = lock.layers.iter().flat_map(names);
        all.map(String::as_str).collect()
    };
    let below = of_layers(|layer| &layer.packages);
    let ran = of_layers(|layer| &layer.runs);
    let own = own_packages(lock).filter(|package| !below.contains(package.name.as_str()));
    let runs = parent.runs.iter();
    let layer = LayerLock {
        recipe: parent.name.to_owned(),
        pins: lock.pins(),
        epoch: lock.epoch,
        answers: parent.answers.to_owned(),
        packages: own.map(|package| package.name.clone()).collect(),
        runs: runs
            .filter(|name| !ran.contains(name.as_str()))
            .cloned()
            .collect(),
    };
    layers.push(layer);
    layers
}

/// What is there while scripts run.
fn own_packages(lock: &Lock) -> impl Iterator<Item = &PackageLock> {
    lock.packages
        .iter()
        .filter(|package| package.role.is_installed())
}
