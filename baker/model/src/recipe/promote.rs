//! `[promote.<channel>]`: what a release must show before a channel may point to it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RecipeError;
use super::parse::find_key;
use crate::Digest;
use crate::plan::Firmware;

/// The channels that every recipe has; others need a table of switches.
pub const CHANNELS: [&str; 3] = ["dev", "staging", "prod"];

/// The longest name of a channel, bytes.
const NAME_LIMIT: usize = 32;

/// The switches of one channel. All of them must hold; a channel without switches asks only that
/// the release verifies and is not withdrawn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Promote {
    /// Firmwares by which a test of this release must have passed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tested: Vec<Firmware>,
    /// A second builder must have got the same bytes and signed that.
    #[serde(skip_serializing_if = "is_false")]
    pub rebuilt: bool,
    /// Ids of keys, one of which at least must have signed the release.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<Digest>,
    /// Nothing about hygiene may be waived.
    #[serde(skip_serializing_if = "is_false")]
    pub hygiene: bool,
    /// A channel that the release must have been in before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// True for what may be the name of a channel: `[a-z0-9][a-z0-9-]*`, at most 32 bytes.
#[must_use]
pub fn is_channel_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=NAME_LIMIT).contains(&name.len())
        && plain(name.as_bytes()[0])
        && name.bytes().all(|byte| plain(byte) || byte == b'-')
}

/// Refuses names that no channel can have, and a channel that waits for itself.
pub(super) fn check(promote: &BTreeMap<String, Promote>, text: &str) -> Result<(), RecipeError> {
    for (channel, switches) in promote {
        let table = text.find(&format!("[promote.{channel}]")).unwrap_or(0);
        if !is_channel_name(channel) {
            let problem = format!("`{channel}` is not a channel: use a-z, 0-9 and -");
            return Err(RecipeError::at(text, table, problem));
        }
        let Some(after) = &switches.after else {
            continue;
        };
        let at = table + find_key(&text[table..], "after");
        if !is_channel_name(after) {
            let problem = format!("`{after}` is not a channel: use a-z, 0-9 and -");
            return Err(RecipeError::at(text, at, problem));
        }
        if after == channel {
            let problem = format!("a release cannot reach {channel} after {channel}");
            return Err(RecipeError::at(text, at, problem));
        }
    }
    Ok(())
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use crate::Recipe;
    use crate::plan::Firmware;

    const GOOD: &str = "name = \"tiny\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\n\
        packages = [\"systemd\"]\n[kernel]\npackage = \"linux-image-cloud-amd64\"\n";

    #[test]
    fn switches_are_read_and_nonsense_is_refused_with_its_place() {
        let plain = Recipe::parse(GOOD).unwrap();
        let prod =
            "[promote.prod]\ntested = [\"uefi-secure\"]\nrebuilt = true\nafter = \"staging\"\n";
        let recipe = Recipe::parse(&format!("{GOOD}{prod}")).unwrap();
        let switches = &recipe.promote["prod"];
        assert_eq!(switches.tested, [Firmware::UefiSecure]);
        assert!(switches.rebuilt && !switches.hygiene);
        assert_ne!(recipe.digest(), plain.digest());
        for (table, line, words) in [
            ("[promote.Prod]\n", 8, "`Prod` is not a channel"),
            (
                "[promote.prod]\nafter = \"../x\"\n",
                9,
                "`../x` is not a channel",
            ),
            ("[promote.prod]\nafter = \"prod\"\n", 9, "prod after prod"),
            (
                "[promote.prod]\nrebuild = true\n",
                9,
                "unknown key `rebuild`",
            ),
            ("[promote.prod]\nsigned-by = [\"ab\"]\n", 9, "64 hex digits"),
        ] {
            let error = Recipe::parse(&format!("{GOOD}{table}")).unwrap_err();
            assert!(error.problem.contains(words), "{error}");
            assert_eq!(error.line, line, "{error}");
        }
    }
}
