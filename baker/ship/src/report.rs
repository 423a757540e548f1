//! What verification says: every problem, what a person should know, and the facts.

use baker_model::plan::Day;
use baker_model::{Digest, Verdict};
use serde::Serialize;

use crate::public::PublicKey;

/// All that verification found. **A release with problems must not be used.**
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Everything that is wrong; a good release has none.
    pub problems: Vec<Problem>,
    /// What is allowed and worth knowing.
    pub warnings: Vec<Warning>,
    /// What the release says of itself; none when its manifest cannot be read. Facts are only
    /// as good as the signature: believe them when there are no problems.
    pub facts: Option<Facts>,
}

impl Report {
    /// True when nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What a release says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// Recipe name.
    pub name: String,
    /// Release version.
    pub version: String,
    /// Architecture in Debian's words.
    pub architecture: String,
    /// SHA-256 of `manifest.json`: the identity of the release.
    pub manifest: Digest,
    /// dm-verity root hash.
    pub root_hash: Digest,
    /// Number of files that the manifest names.
    pub files: usize,
    /// Their sizes together, bytes.
    pub bytes: u64,
    /// Trusted keys whose signatures are good.
    pub signed_by: Vec<SignedBy>,
}

/// A trusted key with a good signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SignedBy {
    /// Name of the key in the trust store.
    pub name: String,
    /// Id of the key.
    pub key_id: Digest,
    /// True for a local development key.
    pub development: bool,
}

impl SignedBy {
    /// A key that made a signature.
    pub(crate) fn of(key: &PublicKey) -> Self {
        Self {
            name: key.name().to_owned(),
            key_id: key.id(),
            development: key.purpose().is_development(),
        }
    }
}

/// Something that is wrong with a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(
    tag = "problem",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Problem {
    /// A file or folder that is there cannot be read.
    #[error("`{name}` cannot be read: {cause}")]
    Unreadable {
        /// Path inside the release.
        name: String,
        /// Why.
        cause: String,
    },
    /// The bytes of the manifest are no manifest.
    #[error("the manifest cannot be used: {cause}")]
    BadManifest {
        /// Why.
        cause: String,
    },
    /// A name of the manifest could lead out of the release or be read in two ways.
    #[error("the manifest names `{}`, which is not allowed: {why}", name.escape_debug())]
    UnsafeName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The manifest names a file twice.
    #[error("the manifest names `{name}` more than once")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A file is not there.
    #[error("`{name}` is missing")]
    Missing {
        /// Path inside the release.
        name: String,
    },
    /// Something that nobody signed lies in the folder.
    #[error("`{}` is not named in the manifest", name.escape_debug())]
    Extra {
        /// Path inside the release.
        name: String,
    },
    /// A symbolic link, device or the like.
    #[error("`{}` is a {kind}; a release holds only regular files and folders", name.escape_debug())]
    NotRegular {
        /// Path inside the release.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// A file has another size than the manifest says.
    #[error("`{name}` has {found} bytes, the manifest says {expected}")]
    Size {
        /// Path inside the release.
        name: String,
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// A file has another content than the manifest says.
    #[error("`{name}` was altered: its SHA-256 is {found}, the manifest says {expected}")]
    Content {
        /// Path inside the release.
        name: String,
        /// Digest by the manifest.
        expected: Digest,
        /// Digest found.
        found: Digest,
    },
    /// `SHA256SUMS` says something else than the manifest.
    #[error("SHA256SUMS does not agree with the manifest, first at line {line}")]
    Sums {
        /// Line, from 1.
        line: usize,
    },
    /// Nobody is trusted, so no signature can count.
    #[error("there is nobody to trust: no public key is configured")]
    NobodyToTrust,
    /// The signature file cannot be used.
    #[error("the signatures cannot be used: {cause}")]
    BadSignatures {
        /// Why.
        cause: String,
    },
    /// The file of the test result cannot be used.
    #[error("the test result cannot be used: {cause}")]
    BadTestResult {
        /// Why.
        cause: String,
    },
    /// The test result says something else than the manifest.
    #[error("the test result speaks of another {what} than the manifest")]
    OtherTestResult {
        /// Of what.
        what: &'static str,
    },
    /// A signature under the test result that claims to be by a trusted key is not.
    #[error("the signature in the name of `{name}` ({}) is not over this test result",
        key_id.short())]
    ForgedTestResult {
        /// Name of the trusted key.
        name: String,
        /// Its id.
        key_id: Digest,
    },
    /// Nobody whom we trust signed the test result.
    #[error("no trusted key signed the test result; it names {}", key_ids.join(", "))]
    TestResultNotTrusted {
        /// The key ids that its signatures name.
        key_ids: Vec<String>,
    },
    /// The file of a statement cannot be used.
    #[error("`{file}` cannot be used: {cause}")]
    BadStatement {
        /// Name of the file.
        file: &'static str,
        /// Why.
        cause: String,
    },
    /// A statement says something else than the manifest.
    #[error("`{file}` speaks of another {what} than the release")]
    OtherStatement {
        /// Name of the file.
        file: &'static str,
        /// Of what.
        what: &'static str,
    },
    /// A signature under a statement that claims to be by a trusted key is not.
    #[error("the signature in the name of `{name}` ({}) is not over `{file}`", key_id.short())]
    ForgedStatement {
        /// Name of the file.
        file: &'static str,
        /// Name of the trusted key.
        name: String,
        /// Its id.
        key_id: Digest,
    },
    /// Nobody whom we trust signed a statement.
    #[error("no trusted key signed `{file}`; it names {}", key_ids.join(", "))]
    StatementNotTrusted {
        /// Name of the file.
        file: &'static str,
        /// The key ids that its signatures name.
        key_ids: Vec<String>,
    },
    /// Nobody whom we trust signed.
    #[error("no trusted key signed this release; it names {}", ids(key_ids))]
    NotTrusted {
        /// Ids of the keys that the signatures name.
        key_ids: Vec<Digest>,
    },
    /// Too few of those whom we trust signed.
    #[error("{found} trusted {} signed this release, {threshold} must",
        if *found == 1 { "key" } else { "keys" })]
    TooFewSigners {
        /// Trusted keys with a good signature.
        found: usize,
        /// How many there must be.
        threshold: usize,
    },
    /// The signer's key was revoked.
    #[error("the key `{name}` ({}) that signed it was revoked: {reason}", key_id.short())]
    RevokedKey {
        /// Name of the key.
        name: String,
        /// Its id.
        key_id: Digest,
        /// Why it was revoked.
        reason: String,
    },
    /// The signer's key had retired.
    #[error("the key `{name}` ({}) that signed it retired on {last}; the release is of {day}",
        key_id.short())]
    RetiredKey {
        /// Name of the key.
        name: String,
        /// Its id.
        key_id: Digest,
        /// Its last day.
        last: Day,
        /// The day that the release claims.
        day: Day,
    },
    /// The release was withdrawn.
    #[error("the release was withdrawn: {reason}")]
    Withdrawn {
        /// Why.
        reason: String,
    },
    /// A signature that claims to be by a trusted key is not.
    #[error("the signature in the name of `{name}` ({}) is not over this manifest", key_id.short())]
    Forged {
        /// Name of the trusted key.
        name: String,
        /// Its id.
        key_id: Digest,
    },
    /// A key has two signatures.
    #[error("the key {} has more than one signature", key_id.short())]
    DuplicateSignature {
        /// Id of the key.
        key_id: Digest,
    },
    /// Key and signature disagree about being for development.
    #[error(
        "the signature says development: {signature}, but the trusted key `{name}` says \
         development: {key}"
    )]
    Purpose {
        /// Name of the trusted key.
        name: String,
        /// What the signature says.
        signature: bool,
        /// What the key says.
        key: bool,
    },
    /// The kernel command line names no root hash, or another.
    #[error(
        "the kernel command line names the root hash {}, the manifest says {expected}",
        found.as_deref().unwrap_or("of nothing")
    )]
    RootHash {
        /// Root hash by the manifest.
        expected: Digest,
        /// What the command line says.
        found: Option<String>,
    },
    /// A certificate for Secure Boot is no file of the release.
    #[error("the Secure Boot certificate `{}` is no certificate file of the release", name.escape_debug())]
    NoCertificate {
        /// The file named.
        name: String,
    },
    /// Firmware that knows the release's keys would not start it.
    #[error("`{}` would be refused by Secure Boot: {cause}", name.escape_debug())]
    BootSignature {
        /// File of the release, or path on its ESP.
        name: String,
        /// Why.
        cause: String,
    },
    /// The recipe asks for no test at all.
    #[error("the release was never booted: it has no test")]
    NoTests,
    /// A planned test has not run.
    #[error("the planned test `{test}` has not run")]
    TestNotRun {
        /// Name of the plan.
        test: String,
    },
    /// A test failed.
    #[error("the test `{test}` did not pass: {verdict}")]
    TestFailed {
        /// Name of the plan.
        test: String,
        /// What it said.
        verdict: Verdict,
    },
    /// A test booted something else.
    #[error("the test `{test}` booted the disk {}, which is not the disk of this release", disk.short())]
    TestOfAnotherDisk {
        /// Name of the plan.
        test: String,
        /// Digest of the disk that was booted.
        disk: Digest,
    },
    /// The evidence of a test is no evidence file of the release.
    #[error("the test `{test}` names `{}` as evidence, which is no evidence file of the release",
        name.escape_debug())]
    NoEvidence {
        /// Name of the plan.
        test: String,
        /// The file named.
        name: String,
    },
    /// Something is in the root that must not be there, and nobody waived it.
    #[error("`{}` must not be in the image ({rule})", path.escape_debug())]
    Unclean {
        /// The rule that found it.
        rule: String,
        /// Path in the image.
        path: String,
    },
    /// A waiver without a reason.
    #[error("`{what}` is waived without a reason")]
    WaiverWithoutReason {
        /// What was waived.
        what: String,
    },
}

impl Problem {
    /// What a person can do about it, where that is more than getting a whole release.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NobodyToTrust => Some(
                "put the publisher's .pub file into the trust folder, or name it with `--trust`",
            ),
            Self::NotTrusted { .. } | Self::TestResultNotTrusted { .. } => {
                Some("if you know the signer, put its .pub file into the trust folder")
            }
            Self::TooFewSigners { .. } => {
                Some("have it signed by more of the trusted keys: baker sign RELEASE --key KEY")
            }
            Self::RevokedKey { .. } | Self::RetiredKey { .. } | Self::Withdrawn { .. } => {
                Some("get a newer release from whoever published it")
            }
            Self::NoTests | Self::TestNotRun { .. } | Self::TestFailed { .. } => {
                Some("mend the image and test it again, or record a waiver of `tests`")
            }
            Self::Unclean { .. } => Some("bake it again to see how each is mended"),
            Self::WaiverWithoutReason { .. } => Some("give the waiver a reason"),
            Self::Extra { .. } => Some("move it out of the release folder"),
            _ => None,
        }
    }
}

/// Something that is allowed and that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(
    tag = "warning",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Warning {
    /// The signature is a developer's.
    #[error(
        "SIGNED BY A LOCAL DEVELOPMENT KEY (`{name}`, {}): never use it in production",
        key_id.short()
    )]
    Development {
        /// Name of the key.
        name: String,
        /// Its id.
        key_id: Digest,
    },
    /// A check was left out knowingly.
    #[error("waived: {what} ({reason})")]
    Waived {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
    /// A test passed and had something to say.
    #[error("the test `{test}` passed with warnings: {}", warnings.join("; "))]
    TestWarned {
        /// Name of the plan.
        test: String,
        /// What it said.
        warnings: Vec<String>,
    },
    /// A problem that a waiver excuses.
    #[error("excused by a waiver: {problem}")]
    Excused {
        /// The problem.
        problem: Problem,
    },
    /// A signature that does not count, beside enough that do.
    #[error("not counted: {problem}")]
    NotCounted {
        /// Why.
        problem: Problem,
    },
    /// Someone else signed too.
    #[error("also signed by {}, which is not trusted here; that signature was not checked",
        key_id.short())]
    UnknownSigner {
        /// Id of the key.
        key_id: Digest,
    },
    /// The recipe had changes that are in no commit.
    #[error("the recipe had changes that are not in commit {commit}")]
    DirtySource {
        /// The commit.
        commit: String,
    },
    /// The recipe was outside of any work tree, or the release is from before this was said.
    #[error("the recipe was in no commit: nobody can look up where it comes from")]
    NoSource,
    /// The folder has another name than the release.
    #[error("the folder is called `{found}`, but this is the release `{expected}`")]
    Renamed {
        /// Name by the manifest.
        expected: String,
        /// Name of the folder.
        found: String,
    },
}

fn ids(key_ids: &[Digest]) -> String {
    if key_ids.is_empty() {
        return "no signer".to_owned();
    }
    key_ids
        .iter()
        .map(Digest::short)
        .collect::<Vec<_>>()
        .join(", ")
}

/// An error and its causes in one line, for reports that hold plain data.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
