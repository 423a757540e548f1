//! Control files: one paragraph of fields (deb822(5)), and the relations inside them.

use std::cmp::Ordering;

use baker_model::version;

/// The fields of one paragraph, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph {
    fields: Vec<(String, String)>,
}

/// The text is no paragraph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParagraphError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: &'static str,
}

impl Paragraph {
    /// Parses exactly one paragraph; blank lines may only stand at the end.
    ///
    /// # Errors
    /// A line is neither a field nor a continuation, a field comes twice, or a second paragraph
    /// follows.
    pub fn parse(text: &str) -> Result<Self, ParagraphError> {
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut ended = false;
        for (index, line) in text.lines().enumerate() {
            let fail = |problem| ParagraphError {
                line: index + 1,
                problem,
            };
            let line = line.trim_end();
            if line.is_empty() {
                ended = true;
            } else if ended {
                return Err(fail("a second paragraph begins"));
            } else if line.starts_with([' ', '\t']) {
                let (_, value) = fields
                    .last_mut()
                    .ok_or_else(|| fail("a continuation without a field"))?;
                value.push('\n');
                value.push_str(line);
            } else {
                let (name, value) = line
                    .split_once(':')
                    .ok_or_else(|| fail("no colon after the field name"))?;
                if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(fail("a field name holds a blank or is empty"));
                }
                if fields
                    .iter()
                    .any(|(known, _)| known.eq_ignore_ascii_case(name))
                {
                    return Err(fail("a field comes twice"));
                }
                fields.push((name.to_owned(), value.trim_start().to_owned()));
            }
        }
        Ok(Self { fields })
    }

    /// The value of a field, continuation lines included with their leading blank; names are
    /// compared without regard to case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All fields in the order of the file.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// True when this package's `Replaces` names that package at that version, which allows it to
    /// take over the other's files. Virtual names do not count here (as in dpkg's `does_replace`).
    #[must_use]
    pub fn replaces(&self, name: &str, version: &str) -> bool {
        let relations = self.get("Replaces").unwrap_or_default();
        relations
            .split(',')
            .filter_map(Relation::parse)
            .any(|relation| {
                relation.name == name
                    && relation.constraint.is_none_or(|(operator, wanted)| {
                        operator.holds(version::compare(version, wanted))
                    })
            })
    }
}

/// `name[:architecture] [(operator version)]`.
struct Relation<'a> {
    name: &'a str,
    constraint: Option<(Operator, &'a str)>,
}

impl<'a> Relation<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (name, constraint) = match text.split_once('(') {
            Some((name, rest)) => (name, Some(rest.split_once(')')?.0.trim())),
            None => (text, None),
        };
        let name = name.trim();
        let name = name.split_once(':').map_or(name, |(name, _)| name);
        let constraint = match constraint {
            Some(text) => Some(Operator::split(text)?),
            None => None,
        };
        (!name.is_empty()).then_some(Self { name, constraint })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Earlier,
    EarlierOrEqual,
    Equal,
    LaterOrEqual,
    Later,
}

impl Operator {
    /// `<` and `>` are the long obsolete spellings of `<=` and `>=` (Debian policy 7.1).
    fn split(text: &str) -> Option<(Self, &str)> {
        let table = [
            ("<<", Self::Earlier),
            ("<=", Self::EarlierOrEqual),
            (">>", Self::Later),
            (">=", Self::LaterOrEqual),
            ("=", Self::Equal),
            ("<", Self::EarlierOrEqual),
            (">", Self::LaterOrEqual),
        ];
        table
            .iter()
            .find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?.trim())))
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order.is_lt(),
            Self::EarlierOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::LaterOrEqual => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_continuations_are_kept() {
        let text = "Package: a\nDescription: one\n two\n .\n three\nreplaces: b\n\n";
        let paragraph = Paragraph::parse(text).unwrap();
        assert_eq!(paragraph.get("package"), Some("a"));
        assert_eq!(paragraph.get("Description"), Some("one\n two\n .\n three"));
        assert!(paragraph.replaces("b", "1"));
        let rows = [
            (" x\n", "without a field"),
            ("Package\n", "no colon"),
            ("a: 1\nA: 2\n", "comes twice"),
            ("a: 1\n\nb: 2\n", "second paragraph"),
        ];
        for (text, words) in rows {
            let error = Paragraph::parse(text).unwrap_err();
            assert!(error.problem.contains(words), "{error}");
        }
    }

    #[test]
    fn replaces_minds_versions() {
        let text = "Package: a\nReplaces: b (<< 2.0~), c:any (>= 1),\n d, e (= 1-1), f (< 3)\n";
        let paragraph = Paragraph::parse(text).unwrap();
        let rows = [
            ("b", "1.9", true),
            ("b", "2.0", false),
            ("c", "1", true),
            ("c", "0.9", false),
            ("d", "7", true),
            ("e", "1-1", true),
            ("e", "1-2", false),
            ("f", "3", true),
            ("g", "1", false),
        ];
        for (name, version, expected) in rows {
            assert_eq!(
                paragraph.replaces(name, version),
                expected,
                "{name} {version}"
            );
        }
    }
}
