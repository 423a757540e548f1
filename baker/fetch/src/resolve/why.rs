//! Why a package is in the set: the chain of needs from a request to it, and which alternative
//! was taken for what reason.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;

use super::universe::{Group, PackageId, Universe};
use super::{Resolution, ResolveError};

/// Why a package is in the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Package name.
    pub package: String,
    /// Its version and suite.
    pub version: String,
    /// True when the recipe asks for it (or for all Essential packages, of which it is one).
    pub asked: bool,
    /// The shortest chain from a request, first step first; empty when it is asked for itself.
    pub chain: Vec<Step>,
    /// All packages of the set that need it directly, by name.
    pub needed_by: Vec<Step>,
}

/// One need and what meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The package that needs.
    pub from: String,
    /// `Depends`, `Pre-Depends` or `Recommends`.
    pub field: &'static str,
    /// The relation as written.
    pub relation: String,
    /// The package that meets it.
    pub to: String,
    /// Why this one.
    pub taken: Taken,
}

/// Why an alternative was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Nothing else meets the relation.
    OnlyWay,
    /// It comes first among those that do.
    First {
        /// The others.
        instead_of: Vec<String>,
    },
    /// It is in the set for another reason, and better ones are not.
    AlreadyThere {
        /// What would have come first.
        instead_of: Vec<String>,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {} -> {}",
            self.from, self.field, self.relation, self.to
        )?;
        match &self.taken {
            Taken::OnlyWay => Ok(()),
            Taken::First { instead_of } => {
                write!(f, " (first choice; others: {})", instead_of.join(", "))
            }
            Taken::AlreadyThere { instead_of } => {
                write!(f, " (there anyway, so not {})", instead_of.join(", "))
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.version)?;
        if self.asked {
            write!(f, "\n  asked for by the recipe")?;
        }
        for step in &self.chain {
            write!(f, "\n  {step}")?;
        }
        let others = self
            .needed_by
            .iter()
            .filter(|step| !self.chain.contains(step));
        for step in others {
            write!(f, "\n  also: {step}")?;
        }
        Ok(())
    }
}

/// Explains a package of the set; none when it is not in it.
///
/// # Errors
/// A relation that cannot be read.
pub fn why(
    universe: &Universe<'_>,
    resolution: &Resolution,
    package: &str,
) -> Result<Option<Why>, ResolveError> {
    let set: HashSet<_> = resolution.packages.iter().copied().collect();
    let Some(target) = universe.candidate(package).filter(|id| set.contains(id)) else {
        return Ok(None);
    };
    let mut from: HashMap<PackageId, Step> = HashMap::new();
    let mut parents: HashMap<PackageId, PackageId> = HashMap::new();
    let mut queue: VecDeque<PackageId> = resolution.asked.iter().copied().collect();
    let mut seen: HashSet<PackageId> = resolution.asked.iter().copied().collect();
    let mut needed_by = Vec::new();
    while let Some(id) = queue.pop_front() {
        for group in universe
            .needs(id)?
            .groups
            .iter()
            .filter(|group| group.assumed.is_none())
        {
            let Some((to, step)) = step(universe, &set, id, group) else {
                continue;
            };
            if to == target {
                needed_by.push(step.clone());
            }
            if seen.insert(to) {
                from.insert(to, step);
                parents.insert(to, id);
                queue.push_back(to);
            }
        }
    }
    let mut chain = Vec::new();
    let mut at = target;
    while let (Some(step), Some(parent)) = (from.get(&at), parents.get(&at)) {
        chain.push(step.clone());
        at = *parent;
    }
    chain.reverse();
    needed_by.sort_by(|left, right| left.from.cmp(&right.from));
    Ok(Some(Why {
        package: package.to_owned(),
        version: universe.version_and_suite(target),
        asked: resolution.asked.contains(&target),
        chain,
        needed_by,
    }))
}

fn step(
    universe: &Universe<'_>,
    set: &HashSet<PackageId>,
    from: PackageId,
    group: &Group<'_>,
) -> Option<(PackageId, Step)> {
    let ids: Vec<PackageId> = group.options.iter().map(|(id, _)| *id).collect();
    let place = ids.iter().position(|id| set.contains(id))?;
    let to = ids[place];
    let names = |ids: &[PackageId]| ids.iter().map(|id| universe.name(*id).to_owned()).collect();
    let taken = match (ids.len(), place) {
        (1, _) => Taken::OnlyWay,
        (_, 0) => Taken::First {
            instead_of: names(&ids[1..]),
        },
        _ => Taken::AlreadyThere {
            instead_of: names(&ids[..place]),
        },
    };
    let step = Step {
        from: universe.name(from).to_owned(),
        field: group.field,
        relation: group.alternatives.text.to_owned(),
        to: universe.name(to).to_owned(),
        taken,
    };
    Some((to, step))
}
