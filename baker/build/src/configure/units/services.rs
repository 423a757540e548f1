//! `[services]` of the recipe.

use baker_model::Recipe;

use super::enable::{Missing, Units};
use crate::configure::error::ConfigureError;
use crate::configure::image::Image;

const EFFECT: &str = "services";

/// Enables, disables and masks what the recipe names, and sets the target to boot to.
///
/// Without a `default-target` an image boots to `multi-user.target`, unless it has a display
/// manager: `graphical.target`, Debian's default, then only waits for nothing.
pub(in crate::configure) fn apply_services(
    image: &mut Image<'_>,
    recipe: &Recipe,
) -> Result<Vec<String>, ConfigureError> {
    let services = &recipe.services;
    let mut warnings = Vec::new();
    for unit in &services.disable {
        if !Units::has(image, unit)? {
            warnings.push(format!(
                "[services] disable: there is no unit `{unit}` to disable"
            ));
        } else if Units::disable(image, unit)? == 0 {
            warnings.push(format!(
                "[services] disable: `{unit}` was not enabled; if something else starts it, mask it"
            ));
        }
    }
    for unit in &services.enable {
        Units::enable(image, unit, Missing::Refuse)?;
    }
    for unit in &services.mask {
        Units::mask(image, unit, EFFECT)?;
    }
    match &services.default_target {
        Some(target) => Units::set_default(image, target)?,
        None => {
            let graphical = Units::has(image, "display-manager.service")?;
            if !graphical && Units::has(image, "multi-user.target")? {
                Units::set_default(image, "multi-user.target")?;
            }
        }
    }
    Ok(warnings)
}
