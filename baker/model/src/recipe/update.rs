//! `[update]`: where machines with two slots look for their next version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::{find_key, find_value};
use super::{FileEntry, Recipe, RecipeError};

/// Where systemd looks for the keys by which lists of updates may be signed.
pub const KEYRING: &str = "/usr/lib/systemd/import-pubring.gpg";

/// `[update]`: from where systemd-sysupdate updates the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Update {
    /// Address at which the folder of releases is served, `http://` or `https://`.
    pub url: String,
    /// OpenPGP keyring, a file beside the recipe: the list of updates must be signed by one of its
    /// keys. Needed unless `verify = false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<String>,
    /// False when machines take whatever the server offers.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub verify: bool,
}

impl Update {
    /// Address of the folder from which the machines of the recipe `name` are updated.
    #[must_use]
    pub fn folder(&self, name: &str) -> String {
        format!("{}/sysupdate/{name}", self.url.trim_end_matches('/'))
    }

    /// The keyring as a file of the image.
    #[must_use]
    pub fn keyring_file(&self) -> Option<FileEntry> {
        let source = self.keyring.clone()?;
        Some(FileEntry::local(KEYRING, source))
    }
}

const fn yes() -> bool {
    true
}

// Left out when true, as in a recipe that says nothing.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
const fn is_true(flag: &bool) -> bool {
    *flag
}

/// Checks what TOML cannot.
pub(super) fn check(recipe: &Recipe, text: &str) -> Result<(), RecipeError> {
    let Some(update) = &recipe.update else {
        return Ok(());
    };
    let table = text.find("[update]").unwrap_or(0);
    if recipe.disk.slots != 2 {
        let problem = "[update] needs `slots = 2` in [disk]: a version is written beside the one \
                       that runs";
        return Err(RecipeError::at(text, table, problem));
    }
    let url = update.url.as_str();
    let rest = ["https://", "http://"].map(|scheme| url.strip_prefix(scheme));
    let rest = rest.into_iter().flatten().next();
    // systemd expands `%` in these definitions, and would split or strip the others.
    let is_plain = |c: char| c.is_ascii_graphic() && !"%?#\"'\\@".contains(c);
    let is_address = |rest: &str| !rest.starts_with('/') && rest.chars().all(is_plain);
    if !rest.is_some_and(|rest| !rest.is_empty() && is_address(rest)) {
        let problem = format!("`{url}` is no address of a folder: write https://HOST/PATH");
        return Err(RecipeError::at(text, find_value(text, url), problem));
    }
    let verify = table + find_key(&text[table..], "verify");
    match (&update.keyring, update.verify) {
        (Some(_), false) => {
            let problem = "`keyring` says who signs updates, and `verify = false` that nobody asks";
            Err(RecipeError::at(text, verify, problem).hint("leave one of them out"))
        }
        (None, true) => {
            let problem = "[update] names no `keyring`: nobody could say which updates are good";
            let hint = "export the public key that signs SHA256SUMS (gpg --export FINGERPRINT) \
                        beside the recipe, and name the file here";
            Err(RecipeError::at(text, table, problem).hint(hint))
        }
        (Some(_), true) if recipe.files.iter().any(|file| file.path == KEYRING) => {
            let problem = format!("{KEYRING} is given twice: `keyring` makes it");
            Err(RecipeError::at(text, find_value(text, KEYRING), problem))
        }
        (Some(source), true) if leaves(source) => {
            let problem = format!("keyring `{source}` lies outside the recipe's folder");
            Err(RecipeError::at(text, find_value(text, source), problem))
        }
        _ => Ok(()),
    }
}

/// True for a path that leads out of the recipe's folder.
pub(super) fn leaves(source: &str) -> bool {
    source.starts_with('/') || source.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"tiny\"\nversion = \"1.0.0\"\n[debian]\nsuite = \"trixie\"\n\
        packages = [\"systemd\"]\n[kernel]\npackage = \"linux-image-cloud-amd64\"\n";

    fn parse(tables: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(&format!("{GOOD}{tables}"))
    }

    #[test]
    fn an_update_says_from_where_and_by_whom() {
        let table = "[disk]\nslots = 2\n[update]\nurl = \"https://u.example/r/\"\n";
        let recipe = parse(&format!("{table}keyring = \"files/k.gpg\"\n")).unwrap();
        let update = recipe.update.as_ref().unwrap();
        assert_eq!(update.folder("tiny"), "https://u.example/r/sysupdate/tiny");
        let file = update.keyring_file().unwrap();
        assert_eq!((file.path.as_str(), file.mode.0), (KEYRING, 0o644));
        assert!(recipe.all_files().any(|file| file.path == KEYRING));
        let open = parse(&format!("{table}verify = false\n")).unwrap();
        assert_eq!(open.all_files().count(), 0);
        // A recipe without the table keeps its digest.
        let plain = parse("[disk]\nslots = 2\n").unwrap();
        assert!(!serde_json::to_string(&plain).unwrap().contains("update"));
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        let key = "keyring = \"k\"\n";
        let rows = [
            (
                format!("[update]\nurl = \"https://h/\"\n{key}"),
                8,
                "slots = 2",
            ),
            (
                "[disk]\nslots = 2\n[update]\nurl = \"https://h/\"\n".to_owned(),
                10,
                "no `keyring`",
            ),
            (
                format!("[disk]\nslots = 2\n[update]\nurl = \"https://h/\"\n{key}verify = false\n"),
                13,
                "nobody asks",
            ),
            (
                "[disk]\nslots = 2\n[update]\nurl = \"https://h/\"\nkeyring = \"../k\"\n"
                    .to_owned(),
                12,
                "outside",
            ),
            (
                format!(
                    "[disk]\nslots = 2\n[update]\nurl = \"https://h/\"\n{key}[[file]]\npath = \"{KEYRING}\"\ncontent = \"\"\n"
                ),
                14,
                "given twice",
            ),
            (
                "[disk]\nslots = 2\n[update]\nkeyring = \"k\"\n".to_owned(),
                10,
                "`url` is missing",
            ),
            (
                "[disk]\nslots = 2\n[update]\nurls = \"x\"\n".to_owned(),
                11,
                "unknown key `urls`",
            ),
        ];
        for (tables, line, words) in rows {
            let error = parse(&tables).unwrap_err();
            assert!(error.problem.contains(words), "{error}");
            assert_eq!(error.line, line, "{error}");
        }
        for url in [
            "ftp://h/",
            "https://",
            "https:///x",
            "http://h/%A",
            "https://h/a b",
            "https://me:secret@h/",
        ] {
            let error = parse(&format!(
                "[disk]\nslots = 2\n[update]\nurl = \"{url}\"\n{key}"
            ));
            let error = error.unwrap_err();
            assert!(error.problem.contains("no address"), "{error}");
            assert_eq!((error.line, error.column), (11, 7), "{error}");
        }
    }
}
