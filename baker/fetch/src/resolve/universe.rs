//! All packages of all suites as one set: which version of a name counts, what meets a relation,
//! what a package needs and what it cannot stand.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::request::Request;
use super::{Policy, ResolveError};
use crate::debian::records::{Record, Records};
use crate::debian::relation::{self, Alternatives, Relation};
use baker_model::version;

/// A package of the universe, by its place in the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId(u32);

/// All packages, with one candidate version for every name.
///
/// As with apt, a name stands for its highest version in all suites together, unless a request
/// asks for another one: an older version never slips in because it makes a set solvable.
pub struct Universe<'a> {
    records: &'a Records,
    policy: Policy<'a>,
    versions: HashMap<&'a str, Vec<PackageId>>,
    /// Versions that requests name.
    pinned: HashMap<&'a str, PackageId>,
    /// Versions that stand in for the highest one, see [`Universe::hold`].
    held: HashMap<&'a str, PackageId>,
    providers: HashMap<&'a str, Vec<(PackageId, Option<&'a str>)>>,
    needs: RefCell<HashMap<PackageId, Rc<Needs<'a>>>>,
}

/// What one package needs and what it cannot stand.
#[derive(Debug)]
pub struct Needs<'a> {
    /// Each must be met by one of its options.
    pub groups: Vec<Group<'a>>,
    /// Candidates that may not be installed together with the package.
    pub against: Vec<(PackageId, &'static str, &'a str)>,
}

/// One `a | b` of a package.
#[derive(Debug)]
pub struct Group<'a> {
    /// `Pre-Depends`, `Depends` or `Recommends`.
    pub field: &'static str,
    /// As written.
    pub alternatives: Alternatives<'a>,
    /// What meets it, best first, with the place of the alternative that it meets.
    pub options: Vec<(PackageId, usize)>,
    /// The assumed package that meets it by nothing.
    pub assumed: Option<&'a str>,
}

impl Group<'_> {
    /// True when the package cannot be without it.
    #[must_use]
    pub fn is_hard(&self) -> bool {
        self.field != "Recommends"
    }
}

impl<'a> Universe<'a> {
    /// Sorts the records by name and version and applies the versions that requests ask for.
    ///
    /// # Errors
    /// A request that names nothing, or a Provides field that cannot be read.
    pub fn new(
        records: &'a Records,
        policy: Policy<'a>,
        requests: &[Request<'a>],
    ) -> Result<Self, ResolveError> {
        let mut versions: HashMap<&str, Vec<PackageId>> = HashMap::with_capacity(records.len());
        for (place, record) in (0..).zip(records.iter()) {
            if [policy.architecture, "all"].contains(&record.architecture) {
                versions
                    .entry(record.name)
                    .or_default()
                    .push(PackageId(place));
            }
        }
        let at = |id: PackageId| record(records, id);
        for ids in versions.values_mut() {
            ids.sort_by(|left, right| {
                let (left, right) = (at(*left), at(*right));
                version::compare(right.version, left.version)
                    .then_with(|| (left.architecture == "all").cmp(&(right.architecture == "all")))
                    .then_with(|| left.suite.cmp(&right.suite))
            });
            ids.dedup_by(|later, first| at(*later).version == at(*first).version);
        }
        let mut universe = Self {
            records,
            policy,
            versions,
            pinned: HashMap::new(),
            held: HashMap::new(),
            providers: HashMap::new(),
            needs: RefCell::default(),
        };
        universe.index_providers()?;
        for request in requests {
            let id = universe.find(request)?;
            if request.version.is_some() {
                universe.pinned.insert(universe.name(id), id);
            }
        }
        // Another version may provide something else.
        if requests.iter().any(|request| request.version.is_some()) {
            universe.index_providers()?;
        }
        Ok(universe)
    }

    /// Lets names stand for these versions instead of their highest, in place of all that were held
    /// before. A version that a request names goes first.
    ///
    /// # Errors
    /// A Provides field cannot be read.
    pub fn hold(&mut self, held: impl IntoIterator<Item = PackageId>) -> Result<(), ResolveError> {
        let records = self.records;
        let named = |id: PackageId| (record(records, id).name, id);
        self.held = held.into_iter().map(named).collect();
        self.needs.borrow_mut().clear();
        self.index_providers()
    }

    fn index_providers(&mut self) -> Result<(), ResolveError> {
        let mut providers: HashMap<&str, Vec<_>> = HashMap::new();
        for (place, record) in (0..).map(PackageId).zip(self.records.iter()) {
            if record.provides.is_empty() || self.candidate(record.name) != Some(place) {
                continue;
            }
            for provided in self.parse(place, "Provides", record.provides)? {
                let Some(relation) = provided.relations.first() else {
                    continue;
                };
                let version = relation.version.map(|(_, version)| version);
                providers
                    .entry(relation.name)
                    .or_default()
                    .push((place, version));
            }
        }
        self.providers = providers;
        Ok(())
    }

    /// The package that a request means.
    fn find(&self, request: &Request<'a>) -> Result<PackageId, ResolveError> {
        if self.is_assumed(request.name) {
            return Err(ResolveError::Assumed {
                name: request.name.to_owned(),
            });
        }
        let Some(versions) = self.versions.get(request.name) else {
            return Err(super::explain::unknown(self, request.name));
        };
        let fits = |id: &&PackageId| {
            request
                .version
                .is_none_or(|version| self.record(**id).version == version)
        };
        versions
            .iter()
            .find(fits)
            .copied()
            .ok_or_else(|| ResolveError::NoSuchVersion {
                name: request.name.to_owned(),
                version: request.version.unwrap_or_default().to_owned(),
                found: versions
                    .iter()
                    .map(|id| self.version_and_suite(*id))
                    .collect(),
            })
    }

    /// The version of a name that counts; none when there is no such package or it is assumed.
    #[must_use]
    pub fn candidate(&self, name: &str) -> Option<PackageId> {
        if self.is_assumed(name) {
            return None;
        }
        let highest = || self.versions.get(name).and_then(|ids| ids.first());
        let fixed = self.pinned.get(name).or_else(|| self.held.get(name));
        fixed.or_else(highest).copied()
    }

    /// All versions of a name, highest first.
    #[must_use]
    pub fn versions(&self, name: &str) -> &[PackageId] {
        self.versions.get(name).map_or(&[], Vec::as_slice)
    }

    /// The record of a package.
    #[must_use]
    pub fn record(&self, id: PackageId) -> Record<'a> {
        record(self.records, id)
    }

    /// Name of a package.
    #[must_use]
    pub fn name(&self, id: PackageId) -> &'a str {
        self.record(id).name
    }

    /// `1.9 in trixie`.
    #[must_use]
    pub fn version_and_suite(&self, id: PackageId) -> String {
        let record = self.record(id);
        let suite = self.policy.suites.get(usize::from(record.suite));
        format!(
            "{} in {}",
            record.version,
            suite.map_or("?", String::as_str)
        )
    }

    /// The suites, by name.
    #[must_use]
    pub fn suites(&self) -> &'a [String] {
        self.policy.suites
    }

    /// All names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.versions.keys().copied()
    }

    /// True when dependencies on this name are met by nothing.
    #[must_use]
    pub fn is_assumed(&self, name: &str) -> bool {
        self.policy.assumed.contains(name)
    }

    /// Every package marked Essential, by name.
    #[must_use]
    pub fn essential(&self) -> Vec<PackageId> {
        let names: BTreeSet<&str> = self
            .records
            .iter()
            .filter(|record| record.essential)
            .map(|record| record.name)
            .collect();
        let candidates = names.into_iter().filter_map(|name| self.candidate(name));
        candidates.filter(|id| self.record(*id).essential).collect()
    }

    /// Packages that provide a name that they do not have, by name.
    #[must_use]
    pub fn providers(&self, name: &str) -> Vec<PackageId> {
        let all = self.providers.get(name).into_iter().flatten();
        let mut ids: Vec<_> = all.map(|(id, _)| *id).collect();
        ids.sort_by_key(|id| self.name(*id));
        ids.dedup();
        ids
    }

    /// Candidates that meet a relation, best first: the package of that name, then providers,
    /// essential ones and those of higher priority first, as apt orders them; among equals by name.
    #[must_use]
    pub fn meeting(&self, relation: &Relation<'_>) -> Vec<PackageId> {
        let qualified = |id: PackageId| match relation.qualifier {
            None | Some("native") => true,
            Some("any") => self.record(id).multi_arch_allowed,
            Some(other) => other == self.policy.architecture,
        };
        self.matching(relation)
            .into_iter()
            .filter(|id| qualified(*id))
            .collect()
    }

    fn matching(&self, relation: &Relation<'_>) -> Vec<PackageId> {
        let real = self.candidate(relation.name);
        let real = real.filter(|id| relation.accepts(Some(self.record(*id).version)));
        let provided = self.providers.get(relation.name).into_iter().flatten();
        let provided = provided
            .filter(|(_, version)| relation.accepts(*version))
            .map(|(id, _)| *id);
        let mut ids: Vec<_> = real.into_iter().chain(provided).collect();
        ids.sort_by_key(|id| {
            let record = self.record(*id);
            (
                record.name != relation.name,
                Reverse(record.essential),
                record.priority,
                record.name,
            )
        });
        ids.dedup();
        ids
    }

    /// What a package needs and cannot stand; worked out once for each package looked at.
    ///
    /// # Errors
    /// A field that cannot be read.
    pub fn needs(&self, id: PackageId) -> Result<Rc<Needs<'a>>, ResolveError> {
        if let Some(known) = self.needs.borrow().get(&id) {
            return Ok(Rc::clone(known));
        }
        let record = self.record(id);
        let mut groups = Vec::new();
        let wanted = [
            ("Pre-Depends", record.pre_depends, true),
            ("Depends", record.depends, true),
            ("Recommends", record.recommends, self.policy.recommends),
        ];
        for (field, value, _) in wanted.into_iter().filter(|(_, _, wanted)| *wanted) {
            let parsed = self.parse(id, field, value)?;
            groups.extend(
                parsed
                    .into_iter()
                    .map(|alternatives| self.group(field, alternatives)),
            );
        }
        let mut against = Vec::new();
        for (field, value) in [("Conflicts", record.conflicts), ("Breaks", record.breaks)] {
            for alternatives in self.parse(id, field, value)? {
                let hit = alternatives
                    .relations
                    .iter()
                    .flat_map(|relation| self.matching(relation));
                let others = hit.filter(|other| *other != id);
                against.extend(others.map(|other| (other, field, alternatives.text)));
            }
        }
        let needs = Rc::new(Needs { groups, against });
        self.needs.borrow_mut().insert(id, Rc::clone(&needs));
        Ok(needs)
    }

    fn group(&self, field: &'static str, alternatives: Alternatives<'a>) -> Group<'a> {
        let names = alternatives.relations.iter().map(|relation| relation.name);
        let assumed = names.into_iter().find(|name| self.is_assumed(name));
        let mut options: Vec<(PackageId, usize)> = Vec::new();
        for (place, relation) in alternatives.relations.iter().enumerate() {
            for id in self.meeting(relation) {
                if options.iter().all(|(known, _)| *known != id) {
                    options.push((id, place));
                }
            }
        }
        Group {
            field,
            alternatives,
            options,
            assumed,
        }
    }

    fn parse(
        &self,
        id: PackageId,
        field: &'static str,
        value: &'a str,
    ) -> Result<Vec<Alternatives<'a>>, ResolveError> {
        relation::parse(value).map_err(|source| ResolveError::Relation {
            package: self.name(id).to_owned(),
            field,
            source,
        })
    }
}

/// An id comes from the records that it is looked up in.
fn record<'a>(records: &'a Records, id: PackageId) -> Record<'a> {
    let found = records.get(id.0 as usize);
    found.expect("an id is a place in its records")
}
