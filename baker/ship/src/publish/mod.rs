//! Puts a signed release into a folder of releases, wholly or not at all.
//!
//! Takes a [`Signed`] and the folder `to`, gives a [`Publication`]. Everything is gathered in a
//! hidden folder beside the target, made durable, and renamed once:
//!
//! ```text
//! to/.minimal-1.0.0.partial-4711/   files come in, each synced
//! to/minimal-1.0.0/                 there in one step (renameat2, RENAME_NOREPLACE)
//! ```
//!
//! Never replaces a release, never leaves one half-named. A run that is killed leaves at most the
//! hidden folder, which the next run removes; the staged files stay where they were until the
//! release has its name.

mod partial;
mod transfer;

use std::io;
use std::path::{Path, PathBuf};

use baker_model::event::Outcome;
use baker_model::{Digest, Event, Interrupt, Listener, Manifest};

use crate::atomic;
use crate::folder::{Interrupted, Watch};
use crate::names::{MANIFEST, SIGNATURES, SUMS, release_folder_name};
use crate::sign::Signed;
use crate::statements;
use partial::Partial;

/// A release in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The folder of the release.
    pub folder: PathBuf,
    /// SHA-256 of its `manifest.json`: the identity of the release.
    pub manifest: Digest,
    /// Number of files, the signed lists included.
    pub files: usize,
}

/// A release cannot be published; nothing was published then.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is a release of this name and version, or something else of that name.
    #[error("{} is already there, and a release is never replaced", folder.display())]
    AlreadyThere {
        /// The folder.
        folder: PathBuf,
    },
    /// Another baker is publishing the same release at this moment.
    #[error("another baker is publishing into {} right now", partial.display())]
    Busy {
        /// The hidden folder.
        partial: PathBuf,
    },
    /// The output folder cannot be written to.
    #[error("cannot write into {}", path.display())]
    ReadOnly {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No space is left, or a quota is used up.
    #[error("no space is left for {}", path.display())]
    Full {
        /// The file that did not fit.
        path: PathBuf,
        /// Bytes that the release needs at most.
        needed: u64,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// A staged file cannot be read.
    #[error("cannot read the staged file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody asked to stop.
    #[error("interrupted while publishing {}", folder.display())]
    Interrupted {
        /// The folder that the release would have had.
        folder: PathBuf,
    },
}

impl PublishError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::AlreadyThere { folder } => Some(format!(
                "raise `version` in the recipe, or remove the old one: rm -r {}",
                folder.display()
            )),
            Self::Busy { .. } => Some("wait for the other baker to end".to_owned()),
            Self::ReadOnly { .. } => {
                Some("name a folder that you can write to with `--to`".to_owned())
            }
            Self::Full { needed, .. } => Some(format!(
                "make room for up to {needed} bytes, or name a folder elsewhere with `--to`"
            )),
            Self::Read { .. } | Self::Write { .. } | Self::Interrupted { .. } => None,
        }
    }

    /// Sorts a failure to write `path` by what a person would do about it.
    fn of_write(path: &Path, needed: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                path,
                needed,
                source,
            },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, source }
            }
            _ => Self::Write { path, source },
        }
    }
}

/// Puts `signed` into the folder `to`, as `to/<name>-<version>`, and empties its staged folder.
///
/// # Errors
/// The release is already there, `to` cannot be written or is full, or `interrupt` was raised.
/// There is no trace of the release in `to` then, and the staged files are where they were.
pub fn to_folder(
    signed: Signed,
    to: &Path,
    listener: &dyn Listener,
    interrupt: &Interrupt,
) -> Result<Publication, PublishError> {
    let watch = Watch {
        stage: "publish",
        listener,
        interrupt,
    };
    let manifest = signed.manifest();
    let target = to.join(release_folder_name(manifest));
    let total = total_bytes(manifest);
    listener.event(Event::Started {
        stage: watch.stage,
        total: Some(total),
        unit: "bytes",
    });
    let failed = |source| PublishError::of_write(to, total, source);
    std::fs::create_dir_all(to).map_err(failed)?;
    if target.symlink_metadata().is_ok() {
        return Err(PublishError::AlreadyThere { folder: target });
    }
    partial::remove_leftovers(to, watch);
    let partial = Partial::create(to, &release_folder_name(manifest), total)?;
    let names = file_names(manifest);
    for name in &names {
        if let Err(Interrupted) = watch.go_on() {
            return Err(PublishError::Interrupted { folder: target });
        }
        gather(&signed, name, &partial, watch)?;
    }
    partial
        .sync()
        .map_err(|error| PublishError::of_write(partial.path(), total, error))?;
    if let Err(Interrupted) = watch.go_on() {
        return Err(PublishError::Interrupted { folder: target });
    }
    partial.rename(&target, total)?;
    atomic::sync_folder(to).map_err(failed)?;
    empty_staging(&signed, &names, watch);
    let summary = target.display().to_string();
    listener.event(Event::Finished {
        stage: watch.stage,
        how: Outcome::Done,
        summary,
    });
    let identity = Digest::of(&manifest.to_bytes());
    Ok(Publication {
        folder: target,
        manifest: identity,
        files: names.len(),
    })
}

fn total_bytes(manifest: &Manifest) -> u64 {
    manifest
        .files
        .iter()
        .fold(0, |sum, file| sum.saturating_add(file.size))
}

fn file_names(manifest: &Manifest) -> Vec<&str> {
    let named = manifest.files.iter().map(|file| file.name.as_str());
    let lists = statements::files(manifest).map(|file| -> &str { file });
    named
        .chain([MANIFEST, SIGNATURES, SUMS])
        .chain(lists)
        .collect()
}

/// Brings one staged file into the partial folder.
fn gather(
    signed: &Signed,
    name: &str,
    partial: &Partial,
    watch: Watch<'_>,
) -> Result<(), PublishError> {
    let (from, to) = (signed.folder().join(name), partial.path().join(name));
    let needed = total_bytes(signed.manifest());
    if let Some(parent) = to.parent() {
        partial
            .create_folder(parent)
            .map_err(|e| PublishError::of_write(parent, needed, e))?;
    }
    transfer::link_or_copy(&from, &to, watch).map_err(|error| match error {
        transfer::TransferError::Read(source) => PublishError::Read { path: from, source },
        transfer::TransferError::Write(source) => PublishError::of_write(&to, needed, source),
        transfer::TransferError::Interrupted => PublishError::Interrupted {
            folder: partial.path().to_owned(),
        },
    })
}

/// Removes the staged files, which have a second name or a copy in the release by now. What
/// cannot be removed is no failure of the publication.
fn empty_staging(signed: &Signed, names: &[&str], watch: Watch<'_>) {
    for name in names {
        let path = signed.folder().join(name);
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
