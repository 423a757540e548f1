//! The order in which packages are configured: what a package depends on comes first.

use std::collections::{BTreeMap, BTreeSet};

use crate::Package;

/// Sorts packages so that dependencies come first, as far as cycles allow; among equals the name
/// decides, so the order is the same for every lock with these packages.
pub(crate) fn configuration_order(packages: &[Package]) -> Vec<&Package> {
    let mut walk = Walk::of(packages);
    let names: Vec<&str> = walk.by_name.keys().copied().collect();
    for name in names {
        walk.visit(name);
    }
    walk.order
}

/// Names of the packages `from`, and of all that they depend on.
pub(crate) fn reached<'a>(packages: &'a [Package], from: &[&str]) -> BTreeSet<&'a str> {
    let mut walk = Walk::of(packages);
    for name in from {
        if let Some(package) = walk.by_name.get(name).copied() {
            walk.visit(&package.lock.name);
        }
    }
    let names = walk.order.iter();
    names.map(|package| package.lock.name.as_str()).collect()
}

/// The names in a dependency field of a package, all alternatives.
pub(crate) fn names_of<'a>(package: &'a Package, key: &str) -> Vec<&'a str> {
    let groups = field(&package.control, key).split(',');
    groups.flat_map(|group| names(group, '|')).collect()
}

struct Walk<'a> {
    by_name: BTreeMap<&'a str, &'a Package>,
    providers: BTreeMap<&'a str, Vec<&'a str>>,
    seen: BTreeSet<&'a str>,
    order: Vec<&'a Package>,
}

impl<'a> Walk<'a> {
    fn of(packages: &'a [Package]) -> Self {
        let mut by_name: BTreeMap<&str, &Package> = BTreeMap::new();
        let mut providers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for package in packages {
            by_name.insert(&package.lock.name, package);
            for provided in names(field(&package.control, "Provides"), ',') {
                providers
                    .entry(provided)
                    .or_default()
                    .push(&package.lock.name);
            }
        }
        Self {
            by_name,
            providers,
            seen: BTreeSet::new(),
            order: Vec::new(),
        }
    }

    fn visit(&mut self, name: &'a str) {
        let Some(package) = self.by_name.get(name).copied() else {
            return;
        };
        if !self.seen.insert(name) {
            return;
        }
        let control: &'a str = &package.control;
        for key in ["Pre-Depends", "Depends"] {
            for group in field(control, key).split(',') {
                for alternative in names(group, '|') {
                    let providers = self.providers.get(alternative).cloned().unwrap_or_default();
                    for real in std::iter::once(alternative).chain(providers) {
                        self.visit(real);
                    }
                }
            }
        }
        self.order.push(package);
    }
}

/// The value of a field of a control file, without its continuation lines (dependency fields of
/// binary packages have none).
fn field<'a>(control: &'a str, key: &str) -> &'a str {
    control
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case(key))
        .map_or("", |(_, value)| value.trim())
}

/// The names in a list; an empty list has none.
fn names(list: &str, separator: char) -> impl Iterator<Item = &str> {
    let names = list.split(separator).map(bare);
    names.filter(|name| !name.is_empty())
}

/// A name without architecture and version: `a:any (>= 1)` is `a`.
fn bare(dependency: &str) -> &str {
    let dependency = dependency.trim();
    dependency
        .split([' ', '(', ':', '['])
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    #[test]
    fn dependencies_come_first_and_cycles_end() {
        let rows = [
            ("a", "Depends: z (>= 1), v | gone\n"),
            ("b", "Pre-Depends: a:any\nProvides: x\n"),
            ("c", "Provides: v (= 2)\nDepends: a\n"),
            ("z", "Description: x\n"),
        ];
        let packages: Vec<Package> = rows
            .iter()
            .map(|(name, control)| {
                let mut package = testing::package(name, &[]);
                package.control = (*control).to_owned();
                package
            })
            .collect();
        let order: Vec<&str> = configuration_order(&packages)
            .iter()
            .map(|p| p.lock.name.as_str())
            .collect();
        assert_eq!(order, ["z", "c", "a", "b"]);
    }

    #[test]
    fn a_package_that_needs_nothing_waits_for_nothing() {
        let rows = [
            ("a", "Depends: b\n"),
            ("b", ""),
            ("c", "Depends: a\n"),
            ("d", ""),
        ];
        let packages = rows.map(|(name, control)| {
            let mut package = testing::package(name, &[]);
            package.control = control.to_owned();
            package
        });
        let order = configuration_order(&packages);
        let order: Vec<&str> = order.iter().map(|p| p.lock.name.as_str()).collect();
        assert_eq!(order, ["b", "a", "c", "d"]);
    }
}
