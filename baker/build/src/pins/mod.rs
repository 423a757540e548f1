//! The account of a disk: for every byte of it, who answers.
//!
//! Takes the map of a disk, its root as read from it, its boot programs, the bill of materials,
//! what the packages of the store hold, and where a disk made anew differs; gives an [`Account`].
//! Opens nothing. What cannot be accounted for is a [`Fault`]; all of them are given.
//!
//! A byte is accounted for in one of four ways:
//! - content of a file: what lies on the disk has the digest that the bill of materials names, and
//!   is traced to its package, to recipe and lock, or to a named effect;
//! - structure of a format: writing the same contents again, with ids derived from the lock, gives
//!   the very same bytes;
//! - a signature by the release's key for Secure Boot, put together anew;
//! - fill: zeros.

mod boot;
mod claims;
mod shipped;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use baker_formats::{erofs, fat};
use baker_model::{Digest, Tree};
use serde::Serialize;

pub use boot::{Program, ProgramError, Rebuilt, Uki, program, uki};
pub use shipped::Shipped;

use crate::anatomy::{EspPart, ProgramPart, Region, RootPart, Structure};
use crate::inventory::Owner;
use crate::sbom::Record;

/// What [`account`] needs.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The map of the disk.
    pub regions: &'a [Region],
    /// The files by the bill of materials.
    pub records: &'a [Record],
    /// The root, as read from the disk.
    pub root: &'a Tree,
    /// The programs of the ESP by path.
    pub programs: &'a [Program],
    /// Ranges of the disk in which a disk made anew has other bytes.
    pub differences: &'a [Range<u64>],
    /// What the packages hold, when the store has them.
    pub shipped: Option<&'a Shipped>,
    /// Digests that the recipe and its lock name: local files, written contents, the guest.
    pub pinned: &'a BTreeSet<Digest>,
}

/// How a claim was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// The package in the store, whose digest the lock names, holds these bytes.
    Package,
    /// Recipe or lock hold these bytes or name their digest.
    Lock,
    /// Making it again gave the same bytes.
    Rebuilt,
    /// The signed bill of materials names this digest.
    Sbom,
    /// The bytes themselves say so.
    Itself,
}

/// Who answers for a byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "kebab-case")]
pub enum Holder {
    /// A package.
    Package(String),
    /// The recipe.
    Recipe,
    /// A built-in effect.
    Effect(String),
    /// baker's guest program.
    Guest,
    /// A structure of a format.
    Structure(String),
    /// A signature for Secure Boot.
    Signature,
    /// Zeros that nothing reads.
    Fill,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(name) => write!(f, "package {name}"),
            Self::Recipe => f.write_str("recipe"),
            Self::Effect(name) => write!(f, "effect {name}"),
            Self::Guest => f.write_str("guest program"),
            Self::Structure(name) => write!(f, "structure of {name}"),
            Self::Signature => f.write_str("signature for Secure Boot"),
            Self::Fill => f.write_str("fill"),
        }
    }
}

/// One line of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// Who answers.
    pub holder: Holder,
    /// How that was proved.
    pub proof: Proof,
    /// Number of ranges.
    pub ranges: u64,
    /// Bytes of the disk.
    pub bytes: u64,
}

/// Something that cannot be accounted for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, thiserror::Error)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// A file that nobody named.
    #[error("{path} is on the disk, but not in the bill of materials")]
    Foreign {
        /// The file.
        path: String,
    },
    /// A file that should be there.
    #[error("{path} is in the bill of materials, but not on the disk")]
    Missing {
        /// The file.
        path: String,
    },
    /// A file is other than it should be.
    #[error("{path} has another {what} than the bill of materials says")]
    Altered {
        /// The file.
        path: String,
        /// What differs.
        what: &'static str,
    },
    /// The bill of materials names a package that does not hold the file.
    #[error("{path} is said to be of package {package}, which holds nothing like it")]
    NotOfPackage {
        /// The file.
        path: String,
        /// The package.
        package: String,
    },
    /// A program is other than its packages make it.
    #[error("{path} is not what its packages make")]
    Made {
        /// The program.
        path: String,
    },
    /// The guest program is another.
    #[error("{path} is not the guest program that the lock names")]
    Guest {
        /// Where it lies.
        path: String,
    },
    /// A file belongs to nobody.
    #[error("{path} belongs to nobody")]
    Nobody {
        /// The file.
        path: String,
    },
    /// Bytes that making the disk again does not give.
    #[error("bytes {start} to {end} ({structure}) do not follow from the lock and the files")]
    Unaccounted {
        /// First byte.
        start: u64,
        /// First byte behind.
        end: u64,
        /// What they lie in.
        structure: String,
    },
}

/// The account of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Account {
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes that somebody answers for.
    pub accounted: u64,
    /// Who answers for how many.
    pub rows: Vec<Row>,
    /// What cannot be accounted for; a good disk has none.
    pub faults: Vec<Fault>,
}

impl Account {
    /// True when somebody answers for every byte.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.faults.is_empty() && self.accounted == self.size
    }
}

/// Accounts for every byte of a disk.
#[must_use]
pub fn account(request: &Request<'_>) -> Account {
    let mut faults = Vec::new();
    let claims = claims::root(request, &mut faults);
    let programs = boot::claims(request, &mut faults);
    let mut rows: BTreeMap<(Holder, Proof), (u64, u64)> = BTreeMap::new();
    let (mut size, mut accounted) = (0, 0);
    for region in request.regions {
        size = size.max(region.range.end);
        let length = region.range.end - region.range.start;
        let bad: u64 = overlaps(request.differences, &region.range)
            .map(|range| {
                faults.push(Fault::Unaccounted {
                    start: range.start,
                    end: range.end,
                    structure: region.structure.to_string(),
                });
                range.end - range.start
            })
            .sum();
        let Some(key) = holder(region, &claims, &programs) else {
            continue;
        };
        let row = rows.entry(key).or_default();
        row.0 += 1;
        row.1 += length - bad;
        accounted += length - bad;
    }
    faults.sort();
    let rows = rows
        .into_iter()
        .map(|((holder, proof), (ranges, bytes))| Row {
            holder,
            proof,
            ranges,
            bytes,
        });
    Account {
        size,
        accounted,
        rows: rows.collect(),
        faults,
    }
}

/// The parts of `ranges`, sorted, that lie in `within`.
fn overlaps<'a>(
    ranges: &'a [Range<u64>],
    within: &'a Range<u64>,
) -> impl Iterator<Item = Range<u64>> + 'a {
    let first = ranges.partition_point(|range| range.end <= within.start);
    ranges[first..]
        .iter()
        .take_while(|range| range.start < within.end)
        .map(|range| range.start.max(within.start)..range.end.min(within.end))
}

/// Who answers for a region; none when its file has no claim, which is a fault already.
fn holder(
    region: &Region,
    claims: &BTreeMap<String, claims::Claim>,
    programs: &BTreeMap<String, boot::Claims>,
) -> Option<(Holder, Proof)> {
    let structure = |name: &str| Some((Holder::Structure(name.to_owned()), Proof::Rebuilt));
    match &region.structure {
        Structure::Root {
            part: RootPart::Erofs(part, path),
            ..
        } => match (part, path) {
            (erofs::Part::Data | erofs::Part::Tail | erofs::Part::Target, Some(path)) => {
                claims.get(path).cloned().flatten()
            }
            (erofs::Part::Padding | erofs::Part::Front, _) => Some((Holder::Fill, Proof::Rebuilt)),
            _ => structure("EROFS"),
        },
        Structure::Root {
            part: RootPart::Rest,
            ..
        }
        | Structure::Gap
        | Structure::Blank { .. } => Some((Holder::Fill, Proof::Rebuilt)),
        Structure::Program { path, part } => programs.get(path).and_then(|claims| match part {
            ProgramPart::Section(name) => claims.section(name),
            ProgramPart::Certificates => Some((Holder::Signature, Proof::Itself)),
            ProgramPart::CertificateEntry | ProgramPart::CheckSum => structure("PE"),
            _ => claims.program(),
        }),
        Structure::Mbr(_) | Structure::Table { .. } => structure("partition table"),
        Structure::HashTree { .. } => structure("hash tree"),
        Structure::Esp(EspPart::File(_)) => {
            Some((Holder::Effect("disk".to_owned()), Proof::Rebuilt))
        }
        Structure::Esp(
            EspPart::Slack(_) | EspPart::Volume(fat::Part::FreeClusters | fat::Part::Tail),
        ) => Some((Holder::Fill, Proof::Rebuilt)),
        Structure::Esp(_) => structure("ESP"),
        // Nothing here knows what a data partition or a SquashFS holds, byte for byte.
        Structure::Root { .. } | Structure::Data { .. } => structure("partition"),
    }
}

/// The holder of what an owner answers for.
fn holder_of(owner: &Owner) -> Option<Holder> {
    Some(match owner {
        Owner::Package(name) => Holder::Package(name.to_string()),
        Owner::Recipe => Holder::Recipe,
        Owner::Effect(name) => Holder::Effect(name.clone()),
        Owner::Guest => Holder::Guest,
        Owner::Implied => Holder::Structure("EROFS".to_owned()),
        Owner::Nobody => return None,
    })
}
