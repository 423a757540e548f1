//! Patterns over paths: `*` within a name, `**` across names, `?`, `[a-z]`, `{a,b}`.

use baker_model::tree::TreePath;

/// One pattern of more alternatives than this is a mistake.
const ALTERNATIVES: usize = 1024;

/// A pattern over whole paths.
///
/// `*`, `?` and `[...]` never match a slash. `**` between slashes matches any number of names,
/// none included; at the end it matches everything below. `[!...]` matches what is not listed, and
/// a backslash takes the special meaning from the character after it. Names that begin with a dot
/// are nothing special.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    alternatives: Vec<Vec<Token>>,
}

/// The text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not absolute.
    #[error("a pattern begins with `/`")]
    Relative,
    /// `[` without `]`, or nothing between them.
    #[error("`[` is not closed by `]`, or empty")]
    Class,
    /// `{` without `}`.
    #[error("`{{` is not closed by `}}`")]
    Brace,
    /// A backslash at the end.
    #[error("the backslash at the end has nothing to act on")]
    Escape,
    /// More alternatives than anybody means.
    #[error("its braces make more than {ALTERNATIVES} alternatives")]
    Alternatives,
}

/// One step of a pattern; a state of the automaton lies before each token.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This byte.
    Byte(u8),
    /// One byte but no slash: in one of the ranges, or in none when `negated`.
    Class {
        negated: bool,
        ranges: Vec<(u8, u8)>,
    },
    /// Any bytes but no slash.
    Star,
    /// Any bytes.
    Across,
    /// At least one byte.
    Below,
    /// Nothing, or what the next token, [`Token::Names`], matches.
    MaybeNames,
    /// Any bytes that end in a slash.
    Names,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut expanded = Vec::new();
        expand(text.as_bytes(), &mut expanded)?;
        let alternatives = expanded
            .iter()
            .map(|text| tokens(text))
            .collect::<Result<_, _>>()?;
        Ok(Self { alternatives })
    }

    /// True when the pattern matches the whole path.
    #[must_use]
    pub fn matches(&self, path: &TreePath) -> bool {
        self.alternatives
            .iter()
            .any(|tokens| is_match(tokens, path.as_bytes()))
    }
}

/// Writes out the braces, the outer ones first.
fn expand(text: &[u8], expanded: &mut Vec<Vec<u8>>) -> Result<(), PatternError> {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'{' => {
                let (parts, end) = parts(text, at)?;
                for part in parts {
                    expand(&[&text[..at], part, &text[end..]].concat(), expanded)?;
                }
                return Ok(());
            }
            _ => {}
        }
        at += 1;
    }
    expanded.push(text.to_vec());
    if expanded.len() > ALTERNATIVES {
        Err(PatternError::Alternatives)
    } else {
        Ok(())
    }
}

/// The alternatives of the brace at `open`, and where the text goes on behind it.
fn parts(text: &[u8], open: usize) -> Result<(Vec<&[u8]>, usize), PatternError> {
    let (mut parts, mut start, mut depth, mut at) = (Vec::new(), open + 1, 0_u32, open);
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'{' => depth += 1,
            b',' if depth == 1 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            b'}' if depth == 1 => {
                parts.push(&text[start..at]);
                return Ok((parts, at + 1));
            }
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    Err(PatternError::Brace)
}

fn tokens(text: &[u8]) -> Result<Vec<Token>, PatternError> {
    let mut rest = text.strip_prefix(b"/").ok_or(PatternError::Relative)?;
    let mut tokens = Vec::new();
    let mut at_name = true;
    while let Some((&byte, after)) = rest.split_first() {
        let here = std::mem::replace(&mut at_name, byte == b'/');
        rest = match byte {
            b'*' if rest == b"**" && here => {
                tokens.push(Token::Below);
                &[]
            }
            b'*' if rest.starts_with(b"**/") && here => {
                tokens.extend([Token::MaybeNames, Token::Names]);
                at_name = true;
                &rest[3..]
            }
            b'*' if after.first() == Some(&b'*') => {
                tokens.push(Token::Across);
                &rest[2..]
            }
            b'*' => {
                tokens.push(Token::Star);
                after
            }
            b'?' => {
                tokens.push(Token::Class {
                    negated: true,
                    ranges: Vec::new(),
                });
                after
            }
            b'[' => {
                let (class, after) = class(after)?;
                tokens.push(class);
                after
            }
            b'\\' => {
                let (&byte, after) = after.split_first().ok_or(PatternError::Escape)?;
                tokens.push(Token::Byte(byte));
                after
            }
            _ => {
                tokens.push(Token::Byte(byte));
                after
            }
        };
    }
    Ok(tokens)
}

/// What follows a `[`: the class, and the text behind its `]`.
fn class(text: &[u8]) -> Result<(Token, &[u8]), PatternError> {
    let (negated, text) = match text.first() {
        Some(b'!' | b'^') => (true, &text[1..]),
        _ => (false, text),
    };
    // A `]` right at the beginning is a member.
    let end = text
        .iter()
        .skip(1)
        .position(|&byte| byte == b']')
        .ok_or(PatternError::Class)?
        + 1;
    let (members, mut ranges, mut at) = (&text[..end], Vec::new(), 0);
    while let Some(&first) = members.get(at) {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some(b'-'), Some(&last)) => {
                ranges.push((first, last));
                at += 3;
            }
            _ => {
                ranges.push((first, first));
                at += 1;
            }
        }
    }
    Ok((Token::Class { negated, ranges }, &text[end + 1..]))
}

/// Runs the automaton: all states at once, so no pattern can take long.
fn is_match(tokens: &[Token], path: &[u8]) -> bool {
    // Most patterns part from most paths in their first bytes.
    if !begins_alike(tokens, path) {
        return false;
    }
    let mut states = vec![false; tokens.len() + 1];
    reach(&mut states, tokens, 0);
    for &byte in path {
        let mut next = vec![false; tokens.len() + 1];
        for (state, token) in tokens
            .iter()
            .enumerate()
            .filter(|(state, _)| states[*state])
        {
            match token {
                Token::Byte(wanted) if *wanted == byte => reach(&mut next, tokens, state + 1),
                Token::Class { negated, ranges } if byte != b'/' => {
                    let listed = ranges
                        .iter()
                        .any(|(low, high)| (*low..=*high).contains(&byte));
                    if listed != *negated {
                        reach(&mut next, tokens, state + 1);
                    }
                }
                Token::Star if byte != b'/' => reach(&mut next, tokens, state),
                Token::Across => reach(&mut next, tokens, state),
                Token::Below => {
                    next[state] = true;
                    reach(&mut next, tokens, state + 1);
                }
                Token::Names => {
                    next[state] = true;
                    if byte == b'/' {
                        reach(&mut next, tokens, state + 1);
                    }
                }
                _ => {}
            }
        }
        states = next;
        if !states.contains(&true) {
            return false;
        }
    }
    states[tokens.len()]
}

/// Enters a state and all that need no further byte.
fn reach(states: &mut [bool], tokens: &[Token], state: usize) {
    states[state] = true;
    match tokens.get(state) {
        Some(Token::Star | Token::Across) => reach(states, tokens, state + 1),
        Some(Token::MaybeNames) => {
            states[state + 1] = true;
            reach(states, tokens, state + 2);
        }
        _ => {}
    }
}

/// False when a plain byte differs from the path before anything else stands in the pattern.
fn begins_alike(tokens: &[Token], path: &[u8]) -> bool {
    let verdict = tokens
        .iter()
        .zip(path)
        .find_map(|(token, byte)| match token {
            Token::Byte(wanted) if wanted == byte => None,
            Token::Byte(_) => Some(false),
            _ => Some(true),
        });
    verdict.unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_documented() {
        let rows = [
            ("/usr/share/doc/**", "/usr/share/doc/a/b", true),
            ("/usr/share/doc/**", "/usr/share/doc/a", true),
            ("/usr/share/doc/**", "/usr/share/doc", false),
            ("/usr/share/doc/**", "/usr/share/docs/a", false),
            ("/usr/share/doc/*", "/usr/share/doc/a", true),
            ("/usr/share/doc/*", "/usr/share/doc/a/b", false),
            ("/usr/{doc,man,x{1,2}}/**", "/usr/man/a", true),
            ("/usr/{doc,man,x{1,2}}/**", "/usr/x2/a", true),
            ("/usr/{doc,man,x{1,2}}/**", "/usr/x3/a", false),
            ("/usr/**/x", "/usr/x", true),
            ("/usr/**/x", "/usr/a/b/x", true),
            ("/usr/**/x", "/usr/ax", false),
            ("/usr/**.a", "/usr/lib/b/c.a", true),
            ("/usr/*.a", "/usr/lib/c.a", false),
            ("/**/*.pyc", "/a.pyc", true),
            ("/**/*.pyc", "/a/b.pyc", true),
            ("/a?c", "/abc", true),
            ("/a?c", "/a/c", false),
            ("/a[b-d]", "/ac", true),
            ("/a[!b-d]", "/ac", false),
            ("/a[!b-d]/x", "/a//x", false),
            ("/a[]x]", "/a]", true),
            ("/a\\*", "/a*", true),
            ("/a\\*", "/ab", false),
            ("/a\\{b", "/a{b", true),
            ("/*", "/.hidden", true),
            ("/a*b*c", "/aXbYbZc", true),
            ("/a*b*c", "/ac", false),
            ("/ab", "/abc", false),
            ("/abc", "/ab", false),
        ];
        for (pattern, path, expected) in rows {
            let path = TreePath::new(path).unwrap();
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(&path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        let many = "/{a,b}".repeat(11);
        let rows = [
            ("usr", PatternError::Relative),
            ("/{a,b", PatternError::Brace),
            ("/[a", PatternError::Class),
            ("/[]", PatternError::Class),
            ("/a\\", PatternError::Escape),
            (&many, PatternError::Alternatives),
        ];
        for (pattern, expected) in rows {
            assert_eq!(Pattern::parse(pattern), Err(expected), "{pattern}");
        }
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let path = TreePath::new("a".repeat(250)).unwrap();
        let pattern = Pattern::parse(&format!("/{}b", "a*".repeat(100))).unwrap();
        assert!(!pattern.matches(&path));
    }
}
