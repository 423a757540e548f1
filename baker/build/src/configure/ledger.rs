//! The ledger: what the scripts of known packages do, bound to the digests of the scripts.

use std::collections::BTreeMap;

use baker_model::Digest;
use serde::Deserialize;

use super::effect::Effect;
use super::error::ConfigureError;

const SECTIONS: &str = include_str!("../../ledger/sections.toml");

/// The files of entries, by what they are about.
const SCRIPTS: [(&str, &str); 7] = [
    ("base.toml", include_str!("../../ledger/base.toml")),
    ("boot.toml", include_str!("../../ledger/boot.toml")),
    ("common.toml", include_str!("../../ledger/common.toml")),
    ("login.toml", include_str!("../../ledger/login.toml")),
    ("servers.toml", include_str!("../../ledger/servers.toml")),
    ("system.toml", include_str!("../../ledger/system.toml")),
    ("web.toml", include_str!("../../ledger/web.toml")),
];

/// All entries of this baker.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    sections: BTreeMap<Digest, Meaning>,
    scripts: BTreeMap<Digest, Entry>,
    /// Which package and script have entries, for the message about one that has changed.
    known: BTreeMap<(String, String), usize>,
}

/// What a generated part of a script does in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Meaning {
    /// Nothing: it acts on running systems, or on upgrades.
    Nothing,
    /// Units are enabled as the presets say.
    Enable,
    /// `systemd-sysusers` runs over the named files.
    Sysusers,
    /// `systemd-tmpfiles --create` runs over the named files.
    Tmpfiles,
    /// Scripts of `/etc/init.d` are linked into run levels.
    RunLevels,
    /// Profiles of AppArmor get a file for what is local.
    LocalProfile,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SectionFile {
    section: Vec<SectionEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SectionEntry {
    /// For people: the tool and the form.
    #[serde(rename = "about")]
    _about: String,
    sha256: Digest,
    meaning: Meaning,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptFile {
    script: Vec<Entry>,
}

/// What one script does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Package name.
    pub(super) package: String,
    /// Name of the script.
    pub(super) script: String,
    /// Digests of the versions of it that do the same.
    pub(super) sha256: Vec<Digest>,
    /// What it does and what of that an image needs.
    pub(super) reason: String,
    /// The same for the machine, in order; generated parts are not repeated here.
    #[serde(default)]
    pub(super) effects: Vec<Effect>,
}

impl Ledger {
    /// The ledger compiled into this baker.
    pub(super) fn load() -> Result<Self, ConfigureError> {
        let sections: SectionFile = read("sections.toml", SECTIONS)?;
        let mut ledger = Self {
            sections: sections
                .section
                .iter()
                .map(|s| (s.sha256, s.meaning))
                .collect(),
            scripts: BTreeMap::new(),
            known: BTreeMap::new(),
        };
        for (file, text) in SCRIPTS {
            let entries: ScriptFile = read(file, text)?;
            for entry in entries.script {
                let name = (entry.package.clone(), entry.script.clone());
                *ledger.known.entry(name).or_default() += entry.sha256.len();
                for digest in &entry.sha256 {
                    ledger.scripts.insert(*digest, entry.clone());
                }
            }
        }
        Ok(ledger)
    }

    /// What a generated part does, when that is known.
    pub(super) fn section(&self, digest: &Digest) -> Option<Meaning> {
        self.sections.get(digest).copied()
    }

    /// The entry for exactly these bytes of this script of this package.
    pub(super) fn script(&self, package: &str, script: &str, digest: &Digest) -> Option<&Entry> {
        let entry = self.scripts.get(digest);
        entry.filter(|entry| entry.package == package && entry.script == script)
    }

    /// How many versions of this script of this package are known.
    pub(super) fn versions(&self, package: &str, script: &str) -> usize {
        let name = (package.to_owned(), script.to_owned());
        self.known.get(&name).copied().unwrap_or_default()
    }
}

fn read<T: for<'de> Deserialize<'de>>(file: &'static str, text: &str) -> Result<T, ConfigureError> {
    toml::from_str(text).map_err(|source| ConfigureError::Ledger {
        file,
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_can_be_read_and_every_entry_gives_a_reason() {
        let ledger = Ledger::load().unwrap();
        for entry in ledger.scripts.values() {
            assert!(
                entry.reason.len() > 20,
                "{} {}",
                entry.package,
                entry.script
            );
            let known = crate::Script::ALL
                .iter()
                .any(|script| script.name() == entry.script);
            assert!(known, "{} {}", entry.package, entry.script);
        }
        assert!(ledger.sections.len() > 5);
    }
}
