//! What people call caches.
//!
//! ```text
//! /srv/cache                         a folder, perhaps of a file server
//! https://cache.example/baker        a server that knows GET, HEAD and PUT
//! oci://registry.example/team/cache  a repository of a registry
//! s3://bucket/prefix                 a bucket
//! ```

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

use crate::target::{Place, PlaceError};

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// A server of HTTP: its address without a slash at the end.
    Http(String),
    /// A folder, a repository or a bucket.
    Other(Place),
}

impl FromStr for CachePlace {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let refuse = |problem| PlaceError {
            shown: text.to_owned(),
            problem,
        };
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let Some(scheme @ ("http" | "https")) = scheme else {
            let place: Place = text.parse()?;
            return match &place {
                Place::Registry { path, .. } if path.is_empty() => {
                    Err(refuse("names no repository: write oci://HOST/PATH"))
                }
                _ => Ok(Self::Other(place)),
            };
        };
        if text.contains('@') {
            return Err(PlaceError {
                shown: format!("{scheme}://..."),
                problem: "must not hold a user or password; they come from the environment or a file",
            });
        }
        let is_plain = |url: &Url| url.query().is_none() && url.fragment().is_none();
        match Url::parse(text) {
            Ok(url) if url.has_host() && is_plain(&url) => {
                Ok(Self::Http(url.as_str().trim_end_matches('/').to_owned()))
            }
            _ => Err(refuse("is no place: write http(s)://HOST/PATH")),
        }
    }
}

impl fmt::Display for CachePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(address) => f.write_str(address),
            Self::Other(place) => place.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written_back() {
        for text in [
            "/srv/cache",
            "http://cache.example:8080",
            "https://cache.example/baker/team",
            "oci://registry.example:5000/cache",
            "s3://bucket/prefix",
            "s3://bucket",
        ] {
            assert_eq!(text.parse::<CachePlace>().unwrap().to_string(), text);
        }
        let slash: CachePlace = "https://cache.example/baker/".parse().unwrap();
        assert_eq!(slash.to_string(), "https://cache.example/baker");
        for text in [
            "",
            "http://",
            "https://h/a?b=c",
            "https://h/#x",
            "oci://h",
            "ftp://h/x",
        ] {
            assert!(text.parse::<CachePlace>().is_err(), "{text}");
        }
        for text in ["https://me:secret@h/x", "s3://me:secret@b"] {
            let error = text.parse::<CachePlace>().unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
