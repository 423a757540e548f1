//! `[debian]`: packages, where they come from, and what happens with their scripts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RecipeError, find_value};

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
    /// Answers to the questions that packages ask when they are installed.
    #[serde(default, rename = "preseed", skip_serializing_if = "Vec::is_empty")]
    pub preseeds: Vec<Preseed>,
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
    /// All run, as dpkg runs them, in a sandbox without a network.
    Sandbox,
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

/// `[[debian.preseed]]`: an answer to a question of a package (debconf), given before it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Preseed {
    /// Package that asks.
    pub package: String,
    /// Name of the question, such as `tzdata/Areas`.
    pub question: String,
    /// Type of the question: `string`, `boolean`, `select`, `multiselect` ...
    #[serde(rename = "type")]
    pub kind: String,
    /// The answer.
    pub value: String,
}

impl Preseed {
    /// The line for `debconf-set-selections`.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            package,
            question,
            kind,
            value,
        } = self;
        format!("{package} {question} {kind} {value}\n")
    }
}

/// What only one of the two ways to treat scripts can do.
pub(super) fn check(debian: &Debian, text: &str) -> Result<(), RecipeError> {
    let sandboxed = debian.scripts == Scripts::Sandbox;
    if let (true, Some(waive)) = (sandboxed, debian.waived.first()) {
        let at = find_value(text, &waive.package);
        let problem = "there is nothing to waive: with scripts = \"sandbox\" every script runs";
        let hint = "remove the [[debian.waive]] tables";
        return Err(RecipeError::at(text, at, problem.to_owned()).hint(hint.to_owned()));
    }
    let Some(first) = debian.preseeds.first() else {
        return Ok(());
    };
    if !sandboxed {
        let at = find_value(text, &first.question);
        let problem = "nobody asks: without scripts = \"sandbox\" no script runs";
        let hint =
            "write scripts = \"sandbox\" in [debian], or remove the [[debian.preseed]] tables";
        return Err(RecipeError::at(text, at, problem.to_owned()).hint(hint.to_owned()));
    }
    for preseed in &debian.preseeds {
        let words = [&preseed.package, &preseed.question, &preseed.kind];
        let is_word = |word: &&String| !word.is_empty() && !word.contains(char::is_whitespace);
        if !words.iter().all(is_word) || preseed.value.contains('\n') {
            let at = find_value(text, &preseed.question);
            let problem = "package, question and type are one word each, and the value is one line";
            return Err(RecipeError::at(text, at, problem.to_owned()));
        }
    }
    Ok(())
}
