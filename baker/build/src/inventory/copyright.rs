//! Licences out of `debian/copyright`, as far as it is machine-readable
//! (<https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>, "DEP-5").

use std::collections::BTreeMap;

use baker_model::Digest;

use super::licence::{self, Licence};
use crate::assemble::control::Paragraph;

/// The longest text of a licence that is taken over, bytes.
const TEXT_LIMIT: usize = 256 * 1024;

/// What a copyright file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Licensing {
    /// An SPDX licence expression of all that applies to some file of the source; none when the
    /// file is missing.
    pub expression: Option<String>,
    /// Licences that SPDX has no name for: id (`LicenseRef-...`) to name and text.
    pub others: BTreeMap<String, (String, String)>,
}

impl Licensing {
    /// Reads the text of a copyright file.
    #[must_use]
    pub fn of(copyright: Option<&str>) -> Self {
        let text = copyright.unwrap_or_default();
        let stanzas = stanzas(text);
        let is_format = |stanza: &Paragraph| {
            let format = stanza.get("Format").unwrap_or_default();
            ["copyright-format", "dep5", "dep-5", "DEP-5"]
                .iter()
                .any(|word| format.contains(word))
        };
        if !stanzas.first().is_some_and(is_format) {
            return Self::in_words(text);
        }
        let texts = texts(&stanzas);
        // The header's licence is of the package as a whole; stanzas with files are of those.
        let synopses = stanzas
            .iter()
            .enumerate()
            .filter(|(index, stanza)| *index == 0 || stanza.get("Files").is_some())
            .filter_map(|(_, stanza)| synopsis(stanza));
        let mut others = BTreeMap::new();
        let expressions: Vec<String> = synopses
            .map(|synopsis| {
                licence::expression(synopsis, &mut |name| {
                    let text = texts.get(name).map_or("", String::as_str);
                    other(name, text, &mut others)
                })
            })
            .collect();
        Self {
            expression: licence::all_of(&expressions),
            others,
        }
    }

    /// A file for people only: its whole text is the licence, and has no other name.
    fn in_words(text: &str) -> Self {
        if text.trim().is_empty() {
            return Self::default();
        }
        let mut others = BTreeMap::new();
        let Licence(id) = other("copyright", text, &mut others);
        Self {
            expression: Some(id),
            others,
        }
    }
}

/// Two licences of one name and different texts, such as the many kinds of BSD, stay two.
fn other(name: &str, text: &str, others: &mut BTreeMap<String, (String, String)>) -> Licence {
    let text = match text.trim() {
        "" => format!("the copyright file names the licence `{name}` and gives no text of it"),
        text => text.chars().take(TEXT_LIMIT).collect(),
    };
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
            c
        } else {
            '-'
        }
    };
    let word: String = name.chars().map(plain).collect();
    let digest = Digest::of(text.as_bytes()).to_string();
    let id = format!(
        "LicenseRef-Debian-{}-{}",
        word.trim_matches('-'),
        &digest[..8]
    );
    others.insert(id.clone(), (name.to_owned(), text));
    Licence(id)
}

/// The paragraphs; one that cannot be read ends nothing.
fn stanzas(text: &str) -> Vec<Paragraph> {
    let mut stanzas = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().chain([""]) {
        if !line.trim().is_empty() {
            // Comments may stand anywhere.
            lines.extend((!line.starts_with('#')).then_some(line));
        } else if !lines.is_empty() {
            stanzas.extend(Paragraph::parse(&lines.join("\n")).ok());
            lines.clear();
        }
    }
    stanzas
}

/// The first line of `License`: names only.
fn synopsis(stanza: &Paragraph) -> Option<&str> {
    let line = stanza.get("License")?.lines().next()?.trim();
    (!line.is_empty()).then_some(line)
}

/// The texts of licences by name; a name in a stanza of its own beats one beside files.
fn texts(stanzas: &[Paragraph]) -> BTreeMap<&str, String> {
    let mut texts: BTreeMap<&str, String> = BTreeMap::new();
    for alone in [true, false] {
        for stanza in stanzas.iter().filter(|s| s.get("Files").is_none() == alone) {
            let Some(name) = synopsis(stanza) else {
                continue;
            };
            let lines = stanza.get("License").unwrap_or_default().lines().skip(1);
            let text: Vec<&str> = lines
                .map(|line| match line.trim() {
                    "." => "",
                    _ => line.strip_prefix(' ').unwrap_or(line),
                })
                .collect();
            if !text.is_empty() {
                texts.entry(name).or_insert_with(|| text.join("\n"));
            }
        }
    }
    texts
}
