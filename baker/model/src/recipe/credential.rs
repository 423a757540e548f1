//! `[[credential]]`: what a machine is told when it is started, rather than when it is baked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::accounts::is_account;
use super::parse::find_value;
use super::{Recipe, RecipeError};

/// Name of the credential with the SSH keys of a user, before the user's name. systemd has the
/// one of root (`systemd.system-credentials(7)`); the others follow it.
pub const SSH_KEYS: &str = "ssh.authorized_keys.";

/// One credential that the image makes use of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Credential {
    /// Its name, as the machine is given it.
    pub name: String,
    /// The unit that gets it, below `$CREDENTIALS_DIRECTORY`; none for those that systemd itself
    /// takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// True when the unit must not start without it.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub required: bool,
    /// What it is for, for whoever has to provide it.
    pub purpose: String,
}

impl Credential {
    /// The user whose SSH keys it brings.
    #[must_use]
    pub fn ssh_user(&self) -> Option<&str> {
        self.name.strip_prefix(SSH_KEYS)
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

impl Recipe {
    /// The required credentials that are not among `given`.
    pub fn missing_credentials<'a>(
        &'a self,
        given: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Credential> {
        let needed = self.credentials.iter().filter(|it| it.required);
        needed.filter(move |credential| !given(&credential.name))
    }
}

/// Checks what TOML cannot.
pub(super) fn check(recipe: &Recipe, text: &str) -> Result<(), RecipeError> {
    for (place, credential) in recipe.credentials.iter().enumerate() {
        let name = &credential.name;
        let refuse =
            |value: &str, problem| Err(RecipeError::at(text, find_value(text, value), problem));
        if !is_name(name) {
            let problem =
                format!("`{name}` is no name of a credential: use letters, digits, . _ -");
            return refuse(name, problem);
        }
        let earlier = &recipe.credentials[..place];
        let same = |other: &Credential| other.name == *name && other.unit == credential.unit;
        if earlier.iter().any(same) {
            return refuse(name, format!("the credential `{name}` is given twice"));
        }
        if credential.purpose.trim().is_empty() {
            let problem = format!("the credential `{name}` has no purpose: say what it is for");
            return refuse(name, problem);
        }
        if let Some(unit) = credential.unit.as_ref().filter(|unit| !is_service(unit)) {
            let problem = format!("`{unit}` takes no credentials: name a *.service");
            return refuse(unit, problem);
        }
        if let Some(user) = credential.ssh_user() {
            let known = user == "root" || recipe.users.iter().any(|known| known.name == user);
            if !is_account(user) || !known {
                let problem = format!("`{name}` is for a user `{user}`, which the recipe has not");
                let error = RecipeError::at(text, find_value(text, name), problem);
                return Err(error.hint("add a [[user]], or write ssh.authorized_keys.root"));
            }
        }
    }
    check_tests(recipe, text)
}

/// What a unit must have, a test of it must give.
fn check_tests(recipe: &Recipe, text: &str) -> Result<(), RecipeError> {
    for test in &recipe.tests {
        let given = |name: &str| test.credentials.iter().any(|given| given.name == name);
        if let Some(missing) = recipe.missing_credentials(given).next() {
            let title = test.title();
            let at = text.find("[[test]]").unwrap_or(0);
            let problem = format!(
                "the test `{title}` gives no credential `{}` ({}), which is required",
                missing.name, missing.purpose
            );
            let error = RecipeError::at(text, at, problem);
            return Err(error.hint("add [[test.credential]], or say `required = false`"));
        }
    }
    Ok(())
}

/// What systemd takes for the name of a credential: a file name without a colon.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    (1..=255).contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}

fn is_service(unit: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    unit.len() > ".service".len() && unit.ends_with(".service") && unit.chars().all(plain)
}
