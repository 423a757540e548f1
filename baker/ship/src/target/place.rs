//! What people call targets and releases on a command line.
//!
//! ```text
//! out/releases                       a folder
//! oci://registry.example/team        a registry: one repository per recipe below the path
//! s3://bucket/prefix                 a bucket
//! PLACE/minimal:1.0.0                a release there
//! PLACE/minimal@prod                 the release that a channel points to
//! PLACE/minimal                      a recipe, all its releases and channels
//! ```

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{ChannelId, ReleaseId};

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A registry.
    Registry {
        /// `host` or `host:port`.
        host: String,
        /// Path above the repositories, without slashes at its ends; may be empty.
        path: String,
    },
    /// A bucket.
    Bucket {
        /// Name of the bucket.
        bucket: String,
        /// Prefix of all keys, without slashes at its ends; may be empty.
        prefix: String,
    },
}

/// A recipe in a target, and perhaps more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The target.
    pub place: Place,
    /// Name of the recipe.
    pub name: String,
    /// Which of its releases.
    pub which: Which,
}

/// Which releases of a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All.
    Any,
    /// One version.
    Version(ReleaseId),
    /// The one that a channel points to.
    Channel(ChannelId),
}

/// A text names no target or no release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` {problem}")]
pub struct PlaceError {
    /// The text, without what could be a password.
    pub shown: String,
    /// What is wrong.
    pub problem: &'static str,
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let refuse = |problem| PlaceError {
            shown: text.to_owned(),
            problem,
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            let is_empty = text.is_empty();
            let folder = Self::Folder(PathBuf::from(text));
            return if is_empty {
                Err(refuse("names no folder"))
            } else {
                Ok(folder)
            };
        };
        if rest.contains('@') {
            // Other users of the machine see command lines, and logs keep them.
            return Err(PlaceError {
                shown: format!("{scheme}://..."),
                problem: "must not hold a user or password; they come from the environment or a file",
            });
        }
        let (first, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/').to_owned();
        if first.is_empty() || !path.is_empty() && path.split('/').any(is_unsafe) {
            return Err(refuse(
                "is no place: write oci://HOST/PATH or s3://BUCKET/PREFIX",
            ));
        }
        match scheme {
            "oci" => Ok(Self::Registry {
                host: first.to_owned(),
                path,
            }),
            "s3" => Ok(Self::Bucket {
                bucket: first.to_owned(),
                prefix: path,
            }),
            _ => Err(refuse("is no place: write oci://, s3:// or a folder")),
        }
    }
}

fn is_unsafe(part: &str) -> bool {
    matches!(part, "" | "." | "..") || part.chars().any(|c| c.is_control() || "?#\\".contains(c))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, first, path) = match self {
            Self::Folder(path) => return write!(f, "{}", path.display()),
            Self::Registry { host, path } => ("oci", host, path),
            Self::Bucket { bucket, prefix } => ("s3", bucket, prefix),
        };
        let slash = if path.is_empty() { "" } else { "/" };
        write!(f, "{scheme}://{first}{slash}{path}")
    }
}

impl FromStr for Reference {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let refuse = |problem| PlaceError {
            shown: text.to_owned(),
            problem,
        };
        let hint = "names no release: write PLACE/NAME:VERSION or PLACE/NAME@CHANNEL";
        let (place, last) = match text.rsplit_once('/') {
            Some(("", last)) => ("/", last),
            Some(split) => split,
            None => (".", text),
        };
        if place.ends_with(":/") {
            // A scheme and nothing but one word: perhaps one with a password.
            let shown = format!("{place}/...");
            return Err(PlaceError {
                shown,
                problem: hint,
            });
        }
        let place: Place = place.parse()?;
        let (name, which) = if let Some((name, version)) = last.split_once(':') {
            let id = ReleaseId::new(name, version).ok_or_else(|| refuse(hint))?;
            (name, Which::Version(id))
        } else if let Some((name, channel)) = last.split_once('@') {
            let id = ChannelId::new(name, channel).ok_or_else(|| refuse(hint))?;
            (name, Which::Channel(id))
        } else {
            (last, Which::Any)
        };
        if ReleaseId::new(name, "0").is_none() {
            return Err(refuse(hint));
        }
        Ok(Self {
            place,
            name: name.to_owned(),
            which,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_references_are_read_and_written_back() {
        for text in [
            "out/releases",
            "/srv/x",
            "oci://h:5000/team/a",
            "oci://h",
            "s3://b",
            "s3://b/p/q",
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!(place.to_string(), text);
        }
        let of = |text: &str| text.parse::<Reference>().unwrap();
        let release = of("oci://h:5000/team/minimal:1.0.0");
        assert_eq!(release.place.to_string(), "oci://h:5000/team");
        assert!(matches!(release.which, Which::Version(id) if id.version() == "1.0.0"));
        let channel = of("minimal@prod");
        assert_eq!(channel.place, Place::Folder(".".into()));
        assert!(matches!(channel.which, Which::Channel(id) if id.channel() == "prod"));
        assert_eq!(of("/minimal").place, Place::Folder("/".into()));
        assert_eq!(of("s3://b/p/minimal").which, Which::Any);
    }

    #[test]
    fn what_leads_elsewhere_or_tells_secrets_is_refused() {
        for text in [
            "",
            "ftp://x/y",
            "oci://",
            "oci:///x",
            "s3://b/../c",
            "s3://b/a//b",
            "oci://h/a?b",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        let error = "oci://me:secret@host/x".parse::<Place>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        for text in [
            "x/..:1",
            "x/minimal:..",
            "x/minimal:.1",
            "x/minimal@PROD",
            "x/",
            "x/minimal:",
            "oci://me:secret@host",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
