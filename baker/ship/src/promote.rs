//! Moves a channel to a release: checks what its own recipe asks for, says so under a signature,
//! and only then moves the pointer. Never builds, never fetches a disk.
//!
//! What is asked stands in `[promote.<channel>]` of the recipe *inside the release*, which the
//! manifest names by digest and somebody trusted has signed; nobody can promote a release by
//! editing a recipe elsewhere. All objections are told together.

use std::collections::{BTreeMap, BTreeSet};

use baker_model::manifest::TestFact;
use baker_model::plan::{Day, Firmware};
use baker_model::recipe::{CHANNELS, Promote};
use baker_model::{Digest, Interrupt, Manifest, Recipe};

use crate::channel::{self, ChannelError, Entry, History, Move};
use crate::lists::{self, Lists};
use crate::names::{MANIFEST, PROVENANCE, SIGNATURES, TEST_RESULT};
use crate::provenance;
use crate::report::{Problem, Report};
use crate::said::{self, Said, SayError, What};
use crate::signer::Signer;
use crate::target::{ChannelId, Record, ReleaseId, Target, TargetError};
use crate::trust::Trust;
use crate::vsa::{Reference, Summary, VSA_TYPE, Verdict, Verifier};

/// How waivers about hygiene begin.
const HYGIENE: &str = "hygiene";

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Promotion<'a> {
    /// Where the release is.
    pub target: &'a dyn Target,
    /// The release.
    pub release: &'a ReleaseId,
    /// The channel.
    pub channel: &'a ChannelId,
    /// Whose signatures count.
    pub trust: &'a Trust,
    /// Who signs summary and pointer.
    pub signer: &'a dyn Signer,
    /// Who promotes.
    pub author: &'a str,
    /// Now, seconds since 1970-01-01 UTC.
    pub now: u64,
    /// Whether a withdrawn release is taken all the same.
    pub withdrawn: Withdrawn,
}

/// What becomes of a release that was withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withdrawn {
    /// It is refused.
    Refuse,
    /// A person insists.
    Force,
}

/// The channel after a promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// Its new pointer.
    pub entry: Entry,
    /// What was found to hold.
    pub levels: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Why a release may not enter a channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// It does not verify.
    #[error("{0}")]
    Problem(Problem),
    /// The target does not have all of it.
    #[error("`{name}` is not in the target, or not with its {size} bytes")]
    Incomplete {
        /// The piece.
        name: String,
        /// Bytes by the record.
        size: u64,
    },
    /// It was withdrawn.
    #[error("it was withdrawn: {why}")]
    Withdrawn {
        /// Why, by whom, when.
        why: String,
    },
    /// Its recipe cannot be read.
    #[error("its recipe cannot be read: {cause}")]
    Recipe {
        /// Why.
        cause: String,
    },
    /// A misspelt channel would escape the switches of the one that is meant.
    #[error(
        "`{channel}` is no channel of its recipe, which has {known}; another one needs a table \
         [promote.{channel}] there"
    )]
    NoChannel {
        /// What was asked for.
        channel: String,
        /// Those that there are.
        known: String,
    },
    /// No test by this firmware has passed.
    #[error("no test by {} has passed", firmware.name())]
    NotTested {
        /// The firmware.
        firmware: Firmware,
    },
    /// Nobody else has rebuilt it.
    #[error(
        "no trusted key besides those that signed it says that it was rebuilt with the same bytes"
    )]
    NotRebuilt,
    /// None of the keys has signed it.
    #[error("none of the {count} keys that the recipe names has signed it")]
    NotSignedBy {
        /// How many there are.
        count: usize,
    },
    /// Nobody has looked: the manifest is of a baker without the gate.
    #[error("nothing is known about its hygiene: the baker that made it did not look")]
    NoHygiene,
    /// Something was found that a waiver excuses.
    #[error("hygiene was waived: {finding}")]
    Finding {
        /// The rule and where it fired.
        finding: String,
    },
    /// A rule of hygiene was waived.
    #[error("hygiene was waived: {what} ({reason})")]
    Hygiene {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
    /// It was not in an earlier channel.
    #[error("it was never in {channel}")]
    NotBefore {
        /// The channel.
        channel: String,
    },
    /// The channel points to it already.
    #[error("{channel} points to it already")]
    There {
        /// The channel.
        channel: String,
    },
}

/// A release was not promoted; the channel points where it did.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// There is no such release.
    #[error("there is no release {release} in {place}")]
    NoRelease {
        /// The release.
        release: String,
        /// The target.
        place: String,
    },
    /// It may not enter.
    #[error("{release} may not enter {channel}:{}", list(objections))]
    Refused {
        /// The release.
        release: String,
        /// The channel.
        channel: String,
        /// All reasons.
        objections: Vec<Objection>,
    },
    /// The channel cannot be read or moved.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The summary cannot be signed or kept.
    #[error(transparent)]
    Say(#[from] SayError),
    /// The target.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// What is known about the release when its policy is asked.
struct Case<'a> {
    manifest: &'a Manifest,
    report: &'a Report,
    said: &'a [Said],
    switches: &'a Promote,
    has_provenance: bool,
}

/// Promotes a release.
///
/// # Errors
/// The release may not enter, somebody else moved the channel at the same moment, or the target
/// fails.
pub fn promote(request: &Promotion<'_>, interrupt: &Interrupt) -> Result<Promoted, PromoteError> {
    let (target, trust) = (request.target, request.trust);
    let record = target.record(request.release)?;
    let record = record.ok_or_else(|| PromoteError::NoRelease {
        release: request.release.to_string(),
        place: target.place(),
    })?;
    let history = channel::history(target, request.channel, trust)?;
    let lists = lists::fetch(target, &record, trust, interrupt)?;
    let said = said::about(target, &record, trust)?;
    let mut warnings = Vec::new();
    let mut objections = withdrawals(&said, request.withdrawn, &mut warnings);
    objections.extend(incomplete(target, &record)?);
    objections.extend(
        lists
            .report
            .problems
            .iter()
            .cloned()
            .map(Objection::Problem),
    );
    let switches = switches(&lists, request.channel, &mut objections);
    let mut levels = Vec::new();
    if let (Some(manifest), Some(switches)) = (&lists.manifest, &switches) {
        let case = Case {
            manifest,
            report: &lists.report,
            said: &said,
            switches,
            has_provenance: provenance::is_told(manifest),
        };
        levels = case.judge(&mut objections);
        objections.extend(not_before(request, switches, &record)?);
    }
    objections.extend(there_already(&history, &record, request.channel));
    let (Some(release), true) = (record.release(), objections.is_empty()) else {
        return Err(PromoteError::Refused {
            release: request.release.to_string(),
            channel: request.channel.to_string(),
            objections,
        });
    };
    let summary = summary(request, &record, &lists, &said, levels.clone());
    let summary = said::say(target, &record, (VSA_TYPE, summary), request.signer)?;
    let to = Move {
        id: request.channel,
        record: &record,
        release,
        summary,
        day: Day::of_unix(request.now),
        author: request.author,
    };
    let entry = channel::advance(target, &history, &to, request.signer)?;
    Ok(Promoted {
        entry,
        levels,
        warnings,
    })
}

/// What trusted keys have withdrawn is refused, or warned of when somebody insists; what others
/// have is warned of.
fn withdrawals(said: &[Said], force: Withdrawn, warnings: &mut Vec<String>) -> Vec<Objection> {
    let mut objections = Vec::new();
    for said in said {
        let Some(why) = said.withdrawal() else {
            continue;
        };
        match (said.signed_by.is_empty(), force) {
            (true, _) => warnings.push(format!("somebody unknown withdrew it: {why}")),
            (false, Withdrawn::Force) => warnings.push(format!("IT WAS WITHDRAWN: {why}")),
            (false, Withdrawn::Refuse) => objections.push(Objection::Withdrawn { why }),
        }
    }
    objections
}

/// Every piece must still be where it was read back when it was published.
fn incomplete(target: &dyn Target, record: &Record) -> Result<Vec<Objection>, TargetError> {
    let mut missing = Vec::new();
    for piece in &record.pieces {
        if target.size_of(record, piece)? != Some(piece.size) {
            let (name, size) = (piece.name.clone(), piece.size);
            missing.push(Objection::Incomplete { name, size });
        }
    }
    Ok(missing)
}

/// The channel's switches in the released recipe.
fn switches(lists: &Lists, id: &ChannelId, objections: &mut Vec<Objection>) -> Option<Promote> {
    let recipe = match &lists.recipe {
        Some(text) => Recipe::parse(text).map_err(|error| error.to_string()),
        None => Err("there is none".to_owned()),
    };
    match recipe {
        Ok(recipe) => {
            let switches = recipe.promote.get(id.channel()).cloned();
            if switches.is_none() && !CHANNELS.contains(&id.channel()) {
                let own = recipe.promote.keys().map(String::as_str);
                let own = own.filter(|name| !CHANNELS.contains(name));
                let known: Vec<&str> = CHANNELS.into_iter().chain(own).collect();
                objections.push(Objection::NoChannel {
                    channel: id.channel().to_owned(),
                    known: known.join(", "),
                });
            }
            Some(switches.unwrap_or_default())
        }
        Err(cause) => {
            objections.push(Objection::Recipe { cause });
            None
        }
    }
}

impl Case<'_> {
    /// Adds what the switches object to, gives what holds, in the words of the summary.
    fn judge(&self, objections: &mut Vec<Objection>) -> Vec<String> {
        let mut levels = vec![self.build_level()];
        let passed = self.passed_firmwares();
        levels.extend(passed.iter().map(|firmware| {
            format!(
                "BAKER_TESTED_{}",
                firmware.name().to_uppercase().replace('-', "_")
            )
        }));
        let missing = self
            .switches
            .tested
            .iter()
            .filter(|firmware| !passed.contains(firmware));
        objections.extend(missing.map(|firmware| Objection::NotTested {
            firmware: *firmware,
        }));
        if self.is_rebuilt() {
            levels.push("BAKER_REBUILT".to_owned());
        } else if self.switches.rebuilt {
            objections.push(Objection::NotRebuilt);
        }
        let wanted = &self.switches.signed_by;
        if !wanted.is_empty() && !self.signers().iter().any(|key| wanted.contains(key)) {
            let count = wanted.len();
            objections.push(Objection::NotSignedBy { count });
        }
        match self.hygiene() {
            dirty if dirty.is_empty() => levels.push("BAKER_HYGIENE_CLEAN".to_owned()),
            dirty if self.switches.hygiene => objections.extend(dirty),
            _ => {}
        }
        levels
    }

    /// Why the hygiene of the release is not known to be clean; empty when it is. Findings that
    /// nobody waived do not verify and are told there.
    fn hygiene(&self) -> Vec<Objection> {
        let Some(fact) = &self.manifest.hygiene else {
            return vec![Objection::NoHygiene];
        };
        let findings = fact.waived.iter().map(|found| Objection::Finding {
            finding: match found.line {
                Some(line) => format!("{} in {}, line {line}", found.rule, found.path),
                None => format!("{} in {}", found.rule, found.path),
            },
        });
        let waivers = self.manifest.waivers.iter();
        let waivers = waivers.filter(|waiver| waiver.what.starts_with(HYGIENE));
        let waivers = waivers.map(|waiver| Objection::Hygiene {
            what: waiver.what.clone(),
            reason: waiver.reason.clone(),
        });
        findings.chain(waivers).collect()
    }

    /// Provenance is level 1 of SLSA's build track; level 2 asks for a builder that signs where
    /// nobody else can, which nothing in a release can show.
    fn build_level(&self) -> String {
        let level = u8::from(self.has_provenance);
        format!("SLSA_BUILD_LEVEL_{level}")
    }

    fn passed_firmwares(&self) -> Vec<Firmware> {
        let has_passed = |title: &str| {
            let good = |fact: &&TestFact| fact.name == title && fact.verdict.is_passed();
            self.manifest.tests.iter().any(|fact| good(&fact))
        };
        let plans = self
            .manifest
            .plans
            .iter()
            .filter(|plan| has_passed(plan.title()));
        let mut firmwares: Vec<Firmware> = Vec::new();
        for plan in plans {
            if !firmwares.contains(&plan.firmware) {
                firmwares.push(plan.firmware);
            }
        }
        firmwares
    }

    fn signers(&self) -> BTreeSet<Digest> {
        let facts = self.report.facts.iter();
        facts
            .flat_map(|facts| facts.signed_by.iter().map(|signer| signer.key_id))
            .collect()
    }

    /// True when a trusted key that did not sign the release itself says so.
    fn is_rebuilt(&self) -> bool {
        let own = self.signers();
        let rebuilt = self
            .said
            .iter()
            .filter(|said| matches!(said.what, What::Rebuilt(_)));
        let mut by = rebuilt.flat_map(|said| &said.signed_by);
        by.any(|signer| !own.contains(&signer.key_id))
    }
}

fn not_before(
    request: &Promotion<'_>,
    switches: &Promote,
    record: &Record,
) -> Result<Option<Objection>, ChannelError> {
    let Some(after) = &switches.after else {
        return Ok(None);
    };
    let channel = after.clone();
    let Some(id) = ChannelId::new(request.channel.name(), after) else {
        return Ok(Some(Objection::NotBefore { channel }));
    };
    let history = channel::history(request.target, &id, request.trust)?;
    let mut entries = history.entries.iter();
    let was = entries.any(|entry| Some(entry.pointer.release) == record.release());
    Ok((!was).then_some(Objection::NotBefore { channel }))
}

/// A second line that says the same would only make the history longer.
fn there_already(history: &History, record: &Record, id: &ChannelId) -> Option<Objection> {
    let current = history.current()?;
    let channel = id.to_string();
    (Some(current.pointer.release) == record.release()).then_some(Objection::There { channel })
}

fn summary(
    request: &Promotion<'_>,
    record: &Record,
    lists: &Lists,
    said: &[Said],
    verified_levels: Vec<String>,
) -> Summary {
    let place = format!("{}/{}", request.target.place(), request.release);
    let named = [MANIFEST, SIGNATURES, TEST_RESULT, PROVENANCE];
    let pieces = named.into_iter().filter_map(|name| record.piece(name));
    let inputs =
        pieces.map(|piece| Reference::new(format!("{place}/{}", piece.name), piece.sha256));
    let rebuilt = said
        .iter()
        .filter(|said| matches!(said.what, What::Rebuilt(_)));
    let rebuilt = rebuilt.map(|said| Reference::new(format!("{place}#rebuild"), said.digest));
    let recipe = lists
        .recipe
        .as_ref()
        .map_or(Digest::of(b""), |text| Digest::of(text.as_bytes()));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let policy = format!("{place}/recipe.toml#promote.{}", request.channel.channel());
    Summary {
        verifier: Verifier {
            id: "urn:baker:promote:1".to_owned(),
            version: BTreeMap::from([("baker".to_owned(), version)]),
        },
        time_verified: timestamp(request.now),
        resource_uri: place.clone(),
        policy: Reference::new(policy, recipe),
        input_attestations: inputs.chain(rebuilt).collect(),
        verification_result: Verdict::Passed,
        verified_levels,
        slsa_version: "1.0".to_owned(),
    }
}

/// RFC 3339 in UTC, to the second.
fn timestamp(now: u64) -> String {
    let (day, rest) = (Day::of_unix(now), now % 86_400);
    format!(
        "{day}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

fn list(objections: &[Objection]) -> String {
    objections
        .iter()
        .map(|objection| format!("\n- {objection}"))
        .collect()
}
