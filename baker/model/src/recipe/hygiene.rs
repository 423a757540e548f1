//! `[hygiene]`: what may be in the image though it usually must not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RecipeError;
use super::parse::find_value;
use crate::plan::Day;

/// Percent by which a root may grow from one release to the next when the recipe says nothing.
const GROWTH_PERCENT: u32 = 25;

/// `[hygiene]`: what the gate before signing lets through. Paths are patterns as in `root.exclude`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Hygiene {
    /// Programs that may run with the rights of their owner or group, beside the usual ones.
    pub setuid: Vec<String>,
    /// Files and directories that anybody may write.
    pub world_writable: Vec<String>,
    /// Shells, package managers and debuggers that the image needs.
    pub tools: Vec<String>,
    /// Percent by which the root may grow against the last release; 25 when not given.
    pub growth_percent: Option<u32>,
    /// Findings that are excused for a time.
    #[serde(rename = "waive")]
    pub waived: Vec<HygieneWaive>,
}

/// `[[hygiene.waive]]`: findings that are excused for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HygieneWaive {
    /// The rule, as the finding names it.
    pub rule: String,
    /// The paths that it is about; all when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub author: String,
    /// The last day on which it counts, `YYYY-MM-DD` in UTC: afterwards the finding stands again.
    pub until: Day,
}

impl Hygiene {
    /// True when the recipe says nothing: then it is left out of the recipe's digest.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Percent by which the root may grow against the last release.
    #[must_use]
    pub fn growth_percent(&self) -> u32 {
        self.growth_percent.unwrap_or(GROWTH_PERCENT)
    }
}

/// Checks what TOML cannot.
pub(super) fn check_hygiene(hygiene: &Hygiene, text: &str) -> Result<(), RecipeError> {
    for waive in &hygiene.waived {
        for (key, value) in [("reason", &waive.reason), ("author", &waive.author)] {
            if value.trim().is_empty() {
                let problem = format!("the waiver of `{}` has no {key}", waive.rule);
                return Err(RecipeError::at(
                    text,
                    find_value(text, &waive.rule),
                    problem,
                ));
            }
        }
    }
    Ok(())
}
