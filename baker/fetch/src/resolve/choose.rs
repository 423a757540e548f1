//! The set that apt would choose: depth first, first alternative that works, what is chosen
//! already counts, nothing is ever taken back except a package whose needs fail.
//!
//! Quick and, for nearly all requests, right. What it gives is always checked; when it does not
//! hold, the solver searches with it as a preference.

use std::collections::HashMap;

use super::ResolveError;
use super::universe::{PackageId, Universe};

/// The packages chosen, in the order of choice.
///
/// # Errors
/// A relation that cannot be read.
pub fn choose(
    universe: &Universe<'_>,
    asked: &[PackageId],
) -> Result<Vec<PackageId>, ResolveError> {
    let mut walk = Walk {
        universe,
        marks: HashMap::new(),
        order: Vec::new(),
    };
    for id in asked {
        walk.mark(*id, Mark::Chosen);
    }
    for id in asked {
        walk.install(*id)?;
    }
    let chosen = |id: &PackageId| walk.marks.get(id) == Some(&Mark::Chosen);
    Ok(walk.order.iter().copied().filter(chosen).collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Chosen,
    Refused,
}

struct Walk<'u, 'a> {
    universe: &'u Universe<'a>,
    marks: HashMap<PackageId, Mark>,
    order: Vec<PackageId>,
}

/// A package whose needs are being met: which group, which of its options.
struct Frame {
    id: PackageId,
    group: usize,
    option: usize,
    asked: bool,
}

impl Walk<'_, '_> {
    fn mark(&mut self, id: PackageId, mark: Mark) {
        if self.marks.insert(id, mark).is_none() && mark == Mark::Chosen {
            self.order.push(id);
        }
    }

    /// An own stack instead of recursion: chains of dependencies can be thousands long.
    fn install(&mut self, asked: PackageId) -> Result<(), ResolveError> {
        if !self.begin(asked, true)? {
            return Ok(());
        }
        let mut stack = vec![Frame {
            id: asked,
            group: 0,
            option: 0,
            asked: true,
        }];
        while let Some(frame) = stack.last_mut() {
            let needs = self.universe.needs(frame.id)?;
            let Some(group) = needs.groups.get(frame.group) else {
                stack.pop();
                continue;
            };
            let chosen = |(id, _): &(PackageId, usize)| self.marks.get(id) == Some(&Mark::Chosen);
            if group.assumed.is_some() || group.options.iter().any(chosen) {
                (frame.group, frame.option) = (frame.group + 1, 0);
                continue;
            }
            let Some((option, _)) = group.options.get(frame.option) else {
                // Nothing meets the group. What was asked for stays, for the check to find.
                if group.is_hard() && !frame.asked {
                    self.marks.insert(frame.id, Mark::Refused);
                    stack.pop();
                } else {
                    (frame.group, frame.option) = (frame.group + 1, 0);
                }
                continue;
            };
            frame.option += 1;
            if self.begin(*option, false)? {
                stack.push(Frame {
                    id: *option,
                    group: 0,
                    option: 0,
                    asked: false,
                });
            }
        }
        Ok(())
    }

    /// Marks a package as chosen and all that it cannot stand as refused; false when it cannot be
    /// chosen.
    fn begin(&mut self, id: PackageId, asked: bool) -> Result<bool, ResolveError> {
        if !asked && self.marks.contains_key(&id) {
            return Ok(false);
        }
        let needs = self.universe.needs(id)?;
        let lost = |(id, _): &(PackageId, usize)| self.marks.get(id) == Some(&Mark::Refused);
        let hopeless = needs.groups.iter().any(|group| {
            group.is_hard() && group.assumed.is_none() && group.options.iter().all(lost)
        });
        let hit = needs
            .against
            .iter()
            .any(|(id, ..)| self.marks.get(id) == Some(&Mark::Chosen));
        if (hopeless || hit) && !asked {
            if hopeless {
                self.marks.insert(id, Mark::Refused);
            }
            return Ok(false);
        }
        self.mark(id, Mark::Chosen);
        for (other, ..) in &needs.against {
            self.marks.entry(*other).or_insert(Mark::Refused);
        }
        Ok(true)
    }
}
