//! The stage `describe`: the manifest of a release.
//!
//! Takes what the other stages know and the files of the work folder; gives the [`Manifest`].
//! Reads the files that have not been hashed yet, writes nothing, looks at no clock and no git.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use baker_model::lock::PackageRole;
use baker_model::manifest::{
    Builder, FileRole, MANIFEST_VERSION, PackageFact, ReleaseFile, SecureBoot, Source, Waiver,
};
use baker_model::{Digest, Digester, Interrupt, Lock, Manifest, Recipe};

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

/// One file that the release will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Path inside the release folder, with `/`.
    pub name: String,
    /// What it is for.
    pub role: FileRole,
    /// Where size and digest come from.
    pub bytes: Bytes,
}

/// Where the size and digest of a [`Piece`] come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bytes {
    /// Somebody has hashed it while writing.
    Known {
        /// Size in bytes.
        size: u64,
        /// Digest of the content.
        sha256: Digest,
    },
    /// They are found by reading this file.
    File(PathBuf),
}

/// What [`describe`] needs.
#[derive(Clone)]
pub struct Request<'a> {
    /// The recipe as built.
    pub recipe: &'a Recipe,
    /// The lock as built.
    pub lock: &'a Lock,
    /// dm-verity root hash.
    pub root_hash: Digest,
    /// The kernel command line inside the UKI.
    pub command_line: String,
    /// The certificates that firmware needs; they are among the pieces.
    pub secure_boot: Option<SecureBoot>,
    /// Version of baker itself.
    pub baker_version: String,
    /// Digest of baker's own program, when it could be read.
    pub baker_program: Option<Digest>,
    /// The stages that ran, in the order in which data flows.
    pub stages: Vec<String>,
    /// Commit of the work tree that the recipe lies in.
    pub source: Option<Source>,
    /// The files of the release.
    pub pieces: Vec<Piece>,
    /// Checks waived for this run, beside those that the recipe waives.
    pub waivers: Vec<Waiver>,
    /// How many files are hashed at once.
    pub threads: NonZeroUsize,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

/// The release cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// A file cannot be read.
    #[error("cannot hash {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Two files of one name.
    #[error("the release would have two files named `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// A name that leaves the release folder.
    #[error("`{name}` is no name of a file inside a release")]
    Name {
        /// The name.
        name: String,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Describes a release; its tests have not run yet.
///
/// # Errors
/// See [`DescribeError`].
pub fn describe(request: Request<'_>) -> Result<Manifest, DescribeError> {
    check_names(&request.pieces)?;
    let mut files = hash_all(&request)?;
    files.sort_by(|left, right| left.name.cmp(&right.name));
    let (recipe, lock) = (request.recipe, request.lock);
    Ok(Manifest {
        manifest_version: MANIFEST_VERSION,
        name: recipe.name.clone(),
        version: recipe.version.clone(),
        architecture: recipe.architecture.name().to_owned(),
        epoch: lock.epoch,
        recipe: recipe.digest(),
        lock: lock.digest(),
        source: request.source,
        baker: Builder {
            version: request.baker_version,
            guest: lock.guest.sha256,
            program: request.baker_program,
        },
        stages: request.stages,
        root_hash: request.root_hash,
        command_line: request.command_line,
        secure_boot: request.secure_boot,
        files,
        packages: packages(lock),
        plans: recipe.tests.clone(),
        tests: Vec::new(),
        waivers: waivers(recipe).chain(request.waivers).collect(),
        hygiene: None,
    })
}

fn packages(lock: &Lock) -> Vec<PackageFact> {
    let of_root = lock
        .packages
        .iter()
        .filter(|package| package.role == PackageRole::Root);
    of_root
        .map(|package| PackageFact {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256: package.sha256,
        })
        .collect()
}

/// What the recipe itself does without, so that nobody has to read it to know.
fn waivers(recipe: &Recipe) -> impl Iterator<Item = Waiver> {
    let scripts = recipe.debian.waived.iter().map(|waived| {
        let what = format!("package-script {}/{}", waived.package, waived.script);
        Waiver::new(what, &waived.reason)
    });
    let dependencies = recipe.debian.assumed.iter().map(|assumed| {
        let what = format!("dependency {}", assumed.package);
        Waiver::new(what, &assumed.reason)
    });
    scripts.chain(dependencies)
}

fn check_names(pieces: &[Piece]) -> Result<(), DescribeError> {
    let mut names = BTreeSet::new();
    for Piece { name, .. } in pieces {
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(DescribeError::Name { name: name.clone() });
        }
        if !names.insert(name) {
            return Err(DescribeError::Twice { name: name.clone() });
        }
    }
    Ok(())
}

/// Several files at once; of several errors the one of the first file is given.
fn hash_all(request: &Request<'_>) -> Result<Vec<ReleaseFile>, DescribeError> {
    let results: Vec<Mutex<Option<Result<ReleaseFile, DescribeError>>>> =
        request.pieces.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let (Some(piece), Some(result)) = (request.pieces.get(index), results.get(index))
            else {
                return;
            };
            let hashed = hash(piece, request.interrupt);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(hashed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..request.threads.get().min(request.pieces.len()) {
            scope.spawn(work);
        }
    });
    results
        .into_iter()
        .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

fn hash(piece: &Piece, interrupt: &Interrupt) -> Result<ReleaseFile, DescribeError> {
    let (size, sha256) = match &piece.bytes {
        Bytes::Known { size, sha256 } => (*size, *sha256),
        Bytes::File(file) => {
            let fail = |source| DescribeError::Read {
                file: file.clone(),
                source,
            };
            let mut reader = File::open(file).map_err(fail)?;
            let mut digester = Digester::new();
            let (mut buffer, mut size) = (vec![0; BUFFER], 0);
            loop {
                if interrupt.is_raised() {
                    return Err(DescribeError::Interrupted);
                }
                match reader.read(&mut buffer) {
                    Ok(0) => break (size, digester.finish()),
                    Ok(count) => {
                        digester.update(&buffer[..count]);
                        size += count as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(fail(error)),
                }
            }
        }
    };
    Ok(ReleaseFile {
        name: piece.name.clone(),
        role: piece.role,
        size,
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::fixture::{Fixture, store};

    const RECIPE: &str = "name = \"tiny\"\nversion = \"1.2.3\"\n[debian]\nsuite = \"trixie\"\n\
        packages = []\n[[debian.waive]]\npackage = \"a\"\nscript = \"postinst\"\nreason = \"r\"\n\
        [[debian.assume]]\npackage = \"x\"\nreason = \"s\"\n[kernel]\npackage = \"linux\"\n\
        [[test]]\nboot-seconds = 5\n";

    fn piece(name: &str, bytes: Bytes) -> Piece {
        Piece {
            name: name.to_owned(),
            role: FileRole::Disk,
            bytes,
        }
    }

    fn described(pieces: Vec<Piece>) -> Result<Manifest, DescribeError> {
        let (lock, _) = store(&[
            Fixture::new("a"),
            Fixture::new("k").role(PackageRole::Kernel),
        ]);
        describe(Request {
            recipe: &Recipe::parse(RECIPE).unwrap(),
            lock: &lock,
            root_hash: Digest::of(b"root"),
            command_line: "quiet".to_owned(),
            secure_boot: None,
            baker_version: "0.1.0".to_owned(),
            baker_program: None,
            stages: Vec::new(),
            source: None,
            pieces,
            waivers: Vec::new(),
            threads: NonZeroUsize::new(3).unwrap(),
            interrupt: &Interrupt::new(),
        })
    }

    #[test]
    fn files_are_hashed_and_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let large = vec![3; 3 << 20];
        std::fs::write(folder.path().join("disk"), &large).unwrap();
        let known = Bytes::Known {
            size: 1,
            sha256: Digest::of(b"k"),
        };
        let file = Bytes::File(folder.path().join("disk"));
        let manifest = described(vec![piece("z", known), piece("b/disk", file)]).unwrap();
        let files: Vec<_> = manifest
            .files
            .iter()
            .map(|f| (f.name.as_str(), f.size, f.sha256))
            .collect();
        assert_eq!(
            files,
            [
                ("b/disk", 3 << 20, Digest::of(&large)),
                ("z", 1, Digest::of(b"k"))
            ]
        );
        let packages: Vec<_> = manifest.packages.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(packages, ["a"], "only packages of the root");
        let waived: Vec<_> = manifest.waivers.iter().map(|w| w.what.as_str()).collect();
        assert_eq!(waived, ["package-script a/postinst", "dependency x"]);
        assert_eq!(manifest.plans[0].boot_seconds, 5);
        assert_eq!(Manifest::parse(&manifest.to_bytes()).unwrap(), manifest);
    }

    #[test]
    fn bad_pieces_are_refused() {
        let known = Bytes::Known {
            size: 1,
            sha256: Digest::of(b"k"),
        };
        let rows = [
            (
                vec![piece("a", known.clone()), piece("a", known.clone())],
                "two files named `a`",
            ),
            (vec![piece("../a", known)], "`../a` is no name"),
            (
                vec![piece("a", Bytes::File("/nonexistent/x".into()))],
                "cannot hash /nonexistent/x",
            ),
        ];
        for (pieces, words) in rows {
            let error = described(pieces).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
