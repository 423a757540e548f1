//! Which script is covered by what; a script that nothing covers stops the bake.

use std::collections::BTreeSet;

use baker_model::Digest;
use baker_model::recipe::Waive;

use super::boilerplate::{self, Parts};
use super::effect::Effect;
use super::error::{ConfigureError, UncoveredScript};
use super::ledger::{Ledger, Meaning};
use super::report::{Coverage, CoveredScript};
use crate::{Package, Script};

/// What a package's scripts do, and why that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// What happens before unpacking; in an image, before all else.
    pub(super) before: Vec<Step>,
    /// What happens after unpacking.
    pub(super) after: Vec<Step>,
    /// Every script, covered.
    pub(super) covered: Vec<CoveredScript>,
    /// Waivers that were needed, as places in the recipe's list.
    pub(super) waivers: BTreeSet<usize>,
}

/// The effects of one script.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) package: String,
    pub(super) script: &'static str,
    pub(super) effects: Vec<Effect>,
}

/// Looks at every script of every package, in the order given.
///
/// # Errors
/// One error that names every script that nothing covers.
pub(super) fn plan(
    packages: &[&Package],
    waived: &[Waive],
    ledger: &Ledger,
) -> Result<Plan, ConfigureError> {
    let mut plan = Plan::default();
    let mut uncovered = Vec::new();
    for package in packages {
        for (script, bytes) in &package.scripts {
            let (name, digest) = (script.name(), Digest::of(bytes));
            let waiver = waived
                .iter()
                .position(|waive| waive.package == package.lock.name && waive.script == name);
            let (coverage, effects) = match cover(ledger, package, *script, bytes) {
                Ok(covered) => covered,
                Err(problem) => match waiver {
                    Some(at) => {
                        plan.waivers.insert(at);
                        (
                            Coverage::Waived {
                                reason: waived[at].reason.clone(),
                            },
                            Vec::new(),
                        )
                    }
                    None => {
                        uncovered.push(UncoveredScript {
                            package: package.lock.name.clone(),
                            version: package.lock.version.clone(),
                            script: name,
                            digest,
                            problem,
                        });
                        continue;
                    }
                },
            };
            let package = package.lock.name.clone();
            plan.covered.push(CoveredScript {
                package: package.clone(),
                script: name,
                digest,
                coverage,
            });
            let list = if *script == Script::Preinst {
                &mut plan.before
            } else {
                &mut plan.after
            };
            if !effects.is_empty() {
                list.push(Step {
                    package,
                    script: name,
                    effects,
                });
            }
        }
    }
    if uncovered.is_empty() {
        return Ok(plan);
    }
    uncovered.sort();
    Err(ConfigureError::Uncovered { scripts: uncovered })
}

/// What covers a script, and what it does; else why nothing covers it.
fn cover(
    ledger: &Ledger,
    package: &Package,
    script: Script,
    bytes: &[u8],
) -> Result<(Coverage, Vec<Effect>), String> {
    if matches!(script, Script::Prerm | Script::Postrm) {
        return Ok((Coverage::NeverRuns, Vec::new()));
    }
    let name = &package.lock.name;
    let entry = ledger.script(name, script.name(), &Digest::of(bytes));
    let text = std::str::from_utf8(bytes).ok();
    if let Some(entry) = entry {
        let mut effects = entry.effects.clone();
        if let Some(text) = text {
            let Parts { sections, .. } = boilerplate::take_apart(text);
            for section in &sections {
                // The entry speaks for the whole script: an unknown part is its business too.
                let meaning = ledger.section(&section.digest).unwrap_or(Meaning::Nothing);
                effects.extend(effects_of(meaning, &section.words));
            }
        }
        return Ok((
            Coverage::Entry {
                reason: entry.reason.clone(),
            },
            effects,
        ));
    }
    let text = text.ok_or("it is no text, perhaps a program")?;
    if script == Script::Triggers {
        return triggers(text).map(|effects| (Coverage::Generated, effects));
    }
    let Parts { sections, rest } = boilerplate::take_apart(text);
    if !boilerplate::is_inert(&rest) {
        return Err(match ledger.versions(name, script.name()) {
            0 => "no ledger entry for this package".to_owned(),
            _ => "the ledger knows other versions of this script, not this one".to_owned(),
        });
    }
    let mut effects = Vec::new();
    for section in &sections {
        let meaning = ledger.section(&section.digest).ok_or_else(|| {
            format!(
                "an unknown part by {} ({})",
                section.tool,
                section.digest.short()
            )
        })?;
        effects.extend(effects_of(meaning, &section.words));
    }
    Ok((Coverage::Generated, effects))
}

fn effects_of(meaning: Meaning, words: &[String]) -> Vec<Effect> {
    match meaning {
        Meaning::Nothing => Vec::new(),
        Meaning::Enable => words.iter().cloned().map(Effect::Preset).collect(),
        Meaning::Sysusers => vec![Effect::Sysusers(words.to_vec())],
        Meaning::Tmpfiles => vec![Effect::Tmpfiles(words.to_vec())],
        Meaning::RunLevels => words.iter().cloned().map(Effect::RunLevels).collect(),
        Meaning::LocalProfile => words
            .iter()
            .map(|name| Effect::local_profile(name))
            .collect(),
    }
}

/// A `triggers` file: what a package wants to be told is the business of its postinst; what it
/// activates must be known.
fn triggers(text: &str) -> Result<Vec<Effect>, String> {
    let mut effects = Vec::new();
    for line in text.lines().map(str::trim) {
        let mut words = line.split_ascii_whitespace();
        let (directive, name) = match words.next() {
            None => continue,
            Some(word) if word.starts_with('#') => continue,
            Some(word) => (word, words.next().unwrap_or_default()),
        };
        if directive.starts_with("interest") {
            continue;
        }
        match name {
            "ldconfig" => effects.push(Effect::LoaderCache),
            // The initrd is baker's own, and a file in a folder is found when the folder is read.
            "update-initramfs" => {}
            // Tells systemd-boot's postinst, which installs on the ESP of a running machine.
            "systemd-boot-signed" => {}
            name if directive.starts_with("activate") => {
                return Err(format!("it activates the unknown trigger `{name}`"));
            }
            _ => return Err(format!("unknown trigger directive `{directive}`")),
        }
    }
    Ok(effects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::testing;

    fn ledger() -> Ledger {
        Ledger::load().unwrap()
    }

    #[test]
    fn scripts_without_effect_are_covered_and_others_are_all_named() {
        let inert = testing::package("a", &[(Script::Postinst, "#!/bin/sh\nset -e\nexit 0\n")]);
        let removal = testing::package("b", &[(Script::Prerm, "rm -rf /x"), (Script::Postrm, "y")]);
        let odd = testing::package(
            "c",
            &[
                (Script::Postinst, "#!/bin/sh\nadduser x\n"),
                (Script::Triggers, "activate magic\n"),
            ],
        );
        let good = plan(&[&inert, &removal], &[], &ledger()).unwrap();
        assert_eq!(good.covered.len(), 3);
        assert_eq!(good.covered[1].coverage, Coverage::NeverRuns);
        let error = plan(&[&odd, &inert], &[], &ledger())
            .unwrap_err()
            .to_string();
        for words in [
            "2 package scripts are not covered",
            "c 1.0 postinst (",
            "no ledger entry",
            "unknown trigger `magic`",
            "[[debian.waive]]",
        ] {
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_waiver_covers_and_is_reported() {
        let odd = testing::package("c", &[(Script::Postinst, "#!/bin/sh\nadduser x\n")]);
        let waive = |package: &str| Waive {
            package: package.to_owned(),
            script: "postinst".to_owned(),
            reason: "not needed".to_owned(),
        };
        let plan = plan(&[&odd], &[waive("other"), waive("c")], &ledger()).unwrap();
        assert_eq!(plan.waivers.into_iter().collect::<Vec<_>>(), [1]);
        let expected = Coverage::Waived {
            reason: "not needed".to_owned(),
        };
        assert_eq!(plan.covered[0].coverage, expected);
        assert!(plan.after.is_empty());
    }

    #[test]
    fn triggers_ask_for_the_loader_cache() {
        assert_eq!(
            triggers("# x\nactivate-noawait ldconfig\n").unwrap(),
            [Effect::LoaderCache]
        );
        assert_eq!(triggers("interest-noawait /usr/lib32\n").unwrap(), []);
        assert!(triggers("frobnicate x\n").is_err());
    }
}
