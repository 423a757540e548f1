//! Differences between two images, for people.

use std::fmt::{self, Write as _};

use baker_build::diff::{Diff, PackageChange, SetChange};
use baker_build::look::human;

use super::printer::printable;

/// Files that are listed; `--json` has all.
const FILES_LIMIT: usize = 60;

/// The whole answer of `baker diff`.
pub fn difference_text(diff: &Diff) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    write(&mut text, diff).unwrap_or_default();
    printable(text.trim_end())
}

fn write(out: &mut String, diff: &Diff) -> fmt::Result {
    writeln!(out, "{} -> {}", diff.from, diff.to)?;
    if diff.is_equal() {
        writeln!(out, "no differences")?;
    }
    packages(out, diff)?;
    if !diff.recipe.is_empty() {
        writeln!(out, "\nrecipe")?;
    }
    for change in &diff.recipe {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
        writeln!(
            out,
            "  ~ {}: {} -> {}",
            change.key,
            value(&change.from),
            value(&change.to)
        )?;
    }
    set(out, "kernel command line", &diff.command_line)?;
    set(out, "units", &diff.units)?;
    set(out, "kernel modules", &diff.modules)?;
    set(out, "files with more rights", &diff.privileged)?;
    set(out, "partitions", &diff.partitions)?;
    set(out, "boot programs", &diff.programs)?;
    files(out, diff)?;
    for text in &diff.texts {
        write!(out, "\n{}", text.unified)?;
    }
    if !diff.skipped.is_empty() {
        writeln!(out, "\nnot compared: {}", diff.skipped.join("; "))?;
    }
    Ok(())
}

fn signed(from: u64, to: u64) -> String {
    match to.checked_sub(from) {
        Some(0) => "same size".to_owned(),
        Some(more) => format!("+{}", human(more)),
        None => format!("-{}", human(from - to)),
    }
}

fn packages(out: &mut String, diff: &Diff) -> fmt::Result {
    let sum = |of: fn(&baker_build::diff::PackageSize) -> u64| diff.sizes.iter().map(of).sum();
    let (before, after): (u64, u64) = (sum(|size| size.from), sum(|size| size.to));
    if !diff.sizes.is_empty() {
        writeln!(
            out,
            "size       {} -> {}, {}",
            human(before),
            human(after),
            signed(before, after)
        )?;
    }
    if diff.packages.is_empty() {
        return Ok(());
    }
    writeln!(out, "\npackages")?;
    diff.packages
        .iter()
        .try_for_each(|change| package(out, change))
}

fn package(out: &mut String, change: &PackageChange) -> fmt::Result {
    let name = &change.name;
    let bytes =
        |size: Option<u64>| size.map_or_else(String::new, |size| format!(" ({})", human(size)));
    match (&change.from, &change.to) {
        (None, Some(to)) => writeln!(out, "  + {name} {}{}", to.version, bytes(to.size)),
        (Some(from), None) => writeln!(out, "  - {name} {}{}", from.version, bytes(from.size)),
        (Some(from), Some(to)) => {
            let sizes = from.size.zip(to.size);
            let sizes = sizes.map(|(from, to)| format!(" ({})", signed(from, to)));
            writeln!(
                out,
                "  ~ {name} {} -> {}{}",
                from.version,
                to.version,
                sizes.unwrap_or_default()
            )
        }
        (None, None) => Ok(()),
    }
}

fn set(out: &mut String, name: &str, change: &SetChange) -> fmt::Result {
    if change.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{name}")?;
    for word in &change.removed {
        writeln!(out, "  - {word}")?;
    }
    for word in &change.added {
        writeln!(out, "  + {word}")?;
    }
    Ok(())
}

fn files(out: &mut String, diff: &Diff) -> fmt::Result {
    if diff.files.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nfiles      {} differ", diff.files.len())?;
    for file in diff.files.iter().take(FILES_LIMIT) {
        let mark = match file.change {
            "added" => '+',
            "removed" => '-',
            _ => '~',
        };
        let what = file
            .fields
            .iter()
            .map(|field| match (field.name.as_str(), file.change) {
                ("content", _) => format!("content, {}", signed(file.from_size, file.to_size)),
                (_, "added") => format!("{}, {}", field.to, human(file.to_size)),
                (_, "removed") => format!("{}, {}", field.from, human(file.from_size)),
                (name, _) => format!("{name} {} -> {}", field.from, field.to),
            });
        let what: Vec<_> = what.collect();
        writeln!(out, "  {mark} {} ({})", file.path, what.join("; "))?;
    }
    if diff.files.len() > FILES_LIMIT {
        let more = diff.files.len() - FILES_LIMIT;
        writeln!(out, "  and {more} more; --json and --html list all")?;
    }
    Ok(())
}
