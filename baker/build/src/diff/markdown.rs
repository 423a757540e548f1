//! Differences as Markdown, for a comment of a review.

use std::fmt::{self, Write as _};

use super::{Diff, FileChange, PackageState, SetChange};
use crate::look::human;

/// Files that are listed; a comment that shows thousands is read by nobody.
const FILES_LIMIT: usize = 50;

/// Bytes of unified diffs that are shown; forges refuse longer comments than 64 KiB.
const TEXT_LIMIT: usize = 24 << 10;

/// The whole comment.
#[must_use]
pub fn markdown(diff: &Diff) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    write(&mut text, diff).unwrap_or_default();
    text
}

fn write(out: &mut String, diff: &Diff) -> fmt::Result {
    writeln!(out, "### {} → {}\n", plain(&diff.from), plain(&diff.to))?;
    if diff.is_equal() {
        writeln!(out, "No differences.")?;
    } else {
        writeln!(out, "{}\n", summary(diff))?;
    }
    packages(out, diff)?;
    values(out, diff)?;
    for (name, set) in sets(diff) {
        set_change(out, name, set)?;
    }
    files(out, &diff.files)?;
    texts(out, diff)?;
    for skipped in &diff.skipped {
        writeln!(out, "\n_Not compared: {}._", plain(skipped))?;
    }
    Ok(())
}

/// The facts that are sets, with their headings.
pub(super) fn sets(diff: &Diff) -> [(&'static str, &SetChange); 6] {
    [
        ("Kernel command line", &diff.command_line),
        ("Units", &diff.units),
        ("Kernel modules", &diff.modules),
        ("Files with more rights", &diff.privileged),
        ("Partitions", &diff.partitions),
        ("Boot programs", &diff.programs),
    ]
}

/// One line of numbers.
pub(super) fn summary(diff: &Diff) -> String {
    let packages = |keep: fn(&super::PackageChange) -> bool| {
        diff.packages.iter().filter(|change| keep(change)).count()
    };
    let files = |kind: &str| diff.files.iter().filter(|file| file.change == kind).count();
    let sum = |of: fn(&super::PackageSize) -> u64| diff.sizes.iter().map(of).sum::<u64>();
    let (before, after) = (sum(|size| size.from), sum(|size| size.to));
    format!(
        "Packages: {} added, {} removed, {} changed. Files: {} added, {} removed, {} changed. \
         Size: {} → {} ({}).",
        packages(|change| change.from.is_none()),
        packages(|change| change.to.is_none()),
        packages(|change| change.from.is_some() && change.to.is_some()),
        files("added"),
        files("removed"),
        files("changed"),
        human(before),
        human(after),
        signed(before, after),
    )
}

/// A change of size with its sign.
pub(super) fn signed(from: u64, to: u64) -> String {
    match to.checked_sub(from) {
        Some(0) => "±0".to_owned(),
        Some(more) => format!("+{}", human(more)),
        None => format!("−{}", human(from - to)),
    }
}

/// What a package's cell shows.
pub(super) fn version(state: Option<&PackageState>) -> &str {
    state.map_or("", |state| state.version.as_str())
}

/// The change of a package's size; nothing when it is not known.
pub(super) fn size_change(change: &super::PackageChange) -> String {
    let size = |state: &Option<PackageState>| match state {
        Some(state) => state.size,
        None => Some(0),
    };
    match (size(&change.from), size(&change.to)) {
        (Some(from), Some(to)) => signed(from, to),
        _ => String::new(),
    }
}

fn packages(out: &mut String, diff: &Diff) -> fmt::Result {
    if diff.packages.is_empty() {
        return Ok(());
    }
    writeln!(out, "| package | from | to | size |")?;
    writeln!(out, "|---|---|---|---|")?;
    for change in &diff.packages {
        writeln!(
            out,
            "| {} | {} | {} | {} |",
            plain(&change.name),
            plain(version(change.from.as_ref())),
            plain(version(change.to.as_ref())),
            size_change(change)
        )?;
    }
    writeln!(out)
}

fn values(out: &mut String, diff: &Diff) -> fmt::Result {
    if diff.recipe.is_empty() {
        return Ok(());
    }
    writeln!(out, "| recipe | from | to |")?;
    writeln!(out, "|---|---|---|")?;
    for change in &diff.recipe {
        let cell = |value: &Option<String>| value.as_deref().map_or_else(String::new, code);
        writeln!(
            out,
            "| {} | {} | {} |",
            code(&change.key),
            cell(&change.from),
            cell(&change.to)
        )?;
    }
    writeln!(out)
}

fn set_change(out: &mut String, name: &str, set: &SetChange) -> fmt::Result {
    if set.is_empty() {
        return Ok(());
    }
    writeln!(out, "<details><summary>{name}</summary>\n\n```diff")?;
    for word in &set.removed {
        writeln!(out, "- {}", fenced(word))?;
    }
    for word in &set.added {
        writeln!(out, "+ {}", fenced(word))?;
    }
    writeln!(out, "```\n</details>\n")
}

fn files(out: &mut String, files: &[FileChange]) -> fmt::Result {
    if files.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<details><summary>{} files</summary>\n\n| | file | what | size |\n|---|---|---|---|",
        files.len()
    )?;
    for file in files.iter().take(FILES_LIMIT) {
        let mark = match file.change {
            "added" => "+",
            "removed" => "−",
            _ => "~",
        };
        let what = file.fields.iter().map(|field| match field.name.as_str() {
            "content" => "content".to_owned(),
            name => format!("{name} {} → {}", plain(&field.from), plain(&field.to)),
        });
        let what: Vec<_> = what.collect();
        writeln!(
            out,
            "| {mark} | {} | {} | {} |",
            code(&file.path),
            what.join(", "),
            signed(file.from_size, file.to_size)
        )?;
    }
    if files.len() > FILES_LIMIT {
        writeln!(out, "\n… and {} more.", files.len() - FILES_LIMIT)?;
    }
    writeln!(out, "</details>\n")
}

fn texts(out: &mut String, diff: &Diff) -> fmt::Result {
    let mut shown = 0;
    for text in &diff.texts {
        shown += text.unified.len();
        if shown > TEXT_LIMIT {
            writeln!(
                out,
                "… further texts differ; `baker diff --html` shows them all."
            )?;
            break;
        }
        writeln!(
            out,
            "<details><summary>{}</summary>\n\n```diff\n{}```\n</details>\n",
            plain(&text.path),
            fenced(&text.unified)
        )?;
    }
    Ok(())
}

/// Text that Markdown and HTML take as it is: names come from images of strangers.
fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '\n' | '\r' => safe.push(' '),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '@' | '#' => {
                safe.push('\\');
                safe.push(character);
            }
            _ if character.is_control() => {}
            _ => safe.push(character),
        }
    }
    safe
}

/// Text as code inside of a line.
fn code(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    let safe = short.replace(['`', '\n', '\r'], " ").replace('|', "\\|");
    format!("`{safe}`")
}

/// Text inside of a fence, which it must not end.
fn fenced(text: &str) -> String {
    text.replace("```", "` ` `")
}
