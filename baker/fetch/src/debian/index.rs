//! Package indexes: a stream of stanzas becomes records with only the fields that are needed.

use std::io::{self, BufRead};

use super::records::{Records, Row, TEXTS};

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
    /// The fields that are kept do not fit into 4 GiB.
    #[error("the package index is larger than any that is known")]
    TooLarge,
}

/// Fields taken, by place in [`Stanza::values`]: first those that stay text. Whoever changes what is
/// taken of an index counts [`super::cache::VERSION`] up.
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
    "Filename",
    "Essential",
    "Multi-Arch",
    "Priority",
    "Size",
    "SHA256",
];

/// Place of the path among the fields.
const PATH: usize = 9;

#[derive(Default)]
struct Stanza {
    values: [String; FIELDS.len()],
    current: Option<usize>,
    line: u64,
}

/// Reads all stanzas of an index, whose packages get the number `suite`; memory used besides the
/// records is one line and one stanza.
///
/// # Errors
/// The bytes cannot be read, or a stanza lacks a field that every package has.
pub fn read(mut index: impl BufRead, suite: u16) -> Result<Records, IndexError> {
    let (mut text, mut rows) = (String::new(), Vec::new());
    let mut stanza = Stanza::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = index
            .read_until(b'\n', &mut line)
            .map_err(IndexError::Read)?;
        let trimmed = line.trim_ascii_end();
        if trimmed.is_empty() {
            if !stanza.values[0].is_empty() || stanza.current.is_some() {
                rows.push(stanza.finish(&mut text, suite)?);
            }
            if length == 0 {
                return Ok(Records::new(text, rows));
            }
        } else {
            stanza.take(trimmed)?;
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

    /// Puts the fields behind `text`; the row says where they lie.
    fn finish(&mut self, text: &mut String, suite: u16) -> Result<Row, IndexError> {
        for place in [0, 1, 2, PATH] {
            if self.values[place].is_empty() {
                return Err(self.lacks(FIELDS[place]));
            }
        }
        let size = self.values[13].parse().map_err(|_| self.lacks("Size"))?;
        let sha256 = self.values[14].parse().map_err(|_| self.lacks("SHA256"))?;
        // A path that climbs could name a file of the mirror's host with a `file:` mirror.
        let path = &self.values[PATH];
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(self.lacks("Filename"));
        }
        let end = |text: &str| u32::try_from(text.len()).map_err(|_| IndexError::TooLarge);
        let mut bounds = [end(text)?; TEXTS + 1];
        for (value, bound) in self.values.iter().zip(&mut bounds[1..]) {
            text.push_str(value);
            *bound = end(text)?;
        }
        let row = Row {
            bounds,
            size,
            sha256,
            priority: priority(&self.values[12]),
            essential: self.values[10] == "yes",
            multi_arch_allowed: self.values[11] == "allowed",
            suite,
            text: 0,
        };
        self.values.iter_mut().for_each(String::clear);
        self.current = None;
        Ok(row)
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
        let [first, second] = [0, 1].map(|place| records.get(place).unwrap());
        assert_eq!(
            (first.name, first.depends, first.path),
            ("a", "b, c", "pool/a.deb")
        );
        assert!(first.essential && first.multi_arch_allowed);
        assert_eq!((first.size, first.priority, first.suite), (12, 1, 3));
        assert_eq!(
            second.depends, "",
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
