//! The main job behind its last doors: bake, test, sign, publish.

use std::path::{Path, PathBuf};
use std::{fs, io};

use baker_model::manifest::{FileRole, ReleaseFile, TestFact, Waiver};
use baker_model::recipe::Format;
use baker_model::{Digest, Manifest};
use baker_ship::{SignError, Signed, Signer, TargetError};

use super::bake::{BakeRequest, Draft, bake, work_folder};
use super::host::Host;
use super::hygiene;
use super::report::{Copies, HTML, write_reports};
use super::smoke::{self, Booted, REPORT};
use super::{EVIDENCE, Names, evidence_folder};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::source::RecipeFolder;

/// Folder inside the evidence for the draft of a release that failed its test.
const FAILED_DRAFT: &str = "draft";

/// What a release is made of.
pub struct ReleaseRequest<'a> {
    /// What is baked.
    pub bake: BakeRequest<'a>,
    /// Folder of releases.
    pub to: &'a Path,
    /// Folder of evidence, kept also when a test fails.
    pub evidence: &'a Path,
    /// What becomes of the tested draft.
    pub ending: Ending<'a>,
    /// What to boot with; none when the tests are waived for `waiver`.
    pub host: Option<&'a Host>,
    /// Why there is no test.
    pub waiver: Option<&'a str>,
    /// The release that this one must be equal to; none when it is a new one.
    pub expected: Option<&'a Manifest>,
}

/// What becomes of a tested draft.
#[derive(Clone, Copy)]
pub enum Ending<'a> {
    /// It is signed and becomes a release.
    Signed(&'a dyn Signer),
    /// It stays a draft, for keys that are elsewhere.
    Draft,
}

/// A release in its place, or a draft.
pub struct Published {
    /// The folder.
    pub path: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
}

/// Says early what publishing would say late.
pub fn refuse_existing(folder: &RecipeFolder, to: &Path) -> Result<(), Failure> {
    baker_ship::refuse_existing(to, &Names::of(&folder.recipe).folder).map_err(publish_failure)
}

/// Bakes, tests, signs and publishes; nothing has a final name until all of it is well.
pub fn release(request: &ReleaseRequest<'_>, context: &Context) -> Result<Published, Failure> {
    let names = Names::of(&request.bake.folder.recipe);
    let work = work_folder(request.to, &names, context)?;
    let mut draft = bake(request.bake, &work, context)?;
    hygiene::refuse(&draft.manifest)?;
    if let Some(expected) = request.expected {
        refuse_other(expected, &draft.manifest)?;
    }
    if let Some(reason) = request.waiver {
        draft.manifest.waivers.push(Waiver::new("tests", reason));
    }
    if let Some(host) = request.host {
        prove(request, &mut draft, host, context)?;
    }
    let manifest = draft.manifest.clone();
    let path = match request.ending {
        Ending::Draft => super::bake::place(draft, request.to, &names, context)?.path,
        Ending::Signed(signer) => {
            let signed = baker_ship::Draft::new(draft.path, draft.manifest)
                .sign(signer, context.listener(), context.interrupt())
                .map_err(|error| sign_failure(error, context))?;
            publish(signed, request.to, context)?
        }
    };
    context.show_timings();
    Ok(Published { path, manifest })
}

/// Puts a signed release into the folder of releases `to`; gives its place.
pub fn publish(signed: Signed, to: &Path, context: &Context) -> Result<PathBuf, Failure> {
    let path = baker_ship::to_folder(signed, to, context.listener(), context.interrupt()).map_err(
        |error| {
            if context.interrupt().is_raised() {
                context.failure(Exit::Publish, error)
            } else {
                publish_failure(error)
            }
        },
    )?;
    // The release is there for ever by now; what follows from it can be made again.
    let key = context.gpg_key(None)?;
    if let Err(failure) = super::sysupdate::offer(to, &path, key.as_ref(), context) {
        let problem = failure.causes().join(": ");
        context
            .printer()
            .warn(&format!("{problem}; make it again with: baker publish"));
    }
    Ok(path)
}

/// Compares what was made again with what it must be. Forms of the disk also hold signatures for
/// Secure Boot: they are equal where the same keys signed, and the root is in any case.
fn refuse_other(expected: &Manifest, found: &Manifest) -> Result<(), Failure> {
    let same_keys = expected.secure_boot == found.secure_boot;
    let differs = |file: &&ReleaseFile| {
        let made = found.files.iter().find(|made| made.name == file.name);
        is_made_again(file.role, same_keys) && made.map(|made| made.sha256) != Some(file.sha256)
    };
    let what = match expected.files.iter().find(differs) {
        _ if expected.root_hash != found.root_hash => "root",
        Some(file) => file.name.as_str(),
        None => return Ok(()),
    };
    let problem = format!("the {what} that was made is another than that of the bundled release");
    Err(Failure::message(Exit::Build, problem).help(format!(
        "use the program in the bundle: baker {} made the release, this is baker {}",
        expected.baker.version, found.baker.version
    )))
}

/// True for what a second bake with the same keys for Secure Boot, or with others, must make equal.
fn is_made_again(role: FileRole, same_keys: bool) -> bool {
    use FileRole::{Certificate, Disk, Evidence, Iso, Qcow2, Scripts, Uki, Vhd, VhdFixed, Vmdk};
    match role {
        // Both say how long something took.
        Evidence | Scripts => false,
        Certificate | Disk | Iso | Qcow2 | Uki | Vhd | VhdFixed | Vmdk => same_keys,
        _ => true,
    }
}

/// Boots the draft by every plan and puts verdicts and evidence into it.
fn prove(
    request: &ReleaseRequest<'_>,
    draft: &mut Draft,
    host: &Host,
    context: &Context,
) -> Result<(), Failure> {
    let names = Names::of(&request.bake.folder.recipe);
    let folder = evidence_folder(request.evidence, &names.folder);
    let booted = Booted::new(draft.path.clone(), draft.manifest.clone());
    let plans = &request.bake.folder.recipe.tests;
    let mut results = smoke::test(&booted, plans, host, &folder, context)?;
    if results.iter().any(smoke::Result::is_failed) {
        keep_failed(draft, &mut results, &folder)?;
    }
    let report = write_reports(&names.folder, &results, &folder, Copies::default())?;
    smoke::refuse_failed(&results, &report)?;
    keep(draft, &report, HTML)?;
    for result in &results {
        let title = result.evidence.plan.title();
        for file in [REPORT, &result.evidence.serial_log] {
            keep(draft, &result.folder.join(file), &format!("{title}/{file}"))?;
        }
        draft.manifest.tests.push(TestFact {
            name: title.to_owned(),
            verdict: result.evidence.verdict.clone(),
            disk: booted_digest(result, &draft.manifest),
            milliseconds: result.evidence.milliseconds,
            evidence: format!("{EVIDENCE}/{title}/{REPORT}"),
            warnings: result.evidence.warnings.clone(),
        });
    }
    draft
        .manifest
        .files
        .sort_by(|left, right| left.name.cmp(&right.name));
    Ok(())
}

/// The digest of the file that was booted. Of a pair the digest of the larger one: the test has
/// compared both with the manifest.
fn booted_digest(result: &smoke::Result, manifest: &Manifest) -> Digest {
    let plan = &result.evidence.plan;
    let file = (plan.format == Format::Netboot).then(|| manifest.file(plan.booted()));
    file.flatten()
        .map_or(result.evidence.disk_after, |file| file.sha256)
}

/// Moves the draft of a failed release beside its evidence: the command that repeats a test boots
/// its disk, and the work folder is about to go.
fn keep_failed(
    draft: &Draft,
    results: &mut [smoke::Result],
    evidence: &Path,
) -> Result<(), Failure> {
    let target = evidence.join(FAILED_DRAFT);
    let keep = || {
        let target = std::path::absolute(&target)?;
        if target.symlink_metadata().is_ok() {
            fs::remove_dir_all(&target)?;
        }
        fs::write(
            draft.path.join(baker_ship::MANIFEST),
            draft.manifest.to_bytes(),
        )?;
        fs::rename(&draft.path, &target)?;
        Ok((std::path::absolute(&draft.path)?, target))
    };
    let (from, to) = keep().map_err(|error: io::Error| {
        Failure::new(Exit::Internal, error).context(format!("cannot keep {}", target.display()))
    })?;
    let (from, to) = (from.display().to_string(), to.display().to_string());
    for result in results {
        result.evidence.command = result.evidence.command.replace(&from, &to);
        smoke::write_report(&result.folder, &result.evidence)?;
    }
    Ok(())
}

/// Copies a file of the evidence into the draft and names it in the manifest.
fn keep(draft: &mut Draft, from: &Path, name: &str) -> Result<(), Failure> {
    let name = format!("{EVIDENCE}/{name}");
    let target = draft.path.join(&name);
    let copy = || {
        let bytes = fs::read(from)?;
        fs::create_dir_all(target.parent().unwrap_or(&draft.path))?;
        fs::write(&target, &bytes)?;
        Ok(bytes)
    };
    let bytes = copy().map_err(|error: io::Error| {
        Failure::new(Exit::Internal, error).context(format!("cannot keep {name}"))
    })?;
    draft.manifest.files.push(ReleaseFile {
        name,
        role: FileRole::Evidence,
        size: bytes.len() as u64,
        sha256: Digest::of(&bytes),
    });
    Ok(())
}

/// The error of the sign stage, with its own mend.
pub fn sign_failure(error: SignError, context: &Context) -> Failure {
    let help = error.help();
    let failure = context.failure(Exit::Publish, error);
    match help {
        Some(help) if failure.exit == Exit::Publish => failure.help(help),
        _ => failure,
    }
}

fn publish_failure(error: TargetError) -> Failure {
    let help = error.help();
    Failure::new(Exit::Publish, error).help_if(help)
}
