//! The hygiene gate between the stages: what it compares with, and what its findings lead to.

use std::fs;
use std::path::Path;

use baker_build::hygiene::Report;
use baker_model::recipe::{Hygiene, Recipe};
use baker_model::{Event, Listener, Manifest};

use crate::exit::{Exit, Failure};

/// Findings shown when there are more; all of them stand in the manifest.
const SHOWN: usize = 20;

/// Bytes of the root of the newest other version of the recipe in the folder `to`.
pub fn last_size(to: &Path, recipe: &Recipe) -> Option<u64> {
    let entries = fs::read_dir(to).ok()?;
    let releases = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?;
        name.strip_prefix(&recipe.name)?.strip_prefix('-')?;
        let manifest = fs::read(path.join(baker_ship::MANIFEST)).ok()?;
        Manifest::parse(&manifest).ok()
    });
    let others = releases
        .filter(|manifest| manifest.name == recipe.name && manifest.version != recipe.version);
    let sized = others.filter_map(|manifest| Some((manifest.epoch, manifest.hygiene?.size)));
    sized.max().map(|(_, size)| size)
}

/// Tells what is wrong with a draft, which nobody has to sign.
pub fn warn(report: &Report, terms: &Hygiene, stage: &'static str, listener: &dyn Listener) {
    let warn = |text: String| listener.event(Event::Warning { stage, text });
    for finding in report.open.iter().take(SHOWN) {
        warn(finding.to_string());
    }
    if report.open.len() > SHOWN {
        warn(format!("and {} findings more", report.open.len() - SHOWN));
    }
    for (number, waive) in terms.waived.iter().enumerate() {
        let is_used = report.waived.iter().any(|(_, used)| *used == number);
        if !is_used {
            warn(format!(
                "the waiver of `{}` (until {}) excuses nothing: it ran out, or what it was for is \
                 gone",
                waive.rule, waive.until
            ));
        }
    }
}

/// Refuses to go on with what could not be signed.
pub fn refuse(manifest: &Manifest) -> Result<(), Failure> {
    let open = manifest.hygiene.as_ref().map_or(&[][..], |fact| &fact.open);
    if open.is_empty() {
        return Ok(());
    }
    let mut text = format!("{} things must not be in the image:", open.len());
    for finding in open.iter().take(SHOWN) {
        let line = finding
            .line
            .map_or(String::new(), |line| format!(":{line}"));
        text.push_str(&format!("\n- {}: {}{line}", finding.rule, finding.path));
    }
    Err(Failure::message(Exit::Hygiene, text).help(
        "take them out (each is explained above), or waive them in the recipe with \
         [[hygiene.waive]]",
    ))
}

/// How a report is summed up.
pub fn summary(report: &Report) -> String {
    match (report.open.len(), report.waived.len()) {
        (0, 0) => "clean".to_owned(),
        (0, waived) => format!("clean, {waived} waived"),
        (open, waived) => format!("{open} findings, {waived} waived"),
    }
}
