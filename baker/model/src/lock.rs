//! `recipe.lock`: every input by digest and size, and the time that the image claims.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The version of the lock format that this baker writes.
pub const LOCK_VERSION: u32 = 1;

/// Everything that enters a build, by digest; written by `baker lock`, read by all else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lock {
    /// Format version, [`LOCK_VERSION`].
    pub version: u32,
    /// Digest of the recipe (all its files and profiles merged, canonical form), see
    /// [`crate::Recipe::digest`].
    pub recipe: Digest,
    /// Seconds since 1970-01-01 UTC that every time stamp of the image shows: the newest `Date`
    /// of the archives used.
    pub epoch: i64,
    /// The guest program inside the baker that wrote the lock.
    pub guest: GuestLock,
    /// Local files that the recipe names, sorted by path.
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileLock>,
    /// The signed indexes, sorted by suite.
    #[serde(default, rename = "archive", skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<ArchiveLock>,
    /// The packages, sorted by name and architecture.
    #[serde(default, rename = "package", skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageLock>,
    /// What the recipe extends, what all others stand on first.
    #[serde(default, rename = "layer", skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerLock>,
    /// What the recipe's stages are made of, in the recipe's order.
    #[serde(default, rename = "stage", skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageLock>,
}

/// A recipe that is extended: its part of the packages is configured by itself, so that all that
/// extend it share the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LayerLock {
    /// Name of the recipe.
    pub recipe: String,
    /// Digest of what its lock pins, see [`Lock::pins`].
    pub pins: Digest,
    /// The time that its lock shows.
    pub epoch: i64,
    /// The recipe's answers to its packages' questions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answers: String,
    /// Names of its packages of roles root and tool that are not of a layer before it, sorted.
    pub packages: Vec<String>,
    /// Names of its `[[run]]` commands that are not of a layer before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<String>,
}

/// The packages of a stage; they are no part of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StageLock {
    /// Name of the stage.
    pub name: String,
    /// Its packages, all of role tool, sorted.
    #[serde(default, rename = "package")]
    pub packages: Vec<PackageLock>,
}

/// The guest program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GuestLock {
    /// Size in bytes.
    pub size: u64,
    /// Digest of the program.
    pub sha256: Digest,
}

/// A local file of the recipe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileLock {
    /// Path relative to the recipe's folder, with `/`.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: Digest,
}

/// One suite of one archive, as its signed `InRelease` named it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArchiveLock {
    /// Suite as asked for (`trixie-security`).
    pub suite: String,
    /// Which archive root it lies under: `debian` or `debian-security`; mirrors are configured
    /// per archive.
    pub archive: String,
    /// `Date` of the release, seconds since 1970-01-01 UTC.
    pub date: i64,
    /// Digest of the `InRelease` file.
    pub inrelease: Digest,
    /// Fingerprints of the keys whose signatures were good, upper-case hex, sorted.
    pub signed_by: Vec<String>,
    /// The package indexes used, sorted by path.
    #[serde(rename = "index")]
    pub indexes: Vec<IndexLock>,
}

/// One package index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IndexLock {
    /// Path below the suite's folder (`main/binary-amd64/Packages.xz`).
    pub path: String,
    /// Size in bytes of the file as fetched.
    pub size: u64,
    /// Digest of the file as fetched.
    pub sha256: Digest,
}

/// What a package is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageRole {
    /// Installed into the root file system.
    Root,
    /// Gives the kernel image and the modules; not configured as a package.
    Kernel,
    /// Gives the UEFI stub and boot loader; not part of the root.
    Boot,
    /// Only there while the packages' own scripts run (`scripts = "sandbox"`); not part of the
    /// root.
    Tool,
}

impl PackageRole {
    /// The word for it in locks and statements.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Kernel => "kernel",
            Self::Boot => "boot",
            Self::Tool => "tool",
        }
    }

    /// Whether a package with it is installed as dpkg would: several can have such a role, and
    /// packages' own scripts find all of them.
    #[must_use]
    pub const fn is_installed(self) -> bool {
        matches!(self, Self::Root | Self::Tool)
    }
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PackageLock {
    /// Package name.
    pub name: String,
    /// Version as in the index.
    pub version: String,
    /// Architecture as in the index (`amd64`, `all`).
    pub architecture: String,
    /// What it is used for.
    pub role: PackageRole,
    /// Which archive root it lies under: `debian` or `debian-security`.
    pub archive: String,
    /// Path below the archive root (`pool/main/...`).
    pub path: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Digest,
}

impl Lock {
    /// The packages of the image and of all stages; one that several want comes several times.
    pub fn all_packages(&self) -> impl Iterator<Item = &PackageLock> {
        let of_stages = self.stages.iter().flat_map(|stage| &stage.packages);
        self.packages.iter().chain(of_stages)
    }

    /// Digest of the lock's canonical JSON form: layout and comments of the file do not matter.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let canonical = serde_json::to_vec(self).expect("a lock holds only plain data");
        Digest::of(&canonical)
    }

    /// Digest of the packages and the time: what a recipe that extends this one stands on.
    #[must_use]
    pub fn pins(&self) -> Digest {
        let pinned = serde_json::to_vec(&(self.epoch, &self.packages));
        Digest::of(&pinned.expect("a lock holds only plain data"))
    }

    /// Parses the text of a `recipe.lock`.
    ///
    /// # Errors
    /// Not TOML, an unknown key, or a version that this baker does not know.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let header: Header = toml::from_str(text).map_err(LockError::Syntax)?;
        if header.version != LOCK_VERSION {
            return Err(LockError::Version {
                found: header.version,
            });
        }
        toml::from_str(text).map_err(LockError::Syntax)
    }

    /// The text of `recipe.lock`: one table per input, so that a diff shows one line per fact.
    #[must_use]
    pub fn to_text(&self) -> String {
        let body = toml::to_string(self).expect("a lock holds only plain data");
        format!("# Written by `baker lock`. Do not edit: change the recipe and lock again.\n{body}")
    }
}

/// The text is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not the TOML that a lock is.
    #[error("cannot parse the lock")]
    Syntax(#[source] toml::de::Error),
    /// A lock of another baker.
    #[error("the lock has format version {found}, this baker reads version {LOCK_VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
}
