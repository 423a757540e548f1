//! Facts that are sets of words: what came and what went.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{OpenDisk, Side};

/// What only one side has, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SetChange {
    /// Only the second side has it.
    pub added: Vec<String>,
    /// Only the first side has it.
    pub removed: Vec<String>,
}

impl SetChange {
    /// True when both sides have the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    fn of(from: BTreeSet<String>, to: BTreeSet<String>) -> Self {
        Self {
            added: to.difference(&from).cloned().collect(),
            removed: from.difference(&to).cloned().collect(),
        }
    }
}

/// All facts of this kind.
#[derive(Default)]
pub(super) struct Facts {
    pub command_line: SetChange,
    pub units: SetChange,
    pub modules: SetChange,
    pub privileged: SetChange,
    pub partitions: SetChange,
    pub programs: SetChange,
}

pub(super) fn compare(from: &Side<'_>, to: &Side<'_>) -> Facts {
    let Some((from, to)) = from.disk.zip(to.disk) else {
        return Facts::default();
    };
    let compare =
        |facts: fn(&OpenDisk<'_>) -> BTreeSet<String>| SetChange::of(facts(&from), facts(&to));
    Facts {
        command_line: compare(command_line),
        units: compare(units),
        modules: compare(modules),
        privileged: compare(privileged),
        partitions: compare(partitions),
        programs: compare(programs),
    }
}

fn command_line(disk: &OpenDisk<'_>) -> BTreeSet<String> {
    let lines = disk.survey.command_lines.iter();
    lines
        .flat_map(|line| line.text.split_whitespace())
        .map(str::to_owned)
        .collect()
}

fn units(disk: &OpenDisk<'_>) -> BTreeSet<String> {
    let units = disk.survey.units.iter();
    units
        .map(|unit| match unit.how {
            "masked" => format!("{} masked", unit.name),
            "alias" => format!("{} as {}", unit.name, unit.by),
            how => format!("{} ({} {how} it)", unit.name, unit.by),
        })
        .collect()
}

fn modules(disk: &OpenDisk<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for program in &disk.look.programs {
        found.extend(
            program
                .kernel
                .iter()
                .map(|release| format!("kernel {release}")),
        );
    }
    for kernel in &disk.survey.modules {
        found.insert(format!("kernel {}", kernel.release));
        found.extend(kernel.names.iter().cloned());
    }
    found
}

fn privileged(disk: &OpenDisk<'_>) -> BTreeSet<String> {
    let files = disk.survey.privileged.iter();
    files
        .map(|file| {
            let why = file.why.join(", ");
            format!(
                "{} {} {}:{} ({why})",
                file.path, file.mode, file.uid, file.gid
            )
        })
        .collect()
}

fn partitions(disk: &OpenDisk<'_>) -> BTreeSet<String> {
    let partitions = disk.look.disk.partitions.iter();
    partitions
        .map(|part| {
            format!(
                "{} {} {} of {} bytes with {}",
                part.number, part.name, part.kind, part.size, part.content
            )
        })
        .collect()
}

fn programs(disk: &OpenDisk<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for program in &disk.look.programs {
        for section in &program.sections {
            let digest = section.sha256.to_string();
            let short = digest.get(..12).unwrap_or_default();
            found.insert(format!(
                "{} {} {} bytes {short}",
                program.path, section.name, section.size
            ));
        }
        found.extend(
            program
                .signed_by
                .iter()
                .map(|name| format!("{} signed by {name}", program.path)),
        );
    }
    found
}
