//! Signs a release: from a staged folder and its manifest to one that can be published.
//!
//! Takes a [`Draft`], gives a [`Signed`]; writes `SHA256SUMS`, `manifest.json` and last
//! `manifest.json.sig` into the staged folder, and the signed statement of what its tests said. Never signs what would not verify: every file is
//! read again and compared with the manifest, and a release without passed tests needs a recorded
//! waiver.

use std::io;
use std::path::{Path, PathBuf};

use baker_model::event::Outcome;
use baker_model::{Digest, Event, Interrupt, Listener, Manifest};

use crate::atomic::{self, Existing};
use crate::claims;
use crate::envelope::Envelope;
use crate::folder::{self, Interrupted, Watch};
use crate::names::{MANIFEST, SIGNATURES, SUMS};
use crate::report::Problem;
use crate::signer::{Signer, SigningError};
use crate::statements::{self, Standing};
use crate::sums;

/// A staged release that nobody has signed. It can be signed and nothing else.
#[derive(Debug)]
pub struct Draft {
    folder: PathBuf,
    manifest: Manifest,
}

/// A signed release in its staged folder. It can be signed by more keys and published.
#[derive(Debug)]
pub struct Signed {
    folder: PathBuf,
    manifest: Manifest,
    envelope: Envelope,
    statements: Vec<Standing>,
}

/// A release cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The release would not verify.
    #[error("refuse to sign {}: {}", folder.display(), list(problems))]
    NotReady {
        /// The staged folder.
        folder: PathBuf,
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
    /// The key does not sign.
    #[error("cannot sign {}", folder.display())]
    Key {
        /// The staged folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: SigningError,
    },
    /// A signed file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody asked to stop.
    #[error("interrupted while signing {}", folder.display())]
    Interrupted {
        /// The staged folder.
        folder: PathBuf,
    },
}

impl SignError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NotReady { problems, .. } => {
                problems.iter().find_map(Problem::help).map(str::to_owned)
            }
            Self::Key { source, .. } => source.help(),
            Self::Write { .. } | Self::Interrupted { .. } => None,
        }
    }
}

impl Draft {
    /// Takes the files that lie in `folder` under the names that `manifest` gives them.
    #[must_use]
    pub fn new(folder: PathBuf, manifest: Manifest) -> Self {
        Self { folder, manifest }
    }

    /// Checks the draft and signs it with the key of `signer`.
    ///
    /// # Errors
    /// The draft would not verify (all reasons are listed), the key does not sign, a file cannot
    /// be written, or `interrupt` was raised.
    pub fn sign(
        self,
        signer: &dyn Signer,
        listener: &dyn Listener,
        interrupt: &Interrupt,
    ) -> Result<Signed, SignError> {
        let watch = Watch {
            stage: "sign",
            listener,
            interrupt,
        };
        let total = self
            .manifest
            .files
            .iter()
            .fold(0_u64, |sum, f| sum.saturating_add(f.size));
        listener.event(Event::Started {
            stage: watch.stage,
            total: Some(total),
            unit: "bytes",
        });
        let mut problems = claims::check(&self.manifest).problems;
        let files = folder::check(&self.folder, &self.manifest.files, watch);
        problems.extend(files.map_err(|Interrupted| SignError::Interrupted {
            folder: self.folder.clone(),
        })?);
        if !problems.is_empty() {
            return Err(SignError::NotReady {
                folder: self.folder,
                problems,
            });
        }
        let message = self.manifest.to_bytes();
        let mut signed = Signed {
            statements: statements::of(&self.manifest),
            folder: self.folder,
            manifest: self.manifest,
            envelope: Envelope::new(),
        };
        signed.add(signer)?;
        signed.write(
            SUMS,
            sums::text(&signed.manifest, &Digest::of(&message)).as_bytes(),
        )?;
        signed.write(MANIFEST, &message)?;
        signed.write_signatures()?;
        let public = signer.public();
        let summary = format!("key {} ({})", public.name(), public.id().short());
        listener.event(Event::Finished {
            stage: watch.stage,
            how: Outcome::Done,
            summary,
        });
        Ok(signed)
    }
}

impl Signed {
    /// Adds the signature of one more key.
    ///
    /// # Errors
    /// The key does not sign, or a signature file cannot be written; the old one stands then.
    pub fn countersign(mut self, signer: &dyn Signer) -> Result<Self, SignError> {
        self.add(signer)?;
        self.write_signatures()?;
        Ok(self)
    }

    fn add(&mut self, signer: &dyn Signer) -> Result<(), SignError> {
        let folder = &self.folder;
        let failed = |source| SignError::Key {
            folder: folder.clone(),
            source,
        };
        let message = self.manifest.to_bytes();
        self.envelope.sign(&message, signer).map_err(failed)?;
        for statement in &mut self.statements {
            statement.envelope.sign(signer).map_err(failed)?;
        }
        Ok(())
    }

    /// The manifest's signatures come last: without them the folder is no release.
    fn write_signatures(&self) -> Result<(), SignError> {
        for statement in &self.statements {
            self.write(statement.file, &statement.envelope.to_bytes())?;
        }
        self.write(SIGNATURES, &self.envelope.to_bytes())
    }

    /// The manifest that was signed.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The staged folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SignError> {
        let path = self.folder.join(name);
        atomic::write(&path, bytes, 0o644, Existing::Replace)
            .map_err(|source| SignError::Write { path, source })
    }
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
