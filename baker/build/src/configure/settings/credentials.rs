//! `[[credential]]`: units get what the recipe says they need.
//!
//! A credential is imported into the unit; when it is required, the unit asserts it. systemd takes
//! a missing credential for no failure of its own, and a unit that finds out by itself says so in
//! words of its own, or not at all.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use baker_model::Recipe;
use baker_model::recipe::Credential;

use super::{UNITS, write};
use crate::configure::error::ConfigureError;
use crate::configure::image::Image;
use crate::configure::units::Units;

const EFFECT: &str = "credentials";

/// The drop-ins of all units that are named.
pub(super) fn provide(image: &mut Image<'_>, recipe: &Recipe) -> Result<(), ConfigureError> {
    let mut units: BTreeMap<&str, Vec<&Credential>> = BTreeMap::new();
    for credential in &recipe.credentials {
        if let Some(unit) = &credential.unit {
            units.entry(unit).or_default().push(credential);
        }
    }
    for (unit, credentials) in units {
        if !Units::has(image, unit)? {
            return Err(ConfigureError::Unit {
                unit: unit.to_owned(),
                problem: format!(
                    "[[credential]] {} is for it, but no package of the image has it, or it is \
                     masked",
                    credentials[0].name
                ),
            });
        }
        let path = format!("{UNITS}/{unit}.d/50-baker-credentials.conf");
        write(image, &path, drop_in(&credentials), EFFECT)?;
    }
    Ok(())
}

fn drop_in(credentials: &[&Credential]) -> String {
    let mut text = String::new();
    let required = credentials.iter().filter(|credential| credential.required);
    for (place, credential) in required.enumerate() {
        if place == 0 {
            text.push_str("[Unit]\n");
        }
        // Writing to a string cannot fail.
        writeln!(text, "AssertCredential={}", credential.name).unwrap_or_default();
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str("[Service]\n");
    for credential in credentials {
        writeln!(text, "ImportCredential={}", credential.name).unwrap_or_default();
    }
    text
}
