//! Relations between packages: `a (>= 1) | b:any, c`.

use std::cmp::Ordering;
use std::fmt;

use baker_model::version;

/// How a version must compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `<<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`
    Equal,
    /// `>=`
    GreaterOrEqual,
    /// `>>`
    Greater,
}

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<<" => Self::Less,
            // A lone `<` or `>` is the obsolete spelling of `<=` and `>=` (Debian policy 7.1).
            "<=" | "<" => Self::LessOrEqual,
            "=" | "==" => Self::Equal,
            ">=" | ">" => Self::GreaterOrEqual,
            ">>" => Self::Greater,
            _ => return None,
        })
    }

    fn text(self) -> &'static str {
        match self {
            Self::Less => "<<",
            Self::LessOrEqual => "<=",
            Self::Equal => "=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">>",
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order == Ordering::Less,
            Self::LessOrEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::GreaterOrEqual => order != Ordering::Less,
            Self::Greater => order == Ordering::Greater,
        }
    }
}

/// One name with its conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relation<'a> {
    /// Package or virtual package.
    pub name: &'a str,
    /// What stands after a colon: `any`, `native` or an architecture.
    pub qualifier: Option<&'a str>,
    /// The version condition.
    pub version: Option<(Operator, &'a str)>,
}

impl Relation<'_> {
    /// True when a package of this version, or an entry of Provides with this version, meets the
    /// version condition. An entry of Provides without a version never meets one (policy 7.5).
    #[must_use]
    pub fn accepts(&self, version: Option<&str>) -> bool {
        match (self.version, version) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some((operator, wanted)), Some(found)) => {
                operator.holds(version::compare(found, wanted))
            }
        }
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = self.version {
            write!(f, " ({} {version})", operator.text())?;
        }
        Ok(())
    }
}

/// The alternatives of one `a | b | c`, with their text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternatives<'a> {
    /// As written.
    pub text: &'a str,
    /// In the order of preference.
    pub relations: Vec<Relation<'a>>,
}

/// A relation that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no relation between packages")]
pub struct RelationError {
    /// The part at fault.
    pub text: String,
}

/// Reads the value of Depends, Conflicts, Provides and the like.
///
/// # Errors
/// Something that is no relation.
pub fn parse(field: &str) -> Result<Vec<Alternatives<'_>>, RelationError> {
    let parts = field
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts
        .map(|text| {
            let relations = text.split('|').map(parse_one).collect::<Result<_, _>>()?;
            Ok(Alternatives { text, relations })
        })
        .collect()
}

fn parse_one(text: &str) -> Result<Relation<'_>, RelationError> {
    let text = text.trim();
    let refuse = || RelationError {
        text: text.to_owned(),
    };
    let name_end = text
        .find([' ', '(', '\t', '\n', '[', '<'])
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    let (name, qualifier) = name
        .split_once(':')
        .map_or((name, None), |(n, q)| (n, Some(q)));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(refuse());
    }
    let rest = rest.trim();
    if rest.is_empty() {
        return Ok(Relation {
            name,
            qualifier,
            version: None,
        });
    }
    let inner = rest
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .ok_or_else(refuse)?;
    let inner = inner.trim();
    let end = inner.find(|c| !"<>=".contains(c)).unwrap_or(inner.len());
    let operator = Operator::parse(&inner[..end]).ok_or_else(refuse)?;
    let version = inner[end..].trim();
    if version.is_empty() || version.contains(char::is_whitespace) {
        return Err(refuse());
    }
    Ok(Relation {
        name,
        qualifier,
        version: Some((operator, version)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_debian_writes() {
        let parsed = parse("libc6 (>= 2.38), python3:any | b(<<1), x (= 1:2-3) ,").unwrap();
        let texts: Vec<_> = parsed.iter().map(|group| group.relations.len()).collect();
        assert_eq!(texts, [1, 2, 1]);
        assert_eq!(parsed[1].relations[0].qualifier, Some("any"));
        assert_eq!(parsed[1].relations[1].to_string(), "b (<< 1)");
        assert_eq!(parsed[2].text, "x (= 1:2-3)");
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn refuses_what_is_no_relation() {
        for text in [
            "a (1)",
            "a (>= )",
            "a b",
            "(>= 1)",
            "a | ",
            "a (>= 1",
            "a (>= 1 2)",
            "a<!x>",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn versions_are_accepted_by_the_operator() {
        let rows = [
            ("a (<< 2)", "1", true),
            ("a (<< 2)", "2", false),
            ("a (<= 2)", "2", true),
            ("a (= 2)", "2", true),
            ("a (= 2)", "2-1", false),
            ("a (>= 2)", "2~", false),
            ("a (>> 2)", "2+b1", true),
        ];
        for (relation, version, expected) in rows {
            let parsed = parse(relation).unwrap();
            assert_eq!(
                parsed[0].relations[0].accepts(Some(version)),
                expected,
                "{relation}"
            );
            assert!(!parsed[0].relations[0].accepts(None), "{relation}");
        }
    }
}
