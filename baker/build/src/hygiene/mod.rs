//! The hygiene stage: what must not leave the house inside an image.
//!
//! Takes the final tree, what the recipe allows and waives, and the day; gives findings, each
//! open or waived. Never prints a secret, never changes the tree, looks at no clock: a waiver runs
//! out by the day that it is given.
//!
//! | rule | finds |
//! |---|---|
//! | `secret/…` | private keys and tokens in text files, by the rules of gitleaks |
//! | `ssh-host-key`, `machine-id`, `random-seed` | what must be each machine's own |
//! | `password` | accounts that have a password, or need none |
//! | `world-writable`, `setuid` | files that anybody may write, or that run as somebody else |
//! | `shell`, `package-manager`, `debugger` | tools that an attacker would be glad of |
//! | `log`, `cache` | what was left over |
//! | `growth` | a root that grew by more than the recipe allows |

mod rules;
mod secrets;
mod system;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;

use baker_model::manifest::{HygieneFact, HygieneFinding, Waiver};
use baker_model::plan::Day;
use baker_model::recipe::{Hygiene, HygieneWaive};
use baker_model::tree::TreePath;
use baker_model::{Interrupt, Tree};

use crate::Spool;
use crate::overlay::{Pattern, PatternError};

pub use rules::{RULE_SET, RulesError};

/// Name of the stage.
pub const STAGE: &str = "hygiene";

/// What is looked at, and on what terms.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The root as it will be packed.
    pub tree: &'a Tree,
    /// Its large contents.
    pub contents: &'a Spool,
    /// What the recipe allows and waives.
    pub terms: &'a Hygiene,
    /// Today: a waiver counts until the end of its day.
    pub day: Day,
    /// Bytes of the root of the release before this one; none when there is none to compare with.
    pub last_size: Option<u64>,
    /// Threads; they change nothing of the result.
    pub threads: NonZeroUsize,
    /// Ends the stage when raised.
    pub interrupt: &'a Interrupt,
}

/// All findings, sorted by rule and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What stands against the image.
    pub open: Vec<Finding>,
    /// What a waiver excuses, and the waiver's number in the recipe.
    pub waived: Vec<(Finding, usize)>,
    /// Bytes of all files of the root.
    pub size: u64,
}

/// Something that should not be in an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The rule that found it.
    pub rule: String,
    /// Where; the root itself when it is about the whole of it.
    pub path: TreePath,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// What is wrong, never the secret itself.
    pub problem: String,
    /// What mends it.
    pub mend: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.path)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}; {}", self.problem, self.mend)
    }
}

/// The root cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum HygieneError {
    /// A pattern of the recipe.
    #[error("cannot use the pattern `{pattern}` of [hygiene]")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        #[source]
        source: PatternError,
    },
    /// The rules of the set.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A file cannot be read.
    #[error("cannot read /{path} of the root")]
    Read {
        /// The file.
        path: TreePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody asked to stop.
    #[error("interrupted while looking for what must not be in the image")]
    Interrupted,
}

/// Looks the root over.
///
/// # Errors
/// See [`HygieneError`]; findings are no error.
pub fn hygiene(request: Request<'_>) -> Result<Report, HygieneError> {
    let allowed = Allowed::parse(request.terms)?;
    let mut found = system::check(request, &allowed)?;
    found.extend(secrets::check(request)?);
    let size = system::size(request.tree);
    found.extend(system::growth(request, size));
    found.sort();
    let waivers = waivers(request.terms)?;
    let (mut open, mut waived) = (Vec::new(), Vec::new());
    for finding in found {
        let excuse = waivers.iter().position(|(waive, pattern)| {
            waive.rule == finding.rule
                && request.day <= waive.until
                && pattern
                    .as_ref()
                    .is_none_or(|pattern| pattern.matches(&finding.path))
        });
        match excuse {
            Some(number) => waived.push((finding, number)),
            None => open.push(finding),
        }
    }
    Ok(Report { open, waived, size })
}

impl Report {
    /// What the manifest says of it.
    #[must_use]
    pub fn fact(&self) -> HygieneFact {
        let fact = |finding: &Finding| HygieneFinding {
            rule: finding.rule.clone(),
            path: finding.path.to_string(),
            line: finding.line.and_then(|line| u64::try_from(line).ok()),
        };
        HygieneFact {
            rules: RULE_SET.to_owned(),
            size: self.size,
            open: self.open.iter().map(fact).collect(),
            waived: self
                .waived
                .iter()
                .map(|(finding, _)| fact(finding))
                .collect(),
        }
    }

    /// The waivers that excuse something, as they stand in the manifest.
    #[must_use]
    pub fn waivers(&self, terms: &Hygiene) -> Vec<Waiver> {
        let used: BTreeSet<usize> = self.waived.iter().map(|(_, number)| *number).collect();
        let used = used
            .into_iter()
            .filter_map(|number| terms.waived.get(number));
        used.map(|waive| Waiver {
            what: match &waive.path {
                Some(path) => format!("hygiene {} {path}", waive.rule),
                None => format!("hygiene {}", waive.rule),
            },
            reason: waive.reason.clone(),
            author: Some(waive.author.clone()),
            expires: Some(waive.until),
        })
        .collect()
    }
}

/// What the recipe allows beside baker's own list.
struct Allowed {
    setuid: Vec<Pattern>,
    world_writable: Vec<Pattern>,
    tools: Vec<Pattern>,
}

impl Allowed {
    fn parse(terms: &Hygiene) -> Result<Self, HygieneError> {
        let all = |texts: &[String]| -> Result<Vec<Pattern>, HygieneError> {
            texts.iter().map(|text| pattern(text)).collect()
        };
        Ok(Self {
            setuid: all(&terms.setuid)?,
            world_writable: all(&terms.world_writable)?,
            tools: all(&terms.tools)?,
        })
    }
}

fn pattern(text: &str) -> Result<Pattern, HygieneError> {
    Pattern::parse(text).map_err(|source| HygieneError::Pattern {
        pattern: text.to_owned(),
        source,
    })
}

/// A waiver and the paths that it is about; none: all.
type Excuse<'a> = (&'a HygieneWaive, Option<Pattern>);

fn waivers(terms: &Hygiene) -> Result<Vec<Excuse<'_>>, HygieneError> {
    let mut excuses = Vec::new();
    for waive in &terms.waived {
        let path = waive.path.as_deref().map(pattern).transpose()?;
        excuses.push((waive, path));
    }
    Ok(excuses)
}
