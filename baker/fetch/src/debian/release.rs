//! What a signed `InRelease` says, and whether it may be believed.

use std::collections::BTreeMap;

use baker_model::{Digest, digest::DigestParseError};

use super::date;
use super::deb822::{Paragraph, paragraphs};
use super::signature::{Keyring, SignatureError};

/// Seconds that an archive's clock may be ahead of ours.
const CLOCK_TOLERANCE: i64 = 300;

/// What is asked of a Release file besides a good signature.
#[derive(Debug, Clone, Copy)]
pub struct Expectation<'a> {
    /// Suite or codename asked for.
    pub suite: &'a str,
    /// Now, seconds since 1970-01-01 UTC.
    pub now: i64,
    /// `Date` of the same suite in the previous lock.
    pub not_before: Option<i64>,
    /// Whether `Valid-Until` is enforced.
    pub expiry: Expiry,
}

/// What happens when `Valid-Until` has passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expiry {
    /// The archive is refused.
    #[default]
    Enforce,
    /// The archive is used; a warning says so.
    Ignore,
}

/// A Release file that may be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `Date`, seconds since 1970-01-01 UTC.
    pub date: i64,
    /// Fingerprints of the signing keys.
    pub signed_by: Vec<String>,
    /// True when files are also found under their digest.
    pub by_hash: bool,
    /// When it expired, if it did and that was to be ignored.
    pub expired: Option<i64>,
    /// Index folders use `binary-all` beside `binary-<architecture>`.
    pub separate_all: bool,
    architectures: Vec<String>,
    components: Vec<String>,
    files: BTreeMap<String, (u64, Digest)>,
    other_files: Vec<String>,
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Unsigned, or not signed by a known key.
    #[error("refused InRelease of suite {suite}: {source}{}", hint(source))]
    Signature {
        /// The suite.
        suite: String,
        /// What is wrong with it.
        source: SignatureError,
    },
    /// `Valid-Until` has passed.
    #[error("refused InRelease of suite {suite}: it expired at {}; the mirror is stale or somebody \
             replays it", date::text(*valid_until))]
    Expired {
        /// The suite.
        suite: String,
        /// When it expired.
        valid_until: i64,
    },
    /// `Date` is in the future.
    #[error("refused InRelease of suite {suite}: it is dated {}, in the future; is this machine's \
             clock right?", date::text(*date))]
    Future {
        /// The suite.
        suite: String,
        /// The date it claims.
        date: i64,
    },
    /// Older than what was locked before.
    #[error("refused InRelease of suite {suite}: it is of {}, older than the {} already locked; \
             the mirror is stale or somebody replays it", date::text(*date), date::text(*locked))]
    Downgraded {
        /// The suite.
        suite: String,
        /// The date it claims.
        date: i64,
        /// The date in the previous lock.
        locked: i64,
    },
    /// It is the Release file of something else.
    #[error(
        "refused InRelease of suite {suite}: it says that it is of suite `{found_suite}`, \
             codename `{found_codename}`"
    )]
    WrongSuite {
        /// The suite asked for.
        suite: String,
        /// `Suite` as found.
        found_suite: String,
        /// `Codename` as found.
        found_codename: String,
    },
    /// A field is missing or unreadable.
    #[error("refused InRelease of suite {suite}: the field {field} is missing or unreadable")]
    Field {
        /// The suite.
        suite: String,
        /// The field.
        field: &'static str,
    },
    /// An index is named, but without SHA-256.
    #[error("refused suite {suite}: {path} is named without a SHA-256 digest")]
    NoSha256 {
        /// The suite.
        suite: String,
        /// Path below the suite's folder.
        path: String,
    },
    /// An index is not named at all.
    #[error("suite {suite} has no {component} packages for {architecture}; it has components {}, \
             architectures {}", components.join(" "), architectures.join(" "))]
    NoIndex {
        /// The suite.
        suite: String,
        /// The component asked for.
        component: String,
        /// The architecture asked for.
        architecture: String,
        /// Components that it has.
        components: Vec<String>,
        /// Architectures that it has.
        architectures: Vec<String>,
    },
}

fn hint(source: &SignatureError) -> &'static str {
    match source {
        SignatureError::NoGoodSignature { .. } => {
            "; name the right keyring with --keyring, or update debian-archive-keyring"
        }
        _ => "",
    }
}

/// An index as the Release file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedIndex {
    /// Path below the suite's folder.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Digest.
    pub sha256: Digest,
}

impl Release {
    /// Checks the signature, reads the signed text and checks it against what is expected.
    ///
    /// # Errors
    /// One of the ways in which an archive can be wrong; each has its own error.
    pub fn verify(
        text: &[u8],
        keyring: &Keyring,
        expect: Expectation<'_>,
    ) -> Result<Self, ReleaseError> {
        let suite = || expect.suite.to_owned();
        let signed =
            keyring
                .verify(text, expect.now)
                .map_err(|source| ReleaseError::Signature {
                    suite: suite(),
                    source,
                })?;
        let content = String::from_utf8_lossy(&signed.content);
        let fields = paragraphs(&content).into_iter().next().unwrap_or_default();
        let found = |name| fields.get(name).unwrap_or_default();
        if found("Suite") != expect.suite && found("Codename") != expect.suite {
            return Err(ReleaseError::WrongSuite {
                suite: suite(),
                found_suite: found("Suite").to_owned(),
                found_codename: found("Codename").to_owned(),
            });
        }
        let (date, expired) = check_dates(&fields, expect)?;
        let files = files(found("SHA256")).map_err(|_| ReleaseError::Field {
            suite: suite(),
            field: "SHA256",
        })?;
        let weak = ["MD5Sum", "SHA1", "SHA512"]
            .into_iter()
            .flat_map(|name| names(found(name)));
        let other_files = weak
            .filter(|name| !files.contains_key(*name))
            .map(str::to_owned)
            .collect();
        let words = |name| fields.words(name).map(str::to_owned).collect::<Vec<_>>();
        let architectures = words("Architectures");
        let separate_all = architectures.iter().any(|name| name == "all")
            && !fields
                .words("No-Support-for-Architecture-all")
                .any(|word| word == "Packages");
        Ok(Self {
            date,
            signed_by: signed.signed_by,
            by_hash: found("Acquire-By-Hash").eq_ignore_ascii_case("yes"),
            expired,
            separate_all,
            architectures,
            components: words("Components"),
            files,
            other_files,
        })
    }

    /// The ways in which an index of packages is offered, best first: xz, gzip, plain.
    ///
    /// # Errors
    /// There is none, or none with a digest that counts.
    pub fn package_index(
        &self,
        suite: &str,
        component: &str,
        architecture: &str,
    ) -> Result<Vec<NamedIndex>, ReleaseError> {
        let stem = format!("{component}/binary-{architecture}/Packages");
        let paths = [".xz", ".gz", ""].map(|ending| format!("{stem}{ending}"));
        let named = paths.iter().filter_map(|path| {
            let (size, sha256) = *self.files.get(path)?;
            Some(NamedIndex {
                path: path.clone(),
                size,
                sha256,
            })
        });
        let named: Vec<_> = named.collect();
        if !named.is_empty() {
            return Ok(named);
        }
        let suite = suite.to_owned();
        match paths
            .into_iter()
            .find(|path| self.other_files.contains(path))
        {
            Some(path) => Err(ReleaseError::NoSha256 { suite, path }),
            None => Err(ReleaseError::NoIndex {
                suite,
                component: component.to_owned(),
                architecture: architecture.to_owned(),
                components: self.components.clone(),
                architectures: self.architectures.clone(),
            }),
        }
    }
}

fn check_dates(
    fields: &Paragraph,
    expect: Expectation<'_>,
) -> Result<(i64, Option<i64>), ReleaseError> {
    let suite = || expect.suite.to_owned();
    let read = |field: &'static str| match fields.get(field) {
        None => Ok(None),
        Some(text) => date::parse(text)
            .map(Some)
            .ok_or_else(|| ReleaseError::Field {
                suite: suite(),
                field,
            }),
    };
    let date = read("Date")?.ok_or_else(|| ReleaseError::Field {
        suite: suite(),
        field: "Date",
    })?;
    if date > expect.now + CLOCK_TOLERANCE {
        return Err(ReleaseError::Future {
            suite: suite(),
            date,
        });
    }
    let expired = read("Valid-Until")?.filter(|until| *until < expect.now);
    if let Some(valid_until) = expired.filter(|_| expect.expiry == Expiry::Enforce) {
        return Err(ReleaseError::Expired {
            suite: suite(),
            valid_until,
        });
    }
    if let Some(locked) = expect.not_before.filter(|locked| date < *locked) {
        return Err(ReleaseError::Downgraded {
            suite: suite(),
            date,
            locked,
        });
    }
    Ok((date, expired))
}

/// Lines of `digest size path`.
fn files(field: &str) -> Result<BTreeMap<String, (u64, Digest)>, DigestParseError> {
    let mut files = BTreeMap::new();
    for line in field.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let digest: Digest = words.next().unwrap_or_default().parse()?;
        let size = words.next().and_then(|word| word.parse().ok());
        let (Some(size), Some(path)) = (size, words.next()) else {
            return Err(DigestParseError {
                text: line.to_owned(),
            });
        };
        files.insert(path.to_owned(), (size, digest));
    }
    Ok(files)
}

fn names(field: &str) -> impl Iterator<Item = &str> {
    field
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
}
