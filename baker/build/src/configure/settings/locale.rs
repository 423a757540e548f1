//! `[system]`: time zone and locales.
//!
//! A locale is compiled from its source by a program, which does not run here. Debian's package
//! `locales-all` has them all compiled: those that the recipe names stay, the others go.

use baker_model::Recipe;
use baker_model::recipe::BUILT_IN;

use super::{need, write};
use crate::configure::error::ConfigureError;
use crate::configure::image::Image;

const EFFECT: &str = "locale";
const COMPILED: &str = "/usr/lib/locale";

/// Compiled by the package of the C library itself.
const OF_LIBRARY: &str = "C.utf8";

/// Sets time zone and language, and leaves out what nobody asked for.
pub(super) fn provide(image: &mut Image<'_>, recipe: &Recipe) -> Result<(), ConfigureError> {
    let system = &recipe.system;
    if let Some(zone) = &system.time_zone {
        let path = format!("/usr/share/zoneinfo/{zone}");
        need(image, "[system] time-zone", &path, "tzdata")?;
        image.symlink("/etc/localtime", &format!("..{path}"), EFFECT)?;
        write(image, "/etc/timezone", format!("{zone}\n"), EFFECT)?;
    }
    if let Some(locale) = &system.locale {
        write(
            image,
            "/etc/locale.conf",
            format!("LANG={locale}\n"),
            EFFECT,
        )?;
    }
    if system.locales.is_empty() {
        return Ok(());
    }
    let mut kept = vec![OF_LIBRARY.to_owned()];
    let asked = system.locales.iter();
    for name in asked.filter(|name| !BUILT_IN.contains(&name.as_str())) {
        let folder = folder(name);
        if !image.is_directory(&format!("{COMPILED}/{folder}"))? {
            return Err(ConfigureError::Setting {
                table: "[system] locales",
                problem: format!(
                    "{name} is not compiled, and no program runs here that could do it; add \
                     \"locales-all\" to [debian] packages (only the named locales of it stay), \
                     or bake with scripts = \"sandbox\""
                ),
            });
        }
        kept.push(folder);
    }
    for name in image.names(COMPILED)? {
        if !kept.contains(&name) {
            image.remove(&format!("{COMPILED}/{name}"))?;
        }
    }
    Ok(())
}

/// The name of the folder: the C library writes code sets in small letters without dashes.
fn folder(locale: &str) -> String {
    let Some((language, rest)) = locale.split_once('.') else {
        return locale.to_owned();
    };
    let (codes, modifier) = match rest.split_once('@') {
        Some((codes, modifier)) => (codes, format!("@{modifier}")),
        None => (rest, String::new()),
    };
    let codes = codes.to_ascii_lowercase().replace('-', "");
    format!("{language}.{codes}{modifier}")
}
