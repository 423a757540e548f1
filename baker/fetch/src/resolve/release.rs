//! Which held packages stand in the way.
//!
//! When a set with held versions does not hold, somebody has to give way. What gives way is as
//! little as the relations ask for: a held version that a relation refuses, the holder of a relation
//! that its partner left behind, or one side of a conflict.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::universe::{Group, PackageId, Universe};
use super::{ResolveError, choose};

/// Held packages that keep `asked` from being met, each with the need that speaks against it, such
/// as `nginx 1.4 Depends: libc6 (>= 2.41)`. Empty when no held package is at fault.
///
/// # Errors
/// A relation that cannot be read.
pub fn blockers(
    universe: &Universe<'_>,
    asked: &[PackageId],
    held: &BTreeSet<PackageId>,
) -> Result<BTreeMap<PackageId, String>, ResolveError> {
    let set: HashSet<_> = choose::choose(universe, asked)?.into_iter().collect();
    let mut enemies: HashMap<PackageId, Vec<(PackageId, String)>> = HashMap::new();
    let mut chosen: Vec<_> = set.iter().copied().collect();
    chosen.sort_unstable();
    for id in &chosen {
        for (other, field, text) in &universe.needs(*id)?.against {
            let reason = format!("{} {field}: {text}", title(universe, *id));
            enemies.entry(*other).or_default().push((*id, reason));
        }
    }
    let mut search = Search {
        universe,
        set,
        held,
        enemies,
        seen: HashSet::new(),
        found: BTreeMap::new(),
    };
    for id in chosen.iter().chain(asked) {
        search.look(*id)?;
    }
    Ok(search.found)
}

fn title(universe: &Universe<'_>, id: PackageId) -> String {
    format!("{} {}", universe.name(id), universe.record(id).version)
}

struct Search<'s, 'u> {
    universe: &'s Universe<'u>,
    /// What was chosen all the same.
    set: HashSet<PackageId>,
    held: &'s BTreeSet<PackageId>,
    /// Who of the set cannot stand a package, and the words for it.
    enemies: HashMap<PackageId, Vec<(PackageId, String)>>,
    seen: HashSet<PackageId>,
    found: BTreeMap<PackageId, String>,
}

impl Search<'_, '_> {
    /// Looks at one package and at all that it could not have. The stack is our own, as in
    /// [`choose`].
    fn look(&mut self, id: PackageId) -> Result<(), ResolveError> {
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            if !self.seen.insert(id) {
                continue;
            }
            self.weigh_enemies(id)?;
            let needs = self.universe.needs(id)?;
            for group in &needs.groups {
                if self.is_unmet(group) && !self.blame(id, group) {
                    waiting.extend(group.options.iter().map(|(option, _)| *option));
                }
            }
        }
        Ok(())
    }

    fn is_unmet(&self, group: &Group<'_>) -> bool {
        let mut options = group.options.iter();
        group.is_hard() && group.assumed.is_none() && !options.any(|(id, _)| self.set.contains(id))
    }

    /// Finds who is to blame for an unmet need; false when it is somebody further down.
    fn blame(&mut self, id: PackageId, group: &Group<'_>) -> bool {
        let reason = format!(
            "{} {}: {}",
            title(self.universe, id),
            group.field,
            group.alternatives.text
        );
        let mut blamed = false;
        for relation in &group.alternatives.relations {
            let named = self.universe.candidate(relation.name);
            let refused = named.filter(|named| {
                let version = self.universe.record(*named).version;
                self.held.contains(named) && !relation.accepts(Some(version))
            });
            if let Some(refused) = refused {
                self.found.entry(refused).or_insert_with(|| reason.clone());
                blamed = true;
            }
        }
        if !blamed && group.options.is_empty() && self.held.contains(&id) {
            self.found.entry(id).or_insert(reason);
            blamed = true;
        }
        blamed
    }

    /// Finds one side to let go of each conflict between a package and the set.
    fn weigh_enemies(&mut self, id: PackageId) -> Result<(), ResolveError> {
        let needs = self.universe.needs(id)?;
        let own = needs
            .against
            .iter()
            .filter(|(other, ..)| self.set.contains(other));
        let own = own.map(|(other, field, text)| {
            let reason = format!("{} {field}: {text}", title(self.universe, id));
            (*other, reason)
        });
        let theirs = self.enemies.get(&id).into_iter().flatten().cloned();
        for (enemy, reason) in own.chain(theirs) {
            let mut sides = [id, enemy].into_iter();
            if let Some(side) = sides.find(|side| self.held.contains(side)) {
                self.found.entry(side).or_insert(reason);
            }
        }
        Ok(())
    }
}
