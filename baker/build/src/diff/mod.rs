//! What differs between two images, drafts, releases or recipes.
//!
//! Takes two sides, each with what is known of it: an opened disk, a recipe, a lock. Gives the
//! differences as data, and that data as Markdown for a review comment and as one HTML page.
//! Compares what both sides have and says what it could not compare. Times of files are not
//! compared: every release has its own. Never writes, never judges.

mod facts;
mod files;
mod html;
mod markdown;
mod packages;
mod recipe;
#[cfg(test)]
mod tests;
mod treemap;

use std::io;

use baker_model::recipe::Recipe;
use baker_model::{Interrupt, Lock};
use serde::Serialize;

use crate::look::{Look, Owners, Survey};

pub use facts::SetChange;
pub(crate) use files::digest;
pub use files::{Field, FileChange, TextChange};
pub use html::html;
pub use markdown::markdown;
pub use packages::{PackageChange, PackageSize, PackageState};
pub use recipe::ValueChange;

/// One side of a comparison.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// How it is called.
    pub name: &'a str,
    /// Its disk and what is on it; none of a recipe.
    pub disk: Option<OpenDisk<'a>>,
    /// Its recipe, where there is one.
    pub recipe: Option<&'a Recipe>,
    /// Its lock, where there is one.
    pub lock: Option<&'a Lock>,
}

/// A disk whose root was surveyed.
#[derive(Clone, Copy)]
pub struct OpenDisk<'a> {
    /// The disk.
    pub look: &'a Look,
    /// What its root holds.
    pub survey: &'a Survey,
    /// Which file belongs to which package.
    pub owners: &'a Owners,
}

/// All differences. Whatever is empty is equal, or was not compared and stands in `skipped`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Diff {
    /// Name of the first side.
    pub from: String,
    /// Name of the second side.
    pub to: String,
    /// What could not be compared, and why.
    pub skipped: Vec<String>,
    /// Packages added, removed or changed.
    pub packages: Vec<PackageChange>,
    /// What the sizes of packages are: `installed` bytes, or bytes of the package `files`.
    pub size_basis: &'static str,
    /// All packages of both sides by size, largest first.
    pub sizes: Vec<PackageSize>,
    /// Values of the recipe.
    pub recipe: Vec<ValueChange>,
    /// Words of the kernel command line.
    pub command_line: SetChange,
    /// Units enabled or masked.
    pub units: SetChange,
    /// Kernel releases and their modules.
    pub modules: SetChange,
    /// Files that give more rights.
    pub privileged: SetChange,
    /// Partitions: name, type, size, content.
    pub partitions: SetChange,
    /// Programs that firmware starts, section by section.
    pub programs: SetChange,
    /// Files of the root.
    pub files: Vec<FileChange>,
    /// Configuration as unified diffs.
    pub texts: Vec<TextChange>,
}

impl Diff {
    /// True when nothing of what was compared differs.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        let sets = [
            &self.command_line,
            &self.units,
            &self.modules,
            &self.privileged,
            &self.partitions,
            &self.programs,
        ];
        self.packages.is_empty()
            && self.recipe.is_empty()
            && self.files.is_empty()
            && sets.iter().all(|set| set.is_empty())
    }
}

/// Compares two sides.
///
/// # Errors
/// A file of a root cannot be read, or somebody asked to stop.
pub fn diff(from: &Side<'_>, to: &Side<'_>, interrupt: &Interrupt) -> io::Result<Diff> {
    let mut skipped = Vec::new();
    let disks = from.disk.zip(to.disk);
    if disks.is_none() {
        let without = [from, to].into_iter().find(|side| side.disk.is_none());
        let name = without.map_or("", |side| side.name);
        skipped.push(format!("files, units and modules: {name} has no disk"));
    }
    let (packages, sizes, size_basis) = packages::compare(from, to);
    let (files, texts) = match &disks {
        Some((from, to)) => files::compare(from, to, interrupt)?,
        None => Default::default(),
    };
    let recipe = match from.recipe.zip(to.recipe) {
        Some((from, to)) => recipe::compare(from, to),
        None => {
            skipped.push("values of the recipe: not both sides have one".to_owned());
            Vec::new()
        }
    };
    if let Some((from, to)) = &disks {
        skipped.extend(untold(from, to));
    }
    let facts = facts::compare(from, to);
    Ok(Diff {
        from: from.name.to_owned(),
        to: to.name.to_owned(),
        skipped,
        packages,
        size_basis,
        sizes,
        recipe,
        command_line: facts.command_line,
        units: facts.units,
        modules: facts.modules,
        privileged: facts.privileged,
        partitions: facts.partitions,
        programs: facts.programs,
        files,
        texts,
    })
}

/// What a reader of one side cannot tell.
fn untold(from: &OpenDisk<'_>, to: &OpenDisk<'_>) -> Option<String> {
    let mut untold: Vec<&str> = from.survey.untold.to_vec();
    untold.extend(to.survey.untold);
    untold.sort_unstable();
    untold.dedup();
    let formats = match from.survey.format == to.survey.format {
        true => from.survey.format.to_owned(),
        false => format!("{} and {}", from.survey.format, to.survey.format),
    };
    (!untold.is_empty()).then(|| format!("{} of {formats}", untold.join(", ")))
}
