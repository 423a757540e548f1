//! The only place that knows resolvo: the packages as a satisfiability problem.
//!
//! Every package is a name of its own with one solvable, so that the order of the options of a
//! group is exactly the order of its version sets. A version set is "this package" (even number)
//! or "not this package" (odd number).

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider,
    HintDependenciesAvailable, Interner, KnownDependencies, NameId, Problem, Requirement,
    SolvableId, Solver, SolverCache, StringId, UnsolvableOrCancelled, VersionSetId,
    VersionSetUnionId,
};

use super::ResolveError;
use super::universe::{PackageId, Universe};

/// What the search came to.
pub enum Answer {
    /// These packages together, in no order.
    Solved(Vec<PackageId>),
    /// There is no such set; the solver's own words, to be used when there are no better ones.
    Unsolvable(String),
}

/// Searches a set that holds all packages asked for; among the options of a group those that are
/// `preferred` come first. `wished` packages are added where that is possible.
///
/// # Errors
/// A relation that cannot be read.
pub fn solve(
    universe: &Universe<'_>,
    asked: &[PackageId],
    preferred: &HashSet<PackageId>,
    wished: &[PackageId],
) -> Result<Answer, ResolveError> {
    let provider = Provider::new(universe, asked, preferred, wished)?;
    let single = |id: &PackageId| ConditionalRequirement::from(provider.this(*id));
    let requirements = asked.iter().map(single).collect();
    let wished: Vec<_> = wished
        .iter()
        .map(|id| SolvableId::from_raw(provider.place(*id)))
        .collect();
    let problem = Problem::new()
        .requirements(requirements)
        .soft_requirements(wished);
    let mut solver = Solver::new(provider);
    match solver.solve(problem) {
        Ok(solvables) => {
            let ids = solvables
                .iter()
                .map(|solvable| solver.provider().id(solvable.into_raw()));
            Ok(Answer::Solved(ids.collect()))
        }
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => Ok(Answer::Unsolvable(
            conflict.display_user_friendly(&solver).to_string(),
        )),
        Err(UnsolvableOrCancelled::Cancelled(_)) => {
            Ok(Answer::Unsolvable("the search was cancelled".to_owned()))
        }
    }
}

struct Provider {
    packages: Vec<Package>,
    places: HashMap<PackageId, u32>,
    unions: Vec<Vec<VersionSetId>>,
}

struct Package {
    id: PackageId,
    name: String,
    text: String,
    dependencies: Dependencies,
}

impl Provider {
    /// Collects every package that any choice can lead to.
    fn new(
        universe: &Universe<'_>,
        asked: &[PackageId],
        preferred: &HashSet<PackageId>,
        wished: &[PackageId],
    ) -> Result<Self, ResolveError> {
        let mut provider = Self {
            packages: Vec::new(),
            places: HashMap::new(),
            unions: Vec::new(),
        };
        for id in asked.iter().chain(wished) {
            provider.add(universe, *id);
        }
        let mut next = 0;
        while let Some(package) = provider.packages.get(next) {
            let id = package.id;
            let needs = universe.needs(id)?;
            let mut known = KnownDependencies::default();
            let mut missing = false;
            for group in needs
                .groups
                .iter()
                .filter(|group| group.is_hard() && group.assumed.is_none())
            {
                let mut options: Vec<_> = group.options.iter().map(|(id, _)| *id).collect();
                options.sort_by_key(|id| !preferred.contains(id));
                let sets: Vec<_> = options
                    .iter()
                    .map(|id| VersionSetId(provider.add(universe, *id) * 2))
                    .collect();
                match sets.as_slice() {
                    [] => missing = true,
                    [one] => known.requirements.push(Requirement::Single(*one).into()),
                    _ => {
                        let union = u32::try_from(provider.unions.len());
                        let union = VersionSetUnionId(union.unwrap_or(u32::MAX));
                        provider.unions.push(sets);
                        known.requirements.push(Requirement::Union(union).into());
                    }
                }
            }
            for (other, ..) in &needs.against {
                known
                    .constrains
                    .push(VersionSetId(provider.add(universe, *other) * 2 + 1));
            }
            provider.packages[next].dependencies = match missing {
                true => Dependencies::Unknown(StringId(0)),
                false => Dependencies::Known(known),
            };
            next += 1;
        }
        Ok(provider)
    }

    fn add(&mut self, universe: &Universe<'_>, id: PackageId) -> u32 {
        if let Some(place) = self.places.get(&id) {
            return *place;
        }
        let place = u32::try_from(self.packages.len()).unwrap_or(u32::MAX);
        let record = universe.record(id);
        self.packages.push(Package {
            id,
            name: record.name.to_string(),
            text: format!("{} {}", record.name, record.version),
            dependencies: Dependencies::Known(KnownDependencies::default()),
        });
        self.places.insert(id, place);
        place
    }

    fn place(&self, id: PackageId) -> u32 {
        self.places.get(&id).copied().unwrap_or(u32::MAX)
    }

    fn this(&self, id: PackageId) -> VersionSetId {
        VersionSetId(self.place(id) * 2)
    }

    fn id(&self, place: u32) -> PackageId {
        self.packages[place as usize].id
    }
}

impl Interner for Provider {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        &self.packages[solvable.into_raw() as usize].text
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        &self.packages[name.into_raw() as usize].name
    }

    fn display_version_set(&self, version_set: VersionSetId) -> impl Display + '_ {
        if version_set.0.is_multiple_of(2) {
            ""
        } else {
            "(absent)"
        }
    }

    fn display_string(&self, _: StringId) -> impl Display + '_ {
        "it needs something that is in no suite"
    }

    fn version_set_name(&self, version_set: VersionSetId) -> NameId {
        NameId::from_raw(version_set.0 / 2)
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        NameId::from_raw(solvable.into_raw())
    }

    fn version_sets_in_union(
        &self,
        version_set_union: VersionSetUnionId,
    ) -> impl Iterator<Item = VersionSetId> {
        self.unions[version_set_union.0 as usize].iter().copied()
    }

    fn resolve_condition(&self, _: ConditionId) -> Condition {
        unreachable!("no requirement here has a condition")
    }
}

impl DependencyProvider for Provider {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        version_set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let this = version_set.0.is_multiple_of(2);
        if this == inverse {
            Vec::new()
        } else {
            candidates.to_vec()
        }
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates<SolvableId>> {
        Some(Candidates {
            candidates: vec![SolvableId::from_raw(name.into_raw())],
            hint_dependencies_available: HintDependenciesAvailable::All,
            ..Candidates::default()
        })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, _: &mut [SolvableId]) {}

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        self.packages[solvable.into_raw() as usize]
            .dependencies
            .clone()
    }
}
