//! Checks a release offline, by its folder alone, and reports everything that is wrong.
//!
//! Takes a folder and whom to trust, gives a [`Report`]. Never stops at the first problem, never
//! follows a symbolic link, never writes, never looks at the network.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use baker_model::event::Outcome;
use baker_model::manifest::ReleaseFile;
use baker_model::plan::Day;
use baker_model::{Digest, Event, Interrupt, Listener, Manifest};

use crate::atomic;
use crate::claims;
use crate::envelope::{Envelope, ManifestSignature};
use crate::folder::{self, Interrupted, Watch};
use crate::names::{MANIFEST, PROVENANCE, SIGNATURES, SUMS, TEST_RESULT, release_folder_name};
use crate::report::{Facts, Problem, Report, SignedBy, Warning, chain};
use crate::sums;
use crate::trust::Trust;
use crate::{provenance, test_result};

/// The largest manifest, signature or sums file that is read, bytes.
const FILE_LIMIT: u64 = 64 * 1024 * 1024;

/// The check could not be made at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no such folder.
    #[error("cannot open the release {}", folder.display())]
    Open {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody asked to stop.
    #[error("interrupted while verifying {}", folder.display())]
    Interrupted {
        /// The folder.
        folder: PathBuf,
    },
}

/// Verifies the release in `folder`.
///
/// # Errors
/// The folder cannot be opened, or `interrupt` was raised. What is wrong with the release is not
/// an error but in the report.
pub fn verify(
    folder: &Path,
    trust: &Trust,
    listener: &dyn Listener,
    interrupt: &Interrupt,
) -> Result<Report, VerifyError> {
    let open = |source| VerifyError::Open {
        folder: folder.to_owned(),
        source,
    };
    drop(std::fs::read_dir(folder).map_err(open)?);
    let watch = Watch {
        stage: "verify",
        listener,
        interrupt,
    };
    let all = |_: &ReleaseFile| true;
    let report =
        check(folder, trust, all, watch).map_err(|Interrupted| VerifyError::Interrupted {
            folder: folder.to_owned(),
        })?;
    let summary = match (&report.facts, report.problems.len()) {
        (Some(facts), 0) => format!("{} files, {} bytes, no problems", facts.files, facts.bytes),
        (_, count) => format!("{count} problems"),
    };
    listener.event(Event::Finished {
        stage: watch.stage,
        how: Outcome::Done,
        summary,
    });
    Ok(report)
}

/// Verifies what of a release lies in `folder`: the signed lists, and those files for which
/// `is_there` holds. That the others are what the manifest says is for the caller to see.
pub(crate) fn check(
    folder: &Path,
    trust: &Trust,
    is_there: impl Fn(&ReleaseFile) -> bool,
    watch: Watch<'_>,
) -> Result<Report, Interrupted> {
    let mut report = Report {
        problems: Vec::new(),
        warnings: Vec::new(),
        facts: None,
    };
    let bytes = read(folder, MANIFEST, &mut report.problems);
    let manifest = bytes
        .as_deref()
        .and_then(|bytes| match Manifest::parse(bytes) {
            Ok(manifest) => Some(manifest),
            Err(error) => {
                report.problems.push(Problem::BadManifest {
                    cause: chain(&error),
                });
                None
            }
        });
    let files = manifest
        .as_ref()
        .map_or(&[][..], |manifest| &manifest.files);
    let total = files
        .iter()
        .fold(0_u64, |sum, file| sum.saturating_add(file.size));
    let started = Event::Started {
        stage: watch.stage,
        total: Some(total),
        unit: "bytes",
    };
    watch.listener.event(started);
    let message = bytes.unwrap_or_default();
    let epoch = manifest
        .as_ref()
        .and_then(|manifest| u64::try_from(manifest.epoch).ok());
    let day = epoch.map(Day::of_unix);
    let signers = check_signatures(folder, &message, day, trust, &mut report);
    let Some(manifest) = manifest else {
        return Ok(report);
    };
    if let Some(bytes) = read(folder, TEST_RESULT, &mut report.problems) {
        test_result::check(&bytes, &manifest, trust, &mut report);
    }
    check_provenance(folder, &manifest, trust, &mut report.problems);
    let claims = claims::check(&manifest);
    report.problems.extend(claims.problems);
    report.warnings.extend(claims.warnings);
    let files: Vec<_> = manifest
        .files
        .iter()
        .filter(|file| is_there(file))
        .cloned()
        .collect();
    report
        .problems
        .extend(folder::check(folder, &files, watch)?);
    let identity = Digest::of(&message);
    if let Some(reason) = trust.withdrawn(&identity) {
        let reason = reason.to_owned();
        report.problems.push(Problem::Withdrawn { reason });
    }
    check_sums(folder, &manifest, &identity, &mut report.problems);
    check_folder_name(folder, &manifest, &mut report.warnings);
    report.facts = Some(Facts {
        name: manifest.name,
        version: manifest.version,
        architecture: manifest.architecture,
        manifest: identity,
        root_hash: manifest.root_hash,
        files: manifest.files.len(),
        bytes: total,
        signed_by: signers,
    });
    Ok(report)
}

/// Checks where the release says that it comes from; one without provenance may have no file of it.
fn check_provenance(
    folder: &Path,
    manifest: &Manifest,
    trust: &Trust,
    problems: &mut Vec<Problem>,
) {
    let name = PROVENANCE.to_owned();
    if !provenance::is_told(manifest) {
        let is_there = folder.join(PROVENANCE).symlink_metadata().is_ok();
        return problems.extend(is_there.then_some(Problem::Extra { name }));
    }
    let Some(bytes) = read(folder, PROVENANCE, problems) else {
        return;
    };
    match provenance::lock(folder, manifest) {
        Ok(lock) => provenance::check(&bytes, manifest, &lock, trust, problems),
        Err(problem) => problems.push(problem),
    }
}

/// The bytes of one of the files that every release has.
fn read(folder: &Path, name: &str, problems: &mut Vec<Problem>) -> Option<Vec<u8>> {
    let file = atomic::open_regular(&folder.join(name));
    match file.and_then(|file| atomic::read_limited(&file, FILE_LIMIT)) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let name = name.to_owned();
            problems.push(match error.kind() {
                io::ErrorKind::NotFound => Problem::Missing { name },
                _ => Problem::Unreadable {
                    name,
                    cause: error.to_string(),
                },
            });
            None
        }
    }
}

/// Checks the signatures over `message`, the manifest of a release of that `day`, and gives the
/// trusted signers.
fn check_signatures(
    folder: &Path,
    message: &[u8],
    day: Option<Day>,
    trust: &Trust,
    report: &mut Report,
) -> Vec<SignedBy> {
    if trust.is_empty() {
        report.problems.push(Problem::NobodyToTrust);
    }
    let Some(bytes) = read(folder, SIGNATURES, &mut report.problems) else {
        return Vec::new();
    };
    let envelope = match Envelope::parse(&bytes) {
        Ok(envelope) => envelope,
        Err(error) => {
            report.problems.push(Problem::BadSignatures {
                cause: chain(&error),
            });
            return Vec::new();
        }
    };
    let signers = judge_all(&envelope, message, day, trust, report);
    let of_development = signers.iter().filter(|signer| signer.development);
    report
        .warnings
        .extend(of_development.map(|signer| Warning::Development {
            name: signer.name.clone(),
            key_id: signer.key_id,
        }));
    signers
}

/// What is to be said of one signature.
enum Judged {
    Good(SignedBy),
    Forged,
    /// Nobody whom we know.
    Unknown(Digest),
    /// By somebody whom we would believe, if it were not for this.
    Spent(Problem),
}

fn judge_all(
    envelope: &Envelope,
    message: &[u8],
    day: Option<Day>,
    trust: &Trust,
    report: &mut Report,
) -> Vec<SignedBy> {
    let (mut signers, mut unknown, mut spent) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seen, mut forged) = (BTreeSet::new(), false);
    for signature in &envelope.signatures {
        let key_id = signature.key_id;
        if !seen.insert(key_id) {
            report.problems.push(Problem::DuplicateSignature { key_id });
            continue;
        }
        match judge(signature, message, day, trust, &mut report.problems) {
            Judged::Good(signer) => signers.push(signer),
            Judged::Forged => forged = true,
            Judged::Unknown(key_id) => unknown.push(key_id),
            Judged::Spent(problem) => spent.push(problem),
        }
    }
    let (found, threshold) = (signers.len(), trust.threshold().get());
    if found >= threshold {
        let others = unknown
            .into_iter()
            .map(|key_id| Warning::UnknownSigner { key_id });
        report.warnings.extend(others);
        let spent = spent
            .into_iter()
            .map(|problem| Warning::NotCounted { problem });
        report.warnings.extend(spent);
    } else if !forged && !trust.is_empty() {
        let unexplained = spent.is_empty();
        report.problems.extend(spent);
        if found > 0 {
            report
                .problems
                .push(Problem::TooFewSigners { found, threshold });
        } else if unexplained {
            report
                .problems
                .push(Problem::NotTrusted { key_ids: unknown });
        }
    }
    signers
}

fn judge(
    signature: &ManifestSignature,
    message: &[u8],
    day: Option<Day>,
    trust: &Trust,
    problems: &mut Vec<Problem>,
) -> Judged {
    let key_id = signature.key_id;
    if let Some(revoked) = trust.revoked(&key_id) {
        return Judged::Spent(Problem::RevokedKey {
            name: revoked.key.name().to_owned(),
            key_id,
            reason: revoked.reason.clone(),
        });
    }
    let Some(key) = trust.get(&key_id) else {
        return Judged::Unknown(key_id);
    };
    let name = key.name().to_owned();
    let fits = signature.algorithm == key.algorithm();
    if !fits || !key.accepts(message, &signature.signature.0) {
        problems.push(Problem::Forged { name, key_id });
        return Judged::Forged;
    }
    if let (Some(last), Some(day)) = (trust.retired(&key_id), day)
        && day > last
    {
        return Judged::Spent(Problem::RetiredKey {
            name,
            key_id,
            last,
            day,
        });
    }
    let development = key.purpose().is_development();
    if signature.development != development {
        let (signature, key) = (signature.development, development);
        problems.push(Problem::Purpose {
            name: name.clone(),
            signature,
            key,
        });
    }
    Judged::Good(SignedBy {
        name,
        key_id,
        development: development || signature.development,
    })
}

fn check_sums(folder: &Path, manifest: &Manifest, identity: &Digest, problems: &mut Vec<Problem>) {
    let Some(found) = read(folder, SUMS, problems) else {
        return;
    };
    let expected = sums::text(manifest, identity);
    if found == expected.as_bytes() {
        return;
    }
    let lines = |bytes: &[u8]| {
        bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let (found, expected) = (lines(&found), lines(expected.as_bytes()));
    let same = found
        .iter()
        .zip(&expected)
        .take_while(|(a, b)| a == b)
        .count();
    problems.push(Problem::Sums { line: same + 1 });
}

/// An old release under a new name would be a silent downgrade.
fn check_folder_name(folder: &Path, manifest: &Manifest, warnings: &mut Vec<Warning>) {
    let expected = release_folder_name(manifest);
    let real = folder.canonicalize();
    let name = real.as_ref().ok().and_then(|path| path.file_name());
    if let Some(found) = name.map(|name| name.to_string_lossy().into_owned())
        && found != expected
    {
        warnings.push(Warning::Renamed { expected, found });
    }
}
