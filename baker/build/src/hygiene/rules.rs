//! The rules by which secrets are known: those of gitleaks, as data.
//!
//! A rule is looked at only where one of its keywords stands, and compiled when that first
//! happens. Its global list of paths to leave out is not obeyed: that is about source trees, where
//! a path that ends in `bin` is not worth a look.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

/// The rule set, as findings name it.
pub const RULE_SET: &str = "gitleaks 8.16.0";

/// The rules: MIT licence, see `hygiene/LICENSE.gitleaks`.
const TEXT: &str = include_str!("../../hygiene/gitleaks.toml");

/// The rules, and the keywords that lead to them.
pub(super) struct Rules {
    rules: Vec<Rule>,
    keywords: AhoCorasick,
    /// The rule of each keyword.
    owners: Vec<usize>,
}

/// One rule.
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) description: String,
    source: String,
    regex: OnceLock<Option<Regex>>,
    group: usize,
    entropy: f64,
    stop_words: Vec<String>,
}

/// The rule set cannot be used; a fault of the build, which a test would have shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// It is not the TOML that it should be.
    #[error("cannot read the rules of {RULE_SET}: {problem}")]
    Syntax {
        /// What is wrong.
        problem: String,
    },
    /// A rule is no regular expression.
    #[error("cannot compile the rule `{id}` of {RULE_SET}")]
    Rule {
        /// The rule.
        id: String,
    },
}

#[derive(Deserialize)]
struct File {
    rules: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: String,
    description: String,
    regex: String,
    #[serde(default)]
    secret_group: usize,
    #[serde(default)]
    entropy: f64,
    keywords: Vec<String>,
    #[serde(default)]
    allowlist: Allowed,
}

#[derive(Default, Deserialize)]
struct Allowed {
    #[serde(default)]
    stopwords: Vec<String>,
}

impl Rules {
    /// The rules, read once.
    pub(super) fn get() -> Result<&'static Self, RulesError> {
        static RULES: OnceLock<Result<Rules, RulesError>> = OnceLock::new();
        RULES
            .get_or_init(|| Self::parse(TEXT))
            .as_ref()
            .map_err(Clone::clone)
    }

    fn parse(text: &str) -> Result<Self, RulesError> {
        let problem = |problem: String| RulesError::Syntax { problem };
        let file: File = toml::from_str(text).map_err(|error| problem(error.to_string()))?;
        let (mut rules, mut keywords, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for (index, entry) in file.rules.into_iter().enumerate() {
            owners.extend(entry.keywords.iter().map(|_| index));
            keywords.extend(entry.keywords);
            rules.push(Rule {
                id: entry.id.replace(' ', "-"),
                description: entry.description,
                source: entry.regex,
                regex: OnceLock::new(),
                group: entry.secret_group,
                entropy: entry.entropy,
                stop_words: entry.allowlist.stopwords,
            });
        }
        let keywords = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(&keywords)
            .map_err(|error| problem(error.to_string()))?;
        Ok(Self {
            rules,
            keywords,
            owners,
        })
    }

    /// The rules whose keywords stand in `text`.
    pub(super) fn called_by(&self, text: &[u8]) -> Vec<&Rule> {
        let mut called = vec![false; self.rules.len()];
        for found in self.keywords.find_overlapping_iter(text) {
            called[self.owners[found.pattern().as_usize()]] = true;
        }
        let rules = self.rules.iter().zip(called);
        rules
            .filter_map(|(rule, called)| called.then_some(rule))
            .collect()
    }
}

impl Rule {
    /// Where in `text` the rule finds a secret.
    pub(super) fn find<'a>(
        &'a self,
        text: &'a [u8],
    ) -> Result<impl Iterator<Item = usize> + 'a, RulesError> {
        let regex = self.regex.get_or_init(|| compile(&self.source));
        let regex = regex.as_ref().ok_or_else(|| RulesError::Rule {
            id: self.id.clone(),
        })?;
        let found = regex.captures_iter(text);
        Ok(found.filter_map(|captures| {
            let secret = captures.get(self.group).or_else(|| captures.get(0))?;
            self.is_secret(secret.as_bytes()).then_some(secret.start())
        }))
    }

    /// What gitleaks itself asks of a match before it believes it.
    fn is_secret(&self, secret: &[u8]) -> bool {
        if self.entropy > 0.0 && entropy(secret) <= self.entropy {
            return false;
        }
        // Its own exception: what looks generic and has no digit is a word of the program.
        if self.id.starts_with("generic") && !secret.iter().any(u8::is_ascii_digit) {
            return false;
        }
        let text = String::from_utf8_lossy(secret).to_ascii_lowercase();
        !self
            .stop_words
            .iter()
            .any(|word| text.contains(word.as_str()))
    }
}

/// The rules are bytes and ASCII: matching them as Unicode would only be slower.
fn compile(source: &str) -> Option<Regex> {
    RegexBuilder::new(source).unicode(false).build().ok()
}

/// Shannon's entropy of the bytes, bits per byte.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let total = bytes.len() as f64;
    let counts = counts.iter().filter(|count| **count > 0);
    -counts
        .map(|count| {
            let share = f64::from(*count) / total;
            share * share.log2()
        })
        .sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_set_compiles() {
        let rules = Rules::get().unwrap();
        assert!(rules.rules.len() > 140, "{}", rules.rules.len());
        for rule in &rules.rules {
            assert!(compile(&rule.source).is_some(), "{}", rule.id);
        }
    }

    #[test]
    fn entropy_is_shannons() {
        assert!(entropy(b"aaaa").abs() < 1e-9);
        assert!((entropy(b"abcd") - 2.0).abs() < 1e-9);
    }
}
