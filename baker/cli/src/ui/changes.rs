//! What a new lock changes: one package per line, and the same as JSON.

use std::path::Path;

use baker_fetch::Change;
use baker_model::lock::PackageRole;
use serde_json::{Value, json};

/// What became of the file of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was written anew.
    New,
    /// It says the same already.
    Unchanged,
    /// It would have been written.
    Pretended,
}

/// For people.
pub fn text(path: &Path, written: Written, packages: usize, changes: &[Change]) -> String {
    let path = path.display();
    let mut lines = vec![match written {
        Written::Unchanged => format!("{path} is unchanged"),
        Written::New => format!("{path}: {packages} packages"),
        Written::Pretended => format!("{path}: {packages} packages, not written"),
    }];
    lines.extend(changes.iter().map(line));
    lines.join("\n")
}

fn line(change: &Change) -> String {
    let name = &change.package;
    let versions = match (&change.from, &change.to) {
        (None, Some(new)) => format!("+ {name} {new}"),
        (Some(old), None) => format!("- {name} {old}"),
        (Some(old), Some(new)) if old == new && change.was.is_some() => match change.role {
            PackageRole::Tool => format!("{name} {new} leaves the image"),
            _ => format!("{name} {new} enters the image"),
        },
        (Some(old), Some(new)) if old == new => format!("{name} {new}, another file"),
        (Some(old), Some(new)) => format!("{name} {old} -> {new}"),
        (None, None) => name.clone(),
    };
    let suites = match change.suites.as_slice() {
        [] => String::new(),
        suites => format!(" in {}", suites.join(", ")),
    };
    format!("  {versions}{suites} ({})", change.cause)
}

/// For programs.
pub fn value(path: &Path, written: Written, changes: &[Change]) -> Value {
    let changes = changes.iter().map(|change| {
        json!({
            "package": change.package,
            "role": change.role.name(),
            "was": change.was.map(PackageRole::name),
            "from": change.from,
            "to": change.to,
            "suites": change.suites,
            "why": change.cause.to_string(),
        })
    });
    json!({
        "lock": path.display().to_string(),
        "written": written == Written::New,
        "changes": changes.collect::<Vec<_>>(),
    })
}
