//! Signs a release: from a staged folder and its manifest to one that can be published.
//!
//! Takes a [`Draft`], gives a [`Signed`]; writes `SHA256SUMS`, `manifest.json` and last
//! `manifest.json.sig` into the staged folder, and the signed statements beside them. Never signs
//! what would not verify: every file is read again and compared with the manifest, and a release
//! without passed tests needs a recorded waiver.

use std::io;
use std::path::{Path, PathBuf};

use baker_model::event::Outcome;
use baker_model::{Digest, Event, Interrupt, Listener, Manifest};

use crate::atomic::{self, Existing};
use crate::claims;
use crate::dsse;
use crate::envelope::Envelope;
use crate::folder::{self, Interrupted, Watch};
use crate::names::{MANIFEST, SIGNATURES, SUMS};
use crate::report::{Problem, chain};
use crate::request::Request;
use crate::signer::{Signer, SigningError};
use crate::statements::{self, Standing};
use crate::sums;

/// Name of the stage.
const STAGE: &str = "sign";

/// The largest manifest or signature file that is read, bytes.
const FILE_LIMIT: u64 = 64 * 1024 * 1024;

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
    /// The folder holds no release that can be signed.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
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
            Self::Read { .. } => {
                Some("name the folder of a release, or of a draft with its manifest".to_owned())
            }
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

    /// A draft whose manifest lies in its folder.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(folder: &Path) -> Result<Self, SignError> {
        let path = folder.join(MANIFEST);
        let manifest = Manifest::parse(&read(&path)?).map_err(|error| SignError::Read {
            path,
            cause: chain(&error),
        })?;
        Ok(Self::new(folder.to_owned(), manifest))
    }

    /// What is to be signed of it, for keys that are elsewhere.
    ///
    /// # Errors
    /// The draft would not verify (all reasons are listed), or `interrupt` was raised.
    pub fn request(
        &self,
        listener: &dyn Listener,
        interrupt: &Interrupt,
    ) -> Result<Request, SignError> {
        let statements = self.check(listener, interrupt)?;
        Ok(Request::of_release(&self.manifest, &statements))
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
        let statements = self.check(listener, interrupt)?;
        let message = self.manifest.to_bytes();
        let mut signed = Signed {
            statements,
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
            stage: STAGE,
            how: Outcome::Done,
            summary,
        });
        Ok(signed)
    }

    /// Refuses what would not verify; gives the statements that go with it.
    fn check(
        &self,
        listener: &dyn Listener,
        interrupt: &Interrupt,
    ) -> Result<Vec<Standing>, SignError> {
        let watch = Watch {
            stage: STAGE,
            listener,
            interrupt,
        };
        let files = self.manifest.files.iter();
        let total = files.fold(0_u64, |sum, file| sum.saturating_add(file.size));
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
        let statements = statements::of(&self.folder, &self.manifest)
            .map_err(|problem| problems.push(problem))
            .unwrap_or_default();
        if problems.is_empty() {
            return Ok(statements);
        }
        Err(SignError::NotReady {
            folder: self.folder.clone(),
            problems,
        })
    }
}

impl Signed {
    /// A release that is signed already, to be signed by more keys. Whose the signatures are is
    /// not looked at.
    ///
    /// # Errors
    /// It cannot be read, is not what its manifest says, or `interrupt` was raised.
    pub fn open(
        folder: &Path,
        listener: &dyn Listener,
        interrupt: &Interrupt,
    ) -> Result<Self, SignError> {
        let draft = Draft::open(folder)?;
        let mut statements = draft.check(listener, interrupt)?;
        let path = folder.join(SIGNATURES);
        let failed = |path: &Path, cause: String| SignError::Read {
            path: path.to_owned(),
            cause,
        };
        let envelope = Envelope::parse(&read(&path)?);
        let envelope = envelope.map_err(|error| failed(&path, chain(&error)))?;
        for statement in &mut statements {
            let path = folder.join(statement.file);
            let found = dsse::Envelope::parse(&read(&path)?);
            let found = found.map_err(|error| failed(&path, chain(&error)))?;
            if found.message() != statement.envelope.message() {
                let cause = "it says something else than the manifest".to_owned();
                return Err(failed(&path, cause));
            }
            statement.envelope = found;
        }
        Ok(Self {
            folder: draft.folder,
            manifest: draft.manifest,
            envelope,
            statements,
        })
    }

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

/// The bytes of a file of the release.
fn read(path: &Path) -> Result<Vec<u8>, SignError> {
    let file = atomic::open_regular(path);
    file.and_then(|file| atomic::read_limited(&file, FILE_LIMIT))
        .map_err(|error| SignError::Read {
            path: path.to_owned(),
            cause: error.to_string(),
        })
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
