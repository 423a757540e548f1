//! What a recipe asks for: `name`, `name=version`, `name:architecture`.

use super::ResolveError;

/// One entry of `debian.packages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// As written.
    pub text: &'a str,
    /// Package name.
    pub name: &'a str,
    /// The exact version asked for.
    pub version: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// Reads one entry.
    ///
    /// # Errors
    /// It is no package name, or it names an architecture other than the target's.
    pub fn parse(text: &'a str, architecture: &str) -> Result<Self, ResolveError> {
        let (rest, version) = text
            .split_once('=')
            .map_or((text, None), |(r, v)| (r, Some(v)));
        let (name, qualifier) = rest
            .split_once(':')
            .map_or((rest, None), |(n, q)| (n, Some(q)));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) || version.is_some_and(str::is_empty) {
            return Err(ResolveError::Request {
                request: text.to_owned(),
            });
        }
        match qualifier {
            Some(other) if ![architecture, "any", "native", "all"].contains(&other) => {
                Err(ResolveError::Architecture {
                    request: text.to_owned(),
                    architecture: architecture.to_owned(),
                })
            }
            _ => Ok(Self {
                text,
                name,
                version,
            }),
        }
    }
}
