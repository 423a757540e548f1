//! Package indexes: a stream of stanzas becomes records with only the fields that are needed.

use std::io::{self, BufRead};

use baker_model::Digest;

/// One package of an index.
///
/// Relations stay text: of tens of thousands of packages only a few hundred are ever looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Package name.
    pub name: Box<str>,
    /// Version.
    pub version: Box<str>,
    /// Architecture, `all` included.
    pub architecture: Box<str>,
    /// `Pre-Depends`.
    pub pre_depends: Box<str>,
    /// `Depends`.
    pub depends: Box<str>,
    /// `Recommends`.
    pub recommends: Box<str>,
    /// `Provides`.
    pub provides: Box<str>,
    /// `Conflicts`.
    pub conflicts: Box<str>,
    /// `Breaks`.
    pub breaks: Box<str>,
    /// `Essential: yes`.
    pub essential: bool,
    /// `Multi-Arch: allowed`.
    pub multi_arch_allowed: bool,
    /// `Priority`, 1 (required) to 6 (unknown); lower is taken first among equals.
    pub priority: u8,
    /// Path below the archive root.
    pub path: Box<str>,
    /// Size in bytes.
    pub size: u64,
    /// Digest.
    pub sha256: Digest,
    /// Number of the suite that it comes from, set by the reader's caller.
    pub suite: u16,
}

/// An index cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The bytes cannot be had or decompressed.
    #[error("cannot read the package index")]
    Read(#[source] io::Error),
    /// A stanza lacks something or holds nonsense.
    #[error("line {line} of the package index: the stanza of `{package}` has no valid {field}")]
    Stanza {
        /// Line on which the stanza ends.
        line: u64,
        /// Name as far as known.
        package: String,
        /// The field at fault.
        field: &'static str,
    },
}

/// Fields taken, by place in [`Stanza::values`].
const FIELDS: [&str; 15] = [
    "Package",
    "Version",
    "Architecture",
    "Pre-Depends",
    "Depends",
    "Recommends",
    "Provides",
    "Conflicts",
    "Breaks",
    "Essential",
    "Multi-Arch",
    "Priority",
    "Filename",
    "Size",
    "SHA256",
];

#[derive(Default)]
struct Stanza {
    values: [String; FIELDS.len()],
    current: Option<usize>,
    line: u64,
}

/// Reads all stanzas of an index; memory used besides the records is one line and one stanza.
///
/// # Errors
/// The bytes cannot be read, or a stanza lacks a field that every package has.
pub fn read(mut index: impl BufRead, suite: u16) -> Result<Vec<Record>, IndexError> {
    let mut records = Vec::new();
    let mut stanza = Stanza::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = index
            .read_until(b'\n', &mut line)
            .map_err(IndexError::Read)?;
        let text = line.trim_ascii_end();
        if text.is_empty() {
            if !stanza.values[0].is_empty() || stanza.current.is_some() {
                records.push(stanza.finish(suite)?);
            }
            if length == 0 {
                return Ok(records);
            }
        } else {
            stanza.take(text)?;
        }
        stanza.line += 1;
    }
}

impl Stanza {
    fn take(&mut self, line: &[u8]) -> Result<(), IndexError> {
        let (place, value) = if matches!(line[0], b' ' | b'\t') {
            let Some(place) = self.current else {
                return Ok(());
            };
            self.values[place].push(' ');
            (place, line)
        } else {
            let colon = line
                .iter()
                .position(|byte| *byte == b':')
                .unwrap_or(line.len());
            self.current = place_of(&line[..colon]);
            let Some(place) = self.current else {
                return Ok(());
            };
            self.values[place].clear();
            (place, line.get(colon + 1..).unwrap_or_default())
        };
        let text =
            std::str::from_utf8(value.trim_ascii()).map_err(|_| self.lacks(FIELDS[place]))?;
        self.values[place].push_str(text);
        Ok(())
    }

    fn finish(&mut self, suite: u16) -> Result<Record, IndexError> {
        for place in [0, 1, 2, 12] {
            if self.values[place].is_empty() {
                return Err(self.lacks(FIELDS[place]));
            }
        }
        let size = self.values[13].parse().map_err(|_| self.lacks("Size"))?;
        let sha256 = self.values[14].parse().map_err(|_| self.lacks("SHA256"))?;
        let text = |place: usize| Box::from(self.values[place].as_str());
        let record = Record {
            name: text(0),
            version: text(1),
            architecture: text(2),
            pre_depends: text(3),
            depends: text(4),
            recommends: text(5),
            provides: text(6),
            conflicts: text(7),
            breaks: text(8),
            essential: self.values[9] == "yes",
            multi_arch_allowed: self.values[10] == "allowed",
            priority: priority(&self.values[11]),
            path: text(12),
            size,
            sha256,
            suite,
        };
        // A path that climbs could name a file of the mirror's host with a `file:` mirror.
        if record.path.starts_with('/') || record.path.split('/').any(|part| part == "..") {
            return Err(self.lacks("Filename"));
        }
        self.values.iter_mut().for_each(String::clear);
        self.current = None;
        Ok(record)
    }

    fn lacks(&self, field: &'static str) -> IndexError {
        IndexError::Stanza {
            line: self.line + 1,
            package: self.values[0].clone(),
            field,
        }
    }
}

/// Sorted by how often each occurs; most lines are of fields that are not taken.
fn place_of(name: &[u8]) -> Option<usize> {
    FIELDS
        .iter()
        .position(|field| field.len() == name.len() && field.as_bytes().eq_ignore_ascii_case(name))
}

fn priority(word: &str) -> u8 {
    match word {
        "required" => 1,
        "important" => 2,
        "standard" => 3,
        "optional" => 4,
        "extra" => 5,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "Package: a\nVersion: 1\nArchitecture: all\nDepends: b,\n c\nTag: x,\n y\n\
        Essential: yes\nMulti-Arch: allowed\nPriority: required\nFilename: pool/a.deb\nSize: 12\n\
        SHA256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";

    #[test]
    fn stanzas_become_records() {
        let text = format!(
            "\n{ONE}\n\n{}",
            ONE.replace("Depends: b,\n c\n", "").trim_end()
        );
        let records = read(text.as_bytes(), 3).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(&*records[0].depends, "b, c");
        assert!(records[0].essential && records[0].multi_arch_allowed);
        assert_eq!(
            (records[0].size, records[0].priority, records[0].suite),
            (12, 1, 3)
        );
        assert_eq!(
            &*records[1].depends, "",
            "nothing leaks from one stanza into the next"
        );
    }

    #[test]
    fn broken_stanzas_are_named() {
        let rows = [
            ("Version: 1\n", "", "Version"),
            ("Size: 12", "Size: many", "Size"),
            ("SHA256: ba78", "SHA256: zz78", "SHA256"),
            ("pool/a.deb", "pool/../../etc/shadow", "Filename"),
        ];
        for (from, to, wanted) in rows {
            let error = read(ONE.replace(from, to).as_bytes(), 0).unwrap_err();
            let IndexError::Stanza { package, field, .. } = error else {
                panic!("{error}")
            };
            assert_eq!((package.as_str(), field), ("a", wanted));
        }
    }
}
