//! `[services]` and `[system]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[services]`: units, by full name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Services {
    /// Enabled whatever the presets say.
    pub enable: Vec<String>,
    /// Not enabled whatever the presets say.
    pub disable: Vec<String>,
    /// Linked to `/dev/null`.
    pub mask: Vec<String>,
    /// The target to boot to.
    pub default_target: Option<String>,
}

/// `[system]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct System {
    /// Host name; the recipe's name when not given.
    pub host_name: Option<String>,
}
