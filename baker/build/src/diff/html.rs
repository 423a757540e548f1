//! Differences as one page that needs nothing else: no script, no font, no picture.

use std::fmt::{self, Write as _};

use super::markdown::{sets, signed, size_change, summary, version};
use super::packages::NOBODY;
use super::treemap::{Rectangle, squarify};
use super::{Diff, PackageSize, SetChange};
use crate::look::human;

/// Files that are listed; `--json` has all.
const FILES_LIMIT: usize = 2000;

/// Packages with an area of their own; the rest shares one.
const AREAS: usize = 60;

/// How wide a letter of a label is, in units of the picture; a label that would be cut is left
/// out.
const LETTER: f64 = 7.4;

const STYLE: &str = include_str!("page.css");

/// The whole page.
#[must_use]
pub fn html(diff: &Diff) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    write(&mut page, diff).unwrap_or_default();
    page
}

fn write(out: &mut String, diff: &Diff) -> fmt::Result {
    let title = format!("{} → {}", escape(&diff.from), escape(&diff.to));
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n\
         <h1>{title}</h1>\n<p class=\"lead\">{}</p>",
        match diff.is_equal() {
            true => "No differences.".to_owned(),
            false => escape(&summary(diff)),
        }
    )?;
    treemap(out, diff)?;
    packages(out, diff)?;
    values(out, diff)?;
    for (name, set) in sets(diff) {
        set_change(out, name, set)?;
    }
    texts(out, diff)?;
    files(out, diff)?;
    if !diff.skipped.is_empty() {
        write!(out, "<h2>Not compared</h2>\n<ul>")?;
        for skipped in &diff.skipped {
            writeln!(out, "<li>{}</li>", escape(skipped))?;
        }
        writeln!(out, "</ul>")?;
    }
    writeln!(out, "</main></body></html>")
}

fn treemap(out: &mut String, diff: &Diff) -> fmt::Result {
    if diff.sizes.is_empty() {
        return Ok(());
    }
    let what = match diff.size_basis {
        "installed" => "installed bytes",
        _ => "bytes of the package files",
    };
    writeln!(
        out,
        "<h2>Size by package</h2>\n<p class=\"legend\"><span class=\"key same\"></span>unchanged \
         <span class=\"key changed\"></span>another version <span class=\"key added\"></span>added \
         <span class=\"key removed\"></span>removed. Areas are {what}, the larger of both \
         sides.</p>"
    )?;
    let areas = areas(&diff.sizes);
    // One picture for wide windows and one for telephones: scaled ones could not be read.
    draw(out, &areas, "wide", 1120.0, 520.0)?;
    draw(out, &areas, "narrow", 380.0, 560.0)
}

/// The largest, and the rest as one.
fn areas(sizes: &[PackageSize]) -> Vec<PackageSize> {
    let (large, small) = sizes.split_at(sizes.len().min(AREAS));
    let mut areas = large.to_vec();
    if !small.is_empty() {
        areas.push(PackageSize {
            name: format!("{} smaller packages", small.len()),
            from: small.iter().map(|size| size.from).sum(),
            to: small.iter().map(|size| size.to).sum(),
            changed: false,
        });
    }
    areas.sort_by_key(|size| std::cmp::Reverse(size.from.max(size.to)));
    areas
}

/// What of a package differs, as the name of a style.
const fn class(size: &PackageSize) -> &'static str {
    match (size.from, size.to, size.changed) {
        (0, _, _) => "added",
        (_, 0, _) => "removed",
        (_, _, true) => "changed",
        _ => "same",
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "areas of a picture, drawn to a tenth of a pixel"
)]
fn weight(size: &PackageSize) -> f64 {
    size.from.max(size.to) as f64
}

fn draw(
    out: &mut String,
    areas: &[PackageSize],
    name: &str,
    width: f64,
    height: f64,
) -> fmt::Result {
    let frame = Rectangle {
        x: 0.0,
        y: 0.0,
        width,
        height,
    };
    let weights: Vec<f64> = areas.iter().map(weight).collect();
    writeln!(
        out,
        "<svg class=\"map {name}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"Size by package\">"
    )?;
    for (size, at) in areas.iter().zip(squarify(&weights, frame)) {
        area(out, size, at)?;
    }
    writeln!(out, "</svg>")
}

fn area(out: &mut String, size: &PackageSize, at: Rectangle) -> fmt::Result {
    let name = escape(&size.name);
    let sizes = match size.from == size.to {
        true => human(size.to),
        false => format!(
            "{} → {} ({})",
            human(size.from),
            human(size.to),
            signed(size.from, size.to)
        ),
    };
    let dashed = if size.name == NOBODY { " nobody" } else { "" };
    write!(
        out,
        "<g class=\"{}{dashed}\"><title>{name}: {sizes}</title>\
         <rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        class(size),
        at.x,
        at.y,
        at.width,
        at.height
    )?;
    let letters = |text: &str| {
        let count = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        f64::from(count) * LETTER + 10.0
    };
    if letters(&size.name) <= at.width && at.height >= 20.0 {
        let (x, y) = (at.x + 5.0, at.y + 15.0);
        write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>")?;
        let bytes = human(size.from.max(size.to));
        if letters(&bytes) <= at.width && at.height >= 36.0 {
            let y = y + 15.0;
            write!(
                out,
                "<text class=\"size\" x=\"{x:.1}\" y=\"{y:.1}\">{bytes}</text>"
            )?;
        }
    }
    writeln!(out, "</g>")
}

fn packages(out: &mut String, diff: &Diff) -> fmt::Result {
    if diff.packages.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>Packages</h2>\n<div class=\"scroll\"><table><thead><tr><th>package</th><th>from</th>\
         <th>to</th><th class=\"number\">size</th></tr></thead><tbody>"
    )?;
    for change in &diff.packages {
        let class = match (&change.from, &change.to) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        writeln!(
            out,
            "<tr class=\"{class}\"><td>{}</td><td>{}</td><td>{}</td>\
             <td class=\"number\">{}</td></tr>",
            escape(&change.name),
            escape(version(change.from.as_ref())),
            escape(version(change.to.as_ref())),
            size_change(change)
        )?;
    }
    writeln!(out, "</tbody></table></div>")
}

fn values(out: &mut String, diff: &Diff) -> fmt::Result {
    if diff.recipe.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>Recipe</h2>\n<div class=\"scroll\"><table><thead><tr><th>key</th><th>from</th>\
         <th>to</th></tr></thead><tbody>"
    )?;
    for change in &diff.recipe {
        let cell = |value: &Option<String>| escape(value.as_deref().unwrap_or_default());
        writeln!(
            out,
            "<tr><td>{}</td><td><code>{}</code></td><td><code>{}</code></td></tr>",
            escape(&change.key),
            cell(&change.from),
            cell(&change.to)
        )?;
    }
    writeln!(out, "</tbody></table></div>")
}

fn set_change(out: &mut String, name: &str, set: &SetChange) -> fmt::Result {
    if set.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>{name}</h2>\n<pre>")?;
    for word in &set.removed {
        writeln!(out, "<del>− {}</del>", escape(word))?;
    }
    for word in &set.added {
        writeln!(out, "<ins>+ {}</ins>", escape(word))?;
    }
    writeln!(out, "</pre>")
}

fn texts(out: &mut String, diff: &Diff) -> fmt::Result {
    if diff.texts.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Configuration</h2>")?;
    for text in &diff.texts {
        writeln!(
            out,
            "<details open><summary>{}</summary><pre>",
            escape(&text.path)
        )?;
        // The two lines of names stand in the summary already.
        for line in text.unified.lines().skip(2) {
            let line_text = escape(line);
            match line.as_bytes().first() {
                Some(b'+') => writeln!(out, "<ins>{line_text}</ins>")?,
                Some(b'-') => writeln!(out, "<del>{line_text}</del>")?,
                Some(b'@') => writeln!(out, "<b>{line_text}</b>")?,
                _ => writeln!(out, "{line_text}")?,
            }
        }
        writeln!(out, "</pre></details>")?;
    }
    Ok(())
}

fn files(out: &mut String, diff: &Diff) -> fmt::Result {
    if diff.files.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>Files</h2>\n<details><summary>{} files differ</summary><div class=\"scroll\"><table>\
         <thead><tr><th>file</th><th>what</th><th>package</th><th class=\"number\">size</th></tr>\
         </thead><tbody>",
        diff.files.len()
    )?;
    for file in diff.files.iter().take(FILES_LIMIT) {
        let what = file.fields.iter().map(|field| match field.name.as_str() {
            "content" => "content".to_owned(),
            name => format!(
                "{} {} → {}",
                escape(name),
                escape(&field.from),
                escape(&field.to)
            ),
        });
        let what: Vec<_> = what.collect();
        writeln!(
            out,
            "<tr class=\"{}\"><td>{}</td><td>{}</td><td>{}</td><td class=\"number\">{}</td></tr>",
            file.change,
            escape(&file.path),
            what.join(", "),
            escape(file.package.as_deref().unwrap_or_default()),
            signed(file.from_size, file.to_size)
        )?;
    }
    writeln!(out, "</tbody></table></div>")?;
    if diff.files.len() > FILES_LIMIT {
        writeln!(out, "<p>… and {} more.</p>", diff.files.len() - FILES_LIMIT)?;
    }
    writeln!(out, "</details>")
}

/// Text that HTML takes as it is: names come from images of strangers.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\t' => safe.push('\t'),
            _ if character.is_control() => safe.push('\u{fffd}'),
            _ => safe.push(character),
        }
    }
    safe
}
