//! Puts a signed release into a target, wholly or not at all.
//!
//! Takes a [`Signed`] and a folder, or a [`Verified`] and any [`Target`]; gives where it is. All
//! pieces go first and each is read back out of the target and compared; what makes the release
//! visible goes last. Never replaces a release, never leaves one half-named. The staged files of a
//! [`Signed`] stay where they were until the release has its name.

use std::path::{Path, PathBuf};

use baker_model::event::Outcome;
use baker_model::{Digest, Digester, Event, Interrupt, Listener};

use crate::folder::Watch;
use crate::names::{MANIFEST, release_folder_name};
use crate::report::{Problem, Report};
use crate::sign::Signed;
use crate::target::{FolderTarget, Piece, Record, Source, Target, TargetError, Upload, record_of};

/// The largest manifest that is read, bytes.
const FILE_LIMIT: u64 = 64 << 20;

/// A release folder that has been verified and whose manifest did not change since.
#[derive(Debug)]
pub struct Verified {
    folder: PathBuf,
    record: Record,
}

/// A release in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The target.
    pub place: String,
    /// What it consists of.
    pub record: Record,
    /// Whether it was brought there now or had been before.
    pub how: Outcome,
}

/// A folder holds nothing to publish.
#[derive(Debug, thiserror::Error)]
pub enum VerifiedError {
    /// There is something wrong with it.
    #[error("refuse to publish {}: {}", folder.display(), first(problems))]
    NotGood {
        /// The folder.
        folder: PathBuf,
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
    /// It is another release by now.
    #[error("{} was changed after it was verified", folder.display())]
    Changed {
        /// The folder.
        folder: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read the release {}", folder.display())]
    Read {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: Box<TargetError>,
    },
}

impl Verified {
    /// Takes `folder`, for which verification gave `report`.
    ///
    /// # Errors
    /// The report has problems, or the folder's manifest is not the one of the report.
    pub fn new(folder: &Path, report: &Report) -> Result<Self, VerifiedError> {
        let folder = folder.to_owned();
        let facts = match &report.facts {
            Some(facts) if report.is_good() => facts,
            _ => {
                let problems = report.problems.clone();
                return Err(VerifiedError::NotGood { folder, problems });
            }
        };
        let read = || -> Result<Option<Record>, TargetError> {
            let bytes = crate::target::read_all(&folder.join(MANIFEST), FILE_LIMIT)?;
            let Some(bytes) = bytes.filter(|bytes| Digest::of(bytes) == facts.manifest) else {
                return Ok(None);
            };
            record_of(&folder, &bytes).map(|(record, _)| Some(record))
        };
        match read() {
            Ok(Some(record)) => Ok(Self { folder, record }),
            Ok(None) => Err(VerifiedError::Changed { folder }),
            Err(source) => {
                let source = Box::new(source);
                Err(VerifiedError::Read { folder, source })
            }
        }
    }

    /// What the release consists of.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// Puts a verified release into `target`. The very release that is there already is left as it
/// is.
///
/// # Errors
/// There is another release of this name and version, the target cannot be written to or gives
/// other bytes back, or `interrupt` was raised. No part of the release is visible then.
pub fn publish(
    release: &Verified,
    target: &dyn Target,
    listener: &dyn Listener,
    interrupt: &Interrupt,
) -> Result<Publication, TargetError> {
    let watch = watch(listener, interrupt);
    let record = &release.record;
    started(record, watch);
    let place = target.place();
    let how = match target.record(&record.id)? {
        Some(there) if there == *record => Outcome::Reused,
        Some(_) => {
            let place = format!("{} in {place}", record.id);
            return Err(TargetError::AlreadyThere { place });
        }
        None => {
            upload(record, &release.folder, target, watch)?;
            Outcome::Done
        }
    };
    finished(watch, how, format!("{} in {place}", record.id));
    Ok(Publication {
        place,
        record: record.clone(),
        how,
    })
}

/// Puts `signed` into the folder `to`, as `to/<name>-<version>`, empties its staged folder and
/// gives the folder of the release.
///
/// # Errors
/// The release is already there, `to` cannot be written or is full, or `interrupt` was raised.
/// There is no trace of the release in `to` then, and the staged files are where they were.
pub fn to_folder(
    signed: Signed,
    to: &Path,
    listener: &dyn Listener,
    interrupt: &Interrupt,
) -> Result<PathBuf, TargetError> {
    let watch = watch(listener, interrupt);
    let manifest = signed.manifest();
    let release = to.join(release_folder_name(manifest));
    let (record, _) = record_of(signed.folder(), &manifest.to_bytes())?;
    started(&record, watch);
    let target = FolderTarget::new(to.to_owned(), Source::Staged);
    upload(&record, signed.folder(), &target, watch)?;
    empty_staging(&signed, &record, watch);
    finished(watch, Outcome::Done, release.display().to_string());
    Ok(release)
}

/// Whether `to` can take a release of this manifest's name and version.
///
/// # Errors
/// [`TargetError::AlreadyThere`] when it cannot.
pub fn refuse_existing(to: &Path, folder_name: &str) -> Result<(), TargetError> {
    let release = to.join(folder_name);
    if release.symlink_metadata().is_ok() {
        let place = release.display().to_string();
        return Err(TargetError::AlreadyThere { place });
    }
    Ok(())
}

/// All pieces first, each read back; then the step that makes the release visible.
fn upload(
    record: &Record,
    folder: &Path,
    target: &dyn Target,
    watch: Watch<'_>,
) -> Result<(), TargetError> {
    let stop = || TargetError::Interrupted {
        place: format!("{} in {}", record.id, target.place()),
    };
    let mut upload = target.begin(record, watch)?;
    for piece in &record.pieces {
        watch.go_on().map_err(|_| stop())?;
        upload.put(piece, &folder.join(&piece.name), watch)?;
        check(upload.as_mut(), piece, target, watch)?;
    }
    watch.go_on().map_err(|_| stop())?;
    upload.finish()
}

/// Compares what the target gives back with what was to be put there.
fn check(
    upload: &mut dyn Upload,
    piece: &Piece,
    target: &dyn Target,
    watch: Watch<'_>,
) -> Result<(), TargetError> {
    let mut digester = Digester::new();
    upload.read_back(piece, &mut digester, watch)?;
    let found = digester.finish();
    if found == piece.sha256 {
        return Ok(());
    }
    Err(TargetError::Corrupt {
        place: target.place(),
        name: piece.name.clone(),
        expected: piece.sha256,
        found,
    })
}

fn watch<'a>(listener: &'a dyn Listener, interrupt: &'a Interrupt) -> Watch<'a> {
    Watch {
        stage: "publish",
        listener,
        interrupt,
    }
}

fn started(record: &Record, watch: Watch<'_>) {
    watch.listener.event(Event::Started {
        stage: watch.stage,
        total: Some(record.bytes()),
        unit: "bytes",
    });
}

fn finished(watch: Watch<'_>, how: Outcome, summary: String) {
    let stage = watch.stage;
    watch.listener.event(Event::Finished {
        stage,
        how,
        summary,
    });
}

/// Removes the staged files, which have a second name or a copy in the release by now. What
/// cannot be removed is no failure of the publication.
fn empty_staging(signed: &Signed, record: &Record, watch: Watch<'_>) {
    for piece in &record.pieces {
        let path = signed.folder().join(&piece.name);
        if let Err(error) = std::fs::remove_file(&path) {
            let text = format!("cannot remove the staged file {}: {error}", path.display());
            watch.listener.event(Event::Warning {
                stage: watch.stage,
                text,
            });
        }
        // Folders go with their last file; one that still holds something stays.
        let folders = path
            .ancestors()
            .skip(1)
            .take_while(|at| at.starts_with(signed.folder()));
        for folder in folders {
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

fn first(problems: &[Problem]) -> String {
    match problems {
        [] => "nothing is known about it".to_owned(),
        [problem] => problem.to_string(),
        [problem, rest @ ..] => format!("{problem}, and {} more problems", rest.len()),
    }
}
