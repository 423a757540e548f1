//! `[[group]]` and `[[user]]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[[group]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Group {
    /// Name.
    pub name: String,
    /// Number; the next free system number when not given.
    #[serde(default)]
    pub gid: Option<u32>,
}

/// `[[user]]`: an account with a locked password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// Name.
    pub name: String,
    /// Number; the next free system number when not given.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Primary group, by name; a group of the user's own name when not given.
    #[serde(default)]
    pub group: Option<String>,
    /// More groups, by name.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Home directory.
    #[serde(default = "no_home")]
    pub home: String,
    /// Login shell.
    #[serde(default = "no_login")]
    pub shell: String,
    /// Comment field.
    #[serde(default)]
    pub comment: String,
}

fn no_home() -> String {
    "/nonexistent".to_owned()
}

fn no_login() -> String {
    "/usr/sbin/nologin".to_owned()
}
