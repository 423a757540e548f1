//! `[services]` and `[system]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::find_value;
use super::update::leaves;
use super::{FileEntry, Recipe, RecipeError};

/// Locales that the C library has without any file of the package `locales`.
pub const BUILT_IN: [&str; 3] = ["C", "C.UTF-8", "POSIX"];

/// Where certificates are that the image trusts beside those of its packages.
pub const CERTIFICATES: &str = "/usr/local/share/ca-certificates";

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
    /// Time zone, as below `/usr/share/zoneinfo` (`Europe/Berlin`); UTC when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Language of the system, the `LANG` of every unit; `C.UTF-8` when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Locales that programs find beside `C.UTF-8`; all others of the packages are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locales: Vec<String>,
    /// PEM files beside the recipe with authorities that the image trusts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
}

impl System {
    /// The certificates as files of the image: where Debian's own tool looks for them.
    pub fn certificate_files(&self) -> impl Iterator<Item = FileEntry> {
        self.certificates.iter().map(|source| {
            let name = source.rsplit('/').next().unwrap_or(source);
            let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
            FileEntry::local(&format!("{CERTIFICATES}/{stem}.crt"), source.clone())
        })
    }
}

/// Checks what TOML cannot.
pub(super) fn check(recipe: &Recipe, text: &str) -> Result<(), RecipeError> {
    let system = &recipe.system;
    let refuse =
        |value: &str, problem| Err(RecipeError::at(text, find_value(text, value), problem));
    let plain = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || "_+-/.@".contains(c))
    };
    if let Some(zone) = &system.time_zone
        && (zone.is_empty() || leaves(zone) || !plain(zone))
    {
        return refuse(
            zone,
            format!("`{zone}` is no time zone: write \"Europe/Berlin\""),
        );
    }
    for locale in system.locales.iter().chain(&system.locale) {
        if locale.is_empty() || locale.contains('/') || !plain(locale) {
            return refuse(
                locale,
                format!("`{locale}` is no locale: write \"de_DE.UTF-8\""),
            );
        }
    }
    if let Some(locale) = &system.locale
        && !BUILT_IN.contains(&locale.as_str())
        && !system.locales.contains(locale)
    {
        let problem = format!("the system's `locale` {locale} is not among its `locales`");
        return refuse(locale, problem);
    }
    if let Some(source) = system.certificates.iter().find(|source| leaves(source)) {
        let problem = format!("certificate `{source}` lies outside the recipe's folder");
        return refuse(source, problem);
    }
    Ok(())
}
