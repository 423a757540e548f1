//! Where packages come from: configuration of the place that builds, never part of a recipe.

mod apt;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::debian::release::Expiry;

/// The archive of most suites.
pub const DEBIAN: &str = "debian";

/// The archive of suites whose name ends in `-security`.
pub const SECURITY: &str = "debian-security";

/// Mirrors for each archive, the keyrings that say which archives to believe, and how patient to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    mirrors: BTreeMap<String, Vec<String>>,
    given: BTreeSet<String>,
    /// Keyrings that the signatures of archives are checked against.
    pub keyrings: Vec<PathBuf>,
    /// Whether an archive past its `Valid-Until` is refused.
    pub expiry: Expiry,
    /// How often and how long to try.
    pub patience: Patience,
}

/// How often and how long to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Tries with one mirror when the network or the server fails.
    pub tries: u32,
    /// Pause before the second try; doubled before each further one.
    pub pause: Duration,
    /// How long a connection may be silent.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 4,
            pause: Duration::from_millis(500),
            stall: Duration::from_secs(30),
        }
    }
}

/// The sources cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A file of apt's configuration cannot be read.
    #[error("cannot read apt's sources in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something that is no mirror.
    #[error("`{given}` is no mirror; write a URL with http:, https: or file:, or name=URL")]
    Mirror {
        /// The text.
        given: String,
    },
}

/// The archive that a suite lies in.
#[must_use]
pub fn archive_of(suite: &str) -> &'static str {
    if suite.ends_with("-security") {
        SECURITY
    } else {
        DEBIAN
    }
}

impl Sources {
    /// The Debian mirrors and keyrings of the host whose root is `root`: its apt sources and its
    /// archive keyring. Entries of other archives are passed over. Empty when there are none.
    ///
    /// # Errors
    /// A file that is there cannot be read.
    pub fn from_host(root: &Path) -> Result<Self, SourcesError> {
        let mut sources = Self {
            keyrings: host_keyrings(root),
            ..Self::default()
        };
        for entry in apt::entries(root)? {
            sources.add(entry.archive, entry.url);
        }
        sources.derive_sibling();
        Ok(sources)
    }

    /// Adds a mirror: `URL` for all archives, `name=URL` for one. The first one given for an
    /// archive replaces those of the host; mirrors are tried in the order given.
    ///
    /// # Errors
    /// It is no URL of a kind that can be fetched.
    pub fn with_mirror(mut self, given: &str) -> Result<Self, SourcesError> {
        let named = given.split_once('=').filter(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        let (names, url) = match named {
            Some((name, url)) => (vec![(name.to_owned(), url.to_owned())], url),
            None => {
                let url = given.trim_end_matches('/');
                let security = sibling(url).unwrap_or_else(|| url.to_owned());
                (
                    vec![
                        (DEBIAN.to_owned(), url.to_owned()),
                        (SECURITY.to_owned(), security),
                    ],
                    given,
                )
            }
        };
        if !apt::is_fetchable(url) {
            return Err(SourcesError::Mirror {
                given: given.to_owned(),
            });
        }
        for (name, url) in names {
            if self.given.insert(name.clone()) {
                self.mirrors.remove(&name);
            }
            self.add(&name, url);
        }
        Ok(self)
    }

    /// Replaces the keyrings.
    #[must_use]
    pub fn with_keyrings(mut self, keyrings: Vec<PathBuf>) -> Self {
        self.keyrings = keyrings;
        self
    }

    /// The mirrors of an archive, best first, without slash at the end.
    #[must_use]
    pub fn mirrors(&self, archive: &str) -> &[String] {
        self.mirrors.get(archive).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, archive: &str, url: String) {
        let url = url.trim_end_matches('/').to_owned();
        let mirrors = self.mirrors.entry(archive.to_owned()).or_default();
        if !mirrors.contains(&url) {
            mirrors.push(url);
        }
    }

    /// A host without security entry: mirrors carry the security archive beside the other.
    fn derive_sibling(&mut self) {
        if self.mirrors(SECURITY).is_empty() {
            let urls: Vec<_> = self
                .mirrors(DEBIAN)
                .iter()
                .filter_map(|url| sibling(url))
                .collect();
            for url in urls {
                self.add(SECURITY, url);
            }
        }
    }
}

fn sibling(url: &str) -> Option<String> {
    url.trim_end_matches('/')
        .strip_suffix("/debian")
        .map(|base| format!("{base}/{SECURITY}"))
}

fn host_keyrings(root: &Path) -> Vec<PathBuf> {
    let folder = root.join("usr/share/keyrings");
    let whole = ["debian-archive-keyring.pgp", "debian-archive-keyring.gpg"];
    if let Some(path) = whole
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.exists())
    {
        return vec![path];
    }
    let trusted = std::fs::read_dir(root.join("etc/apt/trusted.gpg.d"))
        .into_iter()
        .flatten();
    let mut paths: Vec<_> = trusted
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            name.starts_with("debian-archive-")
                && [".gpg", ".asc", ".pgp"]
                    .iter()
                    .any(|ending| name.ends_with(ending))
        })
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> Sources {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Sources::from_host(root.path()).unwrap()
    }

    #[test]
    fn hosts_give_their_debian_mirrors_only() {
        let list = "# c\ndeb [arch=amd64 trusted=yes] http://m.example/debian/ bookworm main\n\
            deb-src http://src.example/debian bookworm main\n\
            deb https://x.example/apt stable main\n\
            deb http://m.example/debian bookworm-updates main # again\n\
            deb cdrom:[x]/ bookworm main\n\
            deb http://s.example/anything bookworm-security main\n";
        let sources = host(&[("etc/apt/sources.list", list)]);
        assert_eq!(sources.mirrors(DEBIAN), ["http://m.example/debian"]);
        assert_eq!(
            sources.mirrors(SECURITY),
            ["http://m.example/debian-security"]
        );

        let deb822 = "Types: deb deb-src\nURIs: http://a.example/debian http://b.example/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main\n\n\
            Types: deb\nURIs: https://s.example/pool\nSuites: bookworm-security\n\
            Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
            Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: sid\n";
        let sources = host(&[
            ("etc/apt/sources.list.d/debian.sources", deb822),
            (
                "etc/apt/sources.list.d/off.list.disabled",
                "deb http://off.example/debian x main\n",
            ),
        ]);
        assert_eq!(
            sources.mirrors(DEBIAN),
            ["http://a.example/debian", "http://b.example/debian"]
        );
        assert_eq!(sources.mirrors(SECURITY), ["https://s.example/pool"]);
        assert_eq!(host(&[]).mirrors(DEBIAN), [""; 0]);
    }

    #[test]
    fn given_mirrors_replace_the_hosts_in_order() {
        let base = host(&[(
            "etc/apt/sources.list",
            "deb http://m.example/debian bookworm main\n",
        )]);
        let one = base
            .clone()
            .with_mirror("http://one.example/debian/")
            .unwrap();
        assert_eq!(one.mirrors(DEBIAN), ["http://one.example/debian"]);
        assert_eq!(
            one.mirrors(SECURITY),
            ["http://one.example/debian-security"]
        );
        let two = one.with_mirror("debian=file:/srv/two").unwrap();
        assert_eq!(
            two.mirrors(DEBIAN),
            ["http://one.example/debian", "file:/srv/two"]
        );
        let flat = base.with_mirror("http://127.0.0.1:8000").unwrap();
        assert_eq!(flat.mirrors(SECURITY), ["http://127.0.0.1:8000"]);
        for wrong in ["", "ftp://x/debian", "debian=", "x"] {
            assert!(Sources::default().with_mirror(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keyrings_are_found_on_the_host() {
        let sources = host(&[
            ("etc/apt/trusted.gpg.d/debian-archive-x.asc", ""),
            ("etc/apt/trusted.gpg.d/other.gpg", ""),
        ]);
        assert_eq!(sources.keyrings.len(), 1);
        let sources = host(&[("usr/share/keyrings/debian-archive-keyring.gpg", "")]);
        assert!(sources.keyrings[0].ends_with("usr/share/keyrings/debian-archive-keyring.gpg"));
    }
}
