//! What the recipe's tables of settings ask of the root, beyond the files that they stand for.
//!
//! Takes the tree with the packages' effects and the recipe's files in it; gives the tree as the
//! settings want it, and what a person should know. Works on a tree however the packages' scripts
//! were run. Never runs a program: a setting that takes one (a locale to compile) is refused.
//!
//! | table | here |
//! |---|---|
//! | `[[user]] authorized-keys`, `ssh.*` credentials | [`ssh`] |
//! | `[[credential]]` | [`credentials`] |
//! | `[[network]]`, `[resolver]` | [`names`] |
//! | `[system]` time zone and locales | [`locale`] |
//! | `[system] certificates` | [`certificates`] |
//! | `[kernel] firmware` | [`firmware`] |
//! | `[[preset]]`, `[[tmpfiles]]` | this file |
//! | `[disk.data]` | [`data`] |
//! | `[root] etc-overlay` | [`etc`] |
//!
//! A file that is there already, from the recipe, is kept.

pub(super) mod certificates;
mod credentials;
mod data;
mod etc;
mod firmware;
mod locale;
mod names;
mod ssh;
#[cfg(test)]
mod tests;

use baker_model::Recipe;

use super::error::ConfigureError;
use super::image::{Access, Image};
use super::tmpfiles;
use super::units::{Missing, Presets, Units};

pub use data::modules as data_modules;
pub(super) use data::partition as data_partition;
pub use etc::ETC_MODULE;

/// Folder of units that are part of the system.
const UNITS: &str = "/usr/lib/systemd/system";

/// Does all of it; gives what a person should know.
pub(super) fn apply(image: &mut Image<'_>, recipe: &Recipe) -> Result<Vec<String>, ConfigureError> {
    let mut warnings = Vec::new();
    presets(image, recipe)?;
    let snippets = recipe
        .tmpfiles
        .iter()
        .map(|snippet| format!("{}.conf", snippet.name));
    tmpfiles::run_named(image, &snippets.collect::<Vec<_>>())?;
    ssh::provide(image, recipe)?;
    credentials::provide(image, recipe)?;
    warnings.extend(names::provide(image, recipe)?);
    locale::provide(image, recipe)?;
    certificates::trust(image, recipe)?;
    firmware::choose(image, recipe)?;
    data::define(image, recipe)?;
    etc::overlay(image, recipe)?;
    Ok(warnings)
}

/// Units are enabled and disabled as the recipe's presets say; those that no line names stay as
/// they are.
fn presets(image: &mut Image<'_>, recipe: &Recipe) -> Result<(), ConfigureError> {
    let texts = recipe
        .presets
        .iter()
        .map(|snippet| snippet.content.as_str());
    let presets = Presets::of(texts);
    if presets.is_empty() {
        return Ok(());
    }
    for unit in image.names(UNITS)? {
        match presets.named(&unit) {
            Some(wanted) if wanted.is_empty() => {
                Units::disable(image, &unit)?;
            }
            Some(wanted) => {
                for unit in wanted {
                    Units::enable(image, &unit, Missing::PassOver)?;
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// Writes a file of the system, unless there is one.
fn write(
    image: &mut Image<'_>,
    path: &str,
    text: impl Into<Vec<u8>>,
    effect: &'static str,
) -> Result<(), ConfigureError> {
    if image.exists(path)? {
        return Ok(());
    }
    image.write(path, text, Access::root(0o644), effect)
}

/// Refuses a setting for want of a program or file, naming the package that has it.
fn need(
    image: &Image<'_>,
    table: &'static str,
    path: &str,
    package: &str,
) -> Result<(), ConfigureError> {
    if image.exists(path)? {
        return Ok(());
    }
    Err(ConfigureError::Setting {
        table,
        problem: format!("{path} is not in the root; add \"{package}\" to [debian] packages"),
    })
}
