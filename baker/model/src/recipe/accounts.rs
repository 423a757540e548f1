//! `[[group]]` and `[[user]]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parse::{find_key, find_value};
use super::update::leaves;
use super::{FileEntry, Recipe, RecipeError};

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
    /// SSH public keys that log in as this user, each as in a file `authorized_keys`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorized_keys: Vec<String>,
    /// A file of such keys beside the recipe; either this or `authorized-keys`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorized_keys_file: Option<String>,
}

/// Folder of the keys that are part of the image, a file for each user. Home directories may be
/// on a file system that is empty when the machine starts.
pub const AUTHORIZED_KEYS: &str = "/etc/ssh/authorized_keys.d";

impl User {
    /// The user's keys as a file of the image.
    #[must_use]
    pub fn keys_file(&self) -> Option<FileEntry> {
        let path = format!("{AUTHORIZED_KEYS}/{}", self.name);
        match (&self.authorized_keys_file, self.authorized_keys.as_slice()) {
            (Some(source), _) => Some(FileEntry::local(&path, source.clone())),
            (None, []) => None,
            (None, keys) => Some(FileEntry::text(&path, keys.join("\n") + "\n")),
        }
    }
}

/// Checks what TOML cannot.
pub(super) fn check(recipe: &Recipe, text: &str) -> Result<(), RecipeError> {
    for user in &recipe.users {
        let refuse = |value: &str, problem: String| {
            Err(RecipeError::at(text, find_value(text, value), problem))
        };
        if !is_account(&user.name) {
            let problem = format!(
                "`{}` is no user name: use a-z, 0-9, - and _, at most 31 characters",
                user.name
            );
            return refuse(&user.name, problem);
        }
        match &user.authorized_keys_file {
            Some(_) if !user.authorized_keys.is_empty() => {
                let problem = "`authorized-keys` and `authorized-keys-file` say the same: keep one";
                let at = find_key(text, "authorized-keys-file");
                return Err(RecipeError::at(text, at, problem));
            }
            Some(source) if leaves(source) => {
                let problem = format!("keys `{source}` lie outside the recipe's folder");
                return refuse(source, problem);
            }
            _ => {}
        }
        if let Some(key) = user.authorized_keys.iter().find(|key| !is_public_key(key)) {
            let start: String = key.chars().take(20).collect();
            let problem = format!("`{start}...` is no SSH public key");
            let error = RecipeError::at(text, find_value(text, key), problem);
            return Err(error.hint("paste one line of a file *.pub: ssh-ed25519 AAAA... comment"));
        }
    }
    Ok(())
}

/// What `useradd` takes: a letter or `_`, then letters, digits, `-` and `_`.
pub(super) fn is_account(name: &str) -> bool {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    let plain = |c: char| first(c) || c.is_ascii_digit() || c == '-';
    (1..=31).contains(&name.len()) && name.starts_with(first) && name.chars().all(plain)
}

/// One line with a known type and the base64 text that belongs to it; options may come before.
fn is_public_key(line: &str) -> bool {
    const KINDS: [&str; 4] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];
    let words: Vec<&str> = line.split(' ').collect();
    let is_kind = |word: &str| KINDS.iter().any(|kind| word.starts_with(kind));
    let is_pair = |pair: &[&str]| is_kind(pair[0]) && pair[1].starts_with("AAAA");
    !line.contains('\n') && words.windows(2).any(is_pair)
}

fn no_home() -> String {
    "/nonexistent".to_owned()
}

fn no_login() -> String {
    "/usr/sbin/nologin".to_owned()
}
