//! The JSON that names every file of a release by digest and says what went in.

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::plan::{Day, TestPlan};
use crate::verdict::Verdict;

/// The version of the manifest format that this baker writes.
pub const MANIFEST_VERSION: u32 = 1;

/// `manifest.json` of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Manifest {
    /// Format version, [`MANIFEST_VERSION`].
    pub manifest_version: u32,
    /// Recipe name.
    pub name: String,
    /// Release version.
    pub version: String,
    /// Architecture in Debian's words (`amd64`).
    pub architecture: String,
    /// The time the image claims, seconds since 1970-01-01 UTC.
    pub epoch: i64,
    /// Digest of the recipe.
    pub recipe: Digest,
    /// Digest of the lock.
    pub lock: Digest,
    /// Where the recipe came from, when it lies in a git work tree.
    pub source: Option<Source>,
    /// Which baker made it.
    pub baker: Builder,
    /// The stages that ran, in the order in which data flows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<String>,
    /// dm-verity root hash, hex.
    pub root_hash: Digest,
    /// The kernel command line inside the UKI.
    pub command_line: String,
    /// The certificates that firmware needs to check what it starts; none when nothing is signed
    /// for Secure Boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<SecureBoot>,
    /// The files of the release, sorted by name; the manifest and its signatures are not in it.
    pub files: Vec<ReleaseFile>,
    /// The packages of the root.
    pub packages: Vec<PackageFact>,
    /// The tests that must pass, as the recipe had them.
    pub plans: Vec<TestPlan>,
    /// What the tests said; empty until they ran.
    pub tests: Vec<TestFact>,
    /// Checks that were waived, each with its reason.
    pub waivers: Vec<Waiver>,
    /// What the hygiene gate said of the root; none in manifests of before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hygiene: Option<HygieneFact>,
}

/// The keys by which firmware accepts a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SecureBoot {
    /// `PK`, the owner of the machine.
    pub platform_key: BootCertificate,
    /// `KEK`, which may change the next.
    pub exchange_key: BootCertificate,
    /// `db`, whose key has signed every program that the disk boots.
    pub database: BootCertificate,
}

/// One certificate of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BootCertificate {
    /// Its common name.
    pub name: String,
    /// The file of the release that holds it, DER.
    pub file: String,
    /// Digest of the DER, the certificate's fingerprint.
    pub sha256: Digest,
}

/// Commit of the work tree that the recipe lies in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    /// Commit id, hex.
    pub commit: String,
    /// True when the work tree had changes that are not in the commit.
    pub dirty: bool,
}

/// The program that made the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Builder {
    /// Version of baker.
    pub version: String,
    /// Digest of the guest program inside it.
    pub guest: Digest,
    /// Digest of baker's own program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Digest>,
}

/// What a file of a release is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileRole {
    /// The whole disk, raw.
    Disk,
    /// The root file system image.
    Root,
    /// The dm-verity hash tree of the root.
    RootVerity,
    /// The unified kernel image.
    Uki,
    /// The kernel alone.
    Kernel,
    /// The initramfs alone.
    Initrd,
    /// The recipe as built.
    Recipe,
    /// The lock as built.
    Lock,
    /// Evidence of a smoke test.
    Evidence,
    /// An X.509 certificate, DER.
    Certificate,
    /// The disk for QEMU.
    Qcow2,
    /// The disk for VMware.
    Vmdk,
    /// The disk as a dynamic VHD.
    Vhd,
    /// The disk as a fixed VHD.
    VhdFixed,
    /// The root as a compressed tar archive.
    RootTar,
    /// The root as an OCI image.
    OciImage,
    /// The disk as a CD.
    Iso,
    /// The initramfs with the root inside.
    NetbootInitrd,
    /// The bill of materials, SPDX 2.3 JSON.
    Spdx,
    /// The bill of materials with every file, `CycloneDX` 1.6 JSON.
    Cyclonedx,
    /// The unified kernel image with the root inside.
    NetbootUki,
    /// What packages' scripts did in the sandbox.
    Scripts,
}

/// One file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReleaseFile {
    /// Path inside the release folder, with `/`.
    pub name: String,
    /// What it is for.
    pub role: FileRole,
    /// Size in bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: Digest,
}

/// One package inside the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PackageFact {
    /// Package name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// Digest of the package file.
    pub sha256: Digest,
}

/// One smoke test that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TestFact {
    /// Name of the plan.
    pub name: String,
    /// What it said.
    pub verdict: Verdict,
    /// Digest of the disk that was booted.
    pub disk: Digest,
    /// Milliseconds from QEMU start to the verdict.
    pub milliseconds: u64,
    /// Name of the evidence file in the release.
    pub evidence: String,
    /// What did not change the verdict but should be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A check that was left out knowingly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Waiver {
    /// What was waived: `tests`, `package-script libfoo/postinst`.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The last day on which a bake could count on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Day>,
}

impl Waiver {
    /// A waiver that names nobody and does not run out.
    #[must_use]
    pub fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            reason: reason.into(),
            author: None,
            expires: None,
        }
    }
}

/// What the hygiene gate said of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HygieneFact {
    /// The rules by which secrets were looked for.
    pub rules: String,
    /// Bytes of all files of the root.
    pub size: u64,
    /// What stands against the image; **nothing with such findings may be signed**.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<HygieneFinding>,
    /// What a waiver excuses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waived: Vec<HygieneFinding>,
}

/// Something in the root that usually must not be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HygieneFinding {
    /// The rule that found it.
    pub rule: String,
    /// Absolute path in the image.
    pub path: String,
    /// Line in the file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

impl Manifest {
    /// The bytes of `manifest.json`: the very bytes that are signed. Ends in a newline.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest holds only plain data");
        bytes.push(b'\n');
        bytes
    }

    /// Parses the bytes of `manifest.json`.
    ///
    /// # Errors
    /// Not JSON, an unknown key, or a version that this baker does not know.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Header {
            manifest_version: u32,
        }
        let header: Header = serde_json::from_slice(bytes).map_err(ManifestError::Syntax)?;
        if header.manifest_version != MANIFEST_VERSION {
            return Err(ManifestError::Version {
                found: header.manifest_version,
            });
        }
        serde_json::from_slice(bytes).map_err(ManifestError::Syntax)
    }

    /// The one file with this role.
    #[must_use]
    pub fn file(&self, role: FileRole) -> Option<&ReleaseFile> {
        self.files.iter().find(|file| file.role == role)
    }
}

/// The bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON that a manifest is.
    #[error("cannot parse the manifest")]
    Syntax(#[source] serde_json::Error),
    /// A manifest of another baker.
    #[error("the manifest has version {found}, this baker reads version {MANIFEST_VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
}
