//! `[debian]`: packages, where they come from, and what happens with their scripts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[debian]`: packages and where they come from. Never a mirror: that is configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Debian {
    /// Suite, such as `trixie`; its `-updates` and `-security` suites are used with it.
    pub suite: String,
    /// All suites to use, instead of `suite` and its two companions. A suite whose name ends in
    /// `-security` lies under the archive `debian-security`, all others under `debian`.
    #[serde(default)]
    pub suites: Option<Vec<String>>,
    /// Components.
    #[serde(default = "main_component")]
    pub components: Vec<String>,
    /// Packages asked for: `name`, `name=version` or `name:arch`.
    pub packages: Vec<String>,
    /// True to add every package marked Essential.
    #[serde(default)]
    pub essential: bool,
    /// True to follow Recommends too.
    #[serde(default)]
    pub recommends: bool,
    /// Packages taken as present though they are not: dependencies on them are met by nothing.
    #[serde(default, rename = "assume")]
    pub assumed: Vec<Assumed>,
    /// What happens with the packages' own scripts.
    #[serde(default)]
    pub scripts: Scripts,
    /// Scripts that may go uncovered.
    #[serde(default, rename = "waive")]
    pub waived: Vec<Waive>,
}

impl Debian {
    /// The suites to use, in order: `suites`, or `suite` with its companions.
    #[must_use]
    pub fn suites(&self) -> Vec<String> {
        self.suites.clone().unwrap_or_else(|| {
            let suite = &self.suite;
            vec![
                suite.clone(),
                format!("{suite}-updates"),
                format!("{suite}-security"),
            ]
        })
    }
}

fn main_component() -> Vec<String> {
    vec!["main".to_owned()]
}

/// `[[debian.assume]]`: a dependency that the image knowingly does without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Assumed {
    /// Name of a real or virtual package.
    pub package: String,
    /// Why the image works without it.
    pub reason: String,
}

/// What happens with the packages' own scripts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scripts {
    /// None runs; known effects are done in process.
    #[default]
    Builtin,
}

/// `[[debian.waive]]`: a script that is neither run nor covered, knowingly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Waive {
    /// Package name.
    pub package: String,
    /// `preinst`, `postinst`, `triggers` ...
    pub script: String,
    /// Why its effects are not needed.
    pub reason: String,
}
