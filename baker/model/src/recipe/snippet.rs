//! Tables that stand for one small file each: `[sysctl]`, `[modules]`, `[[sysusers]]`,
//! `[[tmpfiles]]`, `[[preset]]`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::{find_key, find_value};
use super::{FileEntry, Recipe, RecipeError};

/// `[[sysusers]]`, `[[tmpfiles]]`, `[[preset]]`: a named piece of configuration, in the words of
/// systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Snippet {
    /// Name of the file, without its ending.
    pub name: String,
    /// Its lines.
    pub content: String,
}

/// `[modules]`: what the running system does with kernel modules. Which modules it has is said by
/// `[kernel] root-modules`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Modules {
    /// Loaded at boot.
    pub load: Vec<String>,
    /// Not loaded for the hardware that they drive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blacklist: Vec<String>,
    /// Parameters by module (`loop = "max_loop=8"`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl Modules {
    /// True when the table says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A value of `[sysctl]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SysctlValue {
    /// A number.
    Number(i64),
    /// Anything else, as it is written to the kernel.
    Text(String),
}

/// The files that these tables of the recipe stand for.
pub(super) fn files(recipe: &Recipe) -> Vec<FileEntry> {
    let mut files = Vec::new();
    let kinds = [
        (&recipe.sysusers, "/usr/lib/sysusers.d", "conf"),
        (&recipe.tmpfiles, "/usr/lib/tmpfiles.d", "conf"),
        (&recipe.presets, "/usr/lib/systemd/system-preset", "preset"),
    ];
    for (snippets, folder, ending) in kinds {
        for snippet in snippets {
            let path = format!("{folder}/{}.{ending}", snippet.name);
            let mut content = snippet.content.clone();
            if !content.ends_with('\n') {
                content.push('\n');
            }
            files.push(FileEntry::text(&path, content));
        }
    }
    if !recipe.sysctl.is_empty() {
        let mut text = String::new();
        for (key, value) in &recipe.sysctl {
            // Writing to a string cannot fail.
            match value {
                SysctlValue::Number(value) => writeln!(text, "{key} = {value}"),
                SysctlValue::Text(value) => writeln!(text, "{key} = {value}"),
            }
            .unwrap_or_default();
        }
        files.push(FileEntry::text("/etc/sysctl.d/60-recipe.conf", text));
    }
    let modules = &recipe.modules;
    if !modules.load.is_empty() {
        let text = modules.load.join("\n") + "\n";
        files.push(FileEntry::text("/etc/modules-load.d/recipe.conf", text));
    }
    let blacklist = modules
        .blacklist
        .iter()
        .map(|name| format!("blacklist {name}\n"));
    let options = modules
        .options
        .iter()
        .map(|(name, words)| format!("options {name} {words}\n"));
    let text: String = blacklist.chain(options).collect();
    if !text.is_empty() {
        files.push(FileEntry::text("/etc/modprobe.d/recipe.conf", text));
    }
    files
}

/// Checks what TOML cannot.
pub(super) fn check(recipe: &Recipe, text: &str) -> Result<(), RecipeError> {
    let snippets = recipe
        .sysusers
        .iter()
        .chain(&recipe.tmpfiles)
        .chain(&recipe.presets);
    for snippet in snippets {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let name = &snippet.name;
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            let problem = format!("`{name}` is no name of a file: use letters, digits, - _ and .");
            return Err(RecipeError::at(text, find_value(text, name), problem));
        }
    }
    for (key, value) in &recipe.sysctl {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./*".contains(c);
        let torn = matches!(value, SysctlValue::Text(value) if value.contains('\n'));
        if !key.contains(['.', '/']) || !key.chars().all(plain) || torn {
            let problem = format!("`{key}` cannot be set: write \"kernel.panic\" = 10");
            return Err(RecipeError::at(text, find_quoted(text, key), problem));
        }
    }
    let modules = &recipe.modules;
    let names = modules
        .load
        .iter()
        .chain(&modules.blacklist)
        .chain(modules.options.keys());
    for name in names {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            let problem = format!("`{name}` is no name of a module");
            return Err(RecipeError::at(text, find_quoted(text, name), problem));
        }
    }
    if let Some((name, words)) = modules
        .options
        .iter()
        .find(|(_, words)| words.contains('\n'))
    {
        let problem = format!("the options of {name} have more than one line: `{words}`");
        return Err(RecipeError::at(text, find_key(text, name), problem));
    }
    Ok(())
}

/// Offset of a quoted text, key or value, else of a bare key.
fn find_quoted(text: &str, word: &str) -> usize {
    match find_value(text, word) {
        0 => find_key(text, word),
        at => at,
    }
}
