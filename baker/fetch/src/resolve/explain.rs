//! Why a request cannot be met, told in packages.
//!
//! Follows only what is forced: what is asked for, and what is the single way to meet a need.
//! Nearly all contradictions show up there; otherwise each way of one open choice is tried.

use std::collections::HashMap;

use super::ResolveError;
use super::universe::{Group, PackageId, Universe};

/// How many open choices are tried within each other before giving up.
const DEPTH: usize = 3;

/// The error for a name that is no package.
#[must_use]
pub fn unknown(universe: &Universe<'_>, name: &str) -> ResolveError {
    let providers = universe.providers(name);
    if !providers.is_empty() {
        let providers = providers
            .iter()
            .map(|id| universe.name(*id).to_owned())
            .collect();
        return ResolveError::Virtual {
            name: name.to_owned(),
            providers,
        };
    }
    let mut near: Vec<(usize, &str)> = universe
        .names()
        .filter(|known| known.len().abs_diff(name.len()) <= 3)
        .map(|known| (distance(name, known), known))
        .filter(|(distance, known)| *distance <= 1 + name.len().min(known.len()) / 5)
        .collect();
    near.sort_unstable();
    ResolveError::Unknown {
        name: name.to_owned(),
        near: near
            .into_iter()
            .take(3)
            .map(|(_, known)| known.to_owned())
            .collect(),
        suites: universe.suites().to_vec(),
    }
}

/// Edit distance with swaps of neighbours counted once (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut next = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let change = row[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            next[j] = change.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                next[j] = next[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[right.len()]
}

/// Lines that say why `asked` cannot be installed together; none when this way finds no reason.
///
/// # Errors
/// A relation that cannot be read.
pub fn explain(
    universe: &Universe<'_>,
    asked: &[PackageId],
) -> Result<Option<Vec<String>>, ResolveError> {
    let mut facts = Facts {
        universe,
        forced: HashMap::new(),
        refused: HashMap::new(),
    };
    for id in asked {
        if let Some(lines) = facts.force(*id, Cause::Asked)? {
            return Ok(Some(lines));
        }
    }
    facts.contradiction(&mut asked.to_vec(), 0)
}

#[derive(Debug, Clone, Copy)]
enum Cause<'a> {
    Asked,
    NeededBy(PackageId, &'a str),
    Tried,
}

#[derive(Clone)]
struct Facts<'u, 'a> {
    universe: &'u Universe<'a>,
    forced: HashMap<PackageId, Cause<'a>>,
    refused: HashMap<PackageId, (PackageId, &'static str, &'a str)>,
}

impl<'a> Facts<'_, 'a> {
    /// Takes a package as needed; the lines of the conflict when that cannot be.
    fn force(
        &mut self,
        id: PackageId,
        cause: Cause<'a>,
    ) -> Result<Option<Vec<String>>, ResolveError> {
        if self.forced.insert(id, cause).is_some() {
            return Ok(None);
        }
        if let Some((by, field, text)) = self.refused.get(&id).copied() {
            return Ok(Some(vec![self.clash(by, id, field, text)]));
        }
        let needs = self.universe.needs(id)?;
        for (other, field, text) in &needs.against {
            if self.forced.contains_key(other) {
                return Ok(Some(vec![self.clash(id, *other, field, text)]));
            }
            self.refused.entry(*other).or_insert((id, field, text));
        }
        Ok(None)
    }

    /// Follows needs with one way only until something contradicts, then tries open choices.
    fn contradiction(
        &mut self,
        open: &mut Vec<PackageId>,
        depth: usize,
    ) -> Result<Option<Vec<String>>, ResolveError> {
        let mut choice = None;
        let mut progress = true;
        while progress {
            progress = false;
            choice = None;
            let mut next = 0;
            while let Some(id) = open.get(next).copied() {
                next += 1;
                let needs = self.universe.needs(id)?;
                for (place, group) in needs.groups.iter().enumerate() {
                    if !group.is_hard() || self.is_met(group) {
                        continue;
                    }
                    let live: Vec<_> = self.live(group);
                    match live.as_slice() {
                        [] => return Ok(Some(vec![self.unmet(id, group)])),
                        [only] => {
                            let text = group.alternatives.text;
                            if let Some(lines) = self.force(*only, Cause::NeededBy(id, text))? {
                                return Ok(Some(lines));
                            }
                            open.push(*only);
                            progress = true;
                        }
                        _ => choice = choice.or(Some((id, place))),
                    }
                }
            }
        }
        match choice {
            Some((id, place)) if depth < DEPTH => self.every_way_fails(open, id, place, depth),
            _ => Ok(None),
        }
    }

    fn every_way_fails(
        &self,
        open: &[PackageId],
        id: PackageId,
        place: usize,
        depth: usize,
    ) -> Result<Option<Vec<String>>, ResolveError> {
        let needs = self.universe.needs(id)?;
        let Some(group) = needs.groups.get(place) else {
            return Ok(None);
        };
        let mut lines = vec![format!(
            "{} needs {}, and no way to meet that works:",
            self.chain(id),
            group.alternatives.text
        )];
        for option in self.live(group) {
            let mut tried = self.clone();
            let mut found = tried.force(option, Cause::Tried)?;
            if found.is_none() {
                let mut open = open.to_vec();
                open.push(option);
                found = tried.contradiction(&mut open, depth + 1)?;
            }
            let Some(reasons) = found else {
                return Ok(None);
            };
            lines.extend(reasons.into_iter().map(|line| format!("  {line}")));
        }
        Ok(Some(lines))
    }

    fn is_met(&self, group: &Group<'_>) -> bool {
        group.assumed.is_some()
            || group
                .options
                .iter()
                .any(|(id, _)| self.forced.contains_key(id))
    }

    fn live(&self, group: &Group<'_>) -> Vec<PackageId> {
        let options = group.options.iter().map(|(id, _)| *id);
        options
            .filter(|id| !self.refused.contains_key(id))
            .collect()
    }

    /// `a conflicts with b (Conflicts: x): a is asked for; b is needed by c (asked for) (as b)`
    fn clash(&self, by: PackageId, other: PackageId, field: &str, text: &str) -> String {
        let verb = self.verb(other, field, text);
        let by_name = self.universe.name(by);
        format!(
            "{by_name} {verb}: {}; {}",
            self.reason(by),
            self.reason(other)
        )
    }

    /// `breaks b (Breaks: x)`
    fn verb(&self, other: PackageId, field: &str, text: &str) -> String {
        let verb = if field == "Breaks" {
            "breaks"
        } else {
            "conflicts with"
        };
        let other = self.universe.name(other);
        match text == other {
            true => format!("{verb} {other}"),
            false => format!("{verb} {other} ({field}: {text})"),
        }
    }

    fn unmet(&self, id: PackageId, group: &Group<'_>) -> String {
        let alternatives = &group.alternatives;
        let mut reasons: Vec<String> = Vec::new();
        for (place, relation) in alternatives.relations.iter().enumerate() {
            let options = group
                .options
                .iter()
                .filter(|(_, at)| *at == place)
                .map(|(id, _)| *id);
            let options: Vec<_> = options.collect();
            for option in &options {
                if let Some((by, field, text)) = self.refused.get(option) {
                    let verb = self.verb(*option, field, text);
                    reasons.push(format!("{} {verb}", self.chain(*by)));
                }
            }
            if options.is_empty() {
                reasons.push(self.absent(relation.name));
            }
        }
        format!(
            "{} needs {}, but {}",
            self.chain(id),
            alternatives.text,
            reasons.join(", and ")
        )
    }

    /// What there is of a name when the version asked for is not.
    fn absent(&self, name: &str) -> String {
        let universe = self.universe;
        let found = universe
            .candidate(name)
            .map(|id| universe.version_and_suite(id));
        let providers = universe.providers(name);
        match (found, providers.as_slice()) {
            (Some(found), _) => format!("only {name} {found} is there"),
            (None, []) => format!("{name} is not in {}", universe.suites().join(", ")),
            (None, some) => {
                let names: Vec<_> = some.iter().map(|id| universe.name(*id)).collect();
                format!(
                    "{name}, provided by {}, is not provided so",
                    names.join(", ")
                )
            }
        }
    }

    /// `c, which b needs, which a (asked for) needs`: the package and why it is there.
    fn chain(&self, id: PackageId) -> String {
        let mut text = self.universe.name(id).to_owned();
        let mut at = id;
        for _ in 0..8 {
            match self.forced.get(&at) {
                Some(Cause::NeededBy(by, _)) => {
                    text.push_str(&format!(" (needed by {}", self.universe.name(*by)));
                    at = *by;
                }
                Some(Cause::Asked) => {
                    text.push_str(" (asked for");
                    break;
                }
                _ => break,
            }
        }
        let open = text.matches('(').count();
        text.push_str(&")".repeat(open));
        text
    }

    fn reason(&self, id: PackageId) -> String {
        let name = self.universe.name(id);
        match self.forced.get(&id) {
            Some(Cause::Asked) => format!("{name} is asked for"),
            Some(Cause::NeededBy(by, text)) => {
                format!("{name} is needed by {} (as {text})", self.chain(*by))
            }
            _ => format!("{name} is one way to meet a need"),
        }
    }
}
