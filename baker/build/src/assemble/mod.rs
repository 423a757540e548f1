//! The stage `assemble`: packages into one tree.
//!
//! Takes the lock, the store of inputs and an empty [`Spool`]; gives the [`Assembled`] root: owners,
//! modes, times, extended attributes and links as the packages ship them, `/usr` merged. Every
//! package file is checked against the lock while it is read. Runs no script, writes nothing but the
//! spool, and gives the same tree for any number of threads.

pub mod control;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod kept;
pub(crate) mod landing;
pub(crate) mod merge;
pub(crate) mod stored;
#[cfg(test)]
mod tests;
pub(crate) mod unpack;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use baker_formats::{deb, tar};
use baker_model::event::{Event, Outcome};
use baker_model::lock::{PackageLock, PackageRole};
use baker_model::recipe::Scripts;
use baker_model::tree::Kind;
use baker_model::{Interrupt, Listener, Lock, Objects, Tree};

pub use self::error::{AssembleError, Conflict, Conflicts, Difference, Fingerprint, Refusal};
use self::merge::{Merge, Unpacked};
use self::unpack::{Shared, unpack};
use crate::{Assembled, Keep, Spool};

/// Name of the stage in events.
const STAGE: &str = "assemble";

/// What [`assemble`] needs.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Which packages; its epoch is the newest time that any node gets.
    pub lock: &'a Lock,
    /// Where the package files are.
    pub inputs: &'a dyn Objects,
    /// Where packages lie that were unpacked before; none to unpack all of them, and keep nothing.
    pub keep: Option<&'a Keep>,
    /// Takes the contents of larger files.
    pub spool: &'a Spool,
    /// How many packages are decoded at once; never changes the result.
    pub threads: NonZeroUsize,
    /// What packages may ask for.
    pub limits: Limits,
    /// What becomes of paths that two packages ship.
    pub clashes: Clashes,
    /// Hears how it goes.
    pub listener: &'a dyn Listener,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

/// What becomes of paths that two packages ship without a word about each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clashes {
    /// They are an error.
    #[default]
    Refused,
    /// One of the two is taken: dpkg decides later, for it knows of diversions.
    LeftToDpkg,
}

impl Clashes {
    /// What fits how a recipe treats scripts.
    #[must_use]
    pub const fn of(scripts: Scripts) -> Self {
        match scripts {
            Scripts::Builtin => Self::Refused,
            Scripts::Sandbox => Self::LeftToDpkg,
        }
    }
}

/// What packages may ask for; more is an error that names package and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed `data.tar` of one package.
    pub package_bytes: u64,
    /// Bytes of file contents of all packages.
    pub total_bytes: u64,
    /// Entries of one package.
    pub entries: u64,
}

impl Default for Limits {
    /// Far above the largest packages of Debian (a few GiB), far below what fills a build host by surprise.
    fn default() -> Self {
        Self {
            package_bytes: 16 << 30,
            total_bytes: 64 << 30,
            entries: 1 << 20,
        }
    }
}

impl Limits {
    /// For one package, with so many threads for its decompressor.
    pub(crate) fn of_package(self, threads: u32) -> deb::Limits {
        let data = tar::Limits {
            bytes: self.package_bytes,
            entries: self.entries,
            ..tar::Limits::default()
        };
        deb::Limits {
            data,
            threads,
            ..deb::Limits::default()
        }
    }
}

/// Decodes all packages of role root and merges them into one tree.
///
/// Shared paths follow dpkg: directories are shared and the first one's owner and mode stay; any
/// other path needs a `Replaces` of one of the two packages. All such clashes are reported at once.
///
/// # Errors
/// See [`AssembleError`]; its `hint` says what mends it.
pub fn assemble(request: Request<'_>) -> Result<Assembled, AssembleError> {
    let packages: Vec<&PackageLock> = request
        .lock
        .packages
        .iter()
        .filter(|p| p.role == PackageRole::Root)
        .collect();
    let total = packages.iter().map(|package| package.size).sum();
    request.listener.event(Event::Started {
        stage: STAGE,
        total: Some(total),
        unit: "bytes",
    });

    let (unpacked, reused) = unpack_all(&packages, &request)?;
    let mut unpacked: Vec<Option<Unpacked>> = unpacked.into_iter().map(Some).collect();
    let mut merge = Merge::new(request.lock.epoch);
    for index in merge::order(&packages) {
        if let Some(package) = unpacked[index].take() {
            merge.add(package)?;
        }
    }
    let (tree, mut merged) = merge.finish(request.clashes)?;
    let places: HashMap<_, usize> = packages
        .iter()
        .enumerate()
        .map(|(index, lock)| (key(lock), index))
        .collect();
    merged.sort_by_key(|package| places.get(&key(&package.lock)).copied());

    let mut summary = summary(&tree, merged.len());
    if reused > 0 {
        summary = format!("{summary}; {reused} packages were unpacked before");
    }
    let is_reused = reused == merged.len() && reused > 0;
    request.listener.event(Event::Finished {
        stage: STAGE,
        how: if is_reused {
            Outcome::Reused
        } else {
            Outcome::Done
        },
        summary,
    });
    Ok(Assembled {
        tree,
        packages: merged,
    })
}

fn key(lock: &PackageLock) -> (String, String, String) {
    (
        lock.name.clone(),
        lock.architecture.clone(),
        lock.version.clone(),
    )
}

fn summary(tree: &Tree, packages: usize) -> String {
    let sizes = tree.walk().filter_map(|(_, node)| match &node.kind {
        Kind::File { content, .. } => Some(content.size()),
        _ => None,
    });
    let (files, bytes) = sizes.fold((0_u64, 0_u64), |(files, sum), size| (files + 1, sum + size));
    format!("{packages} packages, {files} files, {} MiB", bytes >> 20)
}

/// Decodes the packages on several threads; the results come in the order of `packages`, with the
/// number of those that were unpacked before.
///
/// The largest are begun first, so that none of them is left for the end when the other threads
/// have nothing to do. Of several errors the one of the first package is given.
fn unpack_all(
    packages: &[&PackageLock],
    request: &Request<'_>,
) -> Result<(Vec<Unpacked>, usize), AssembleError> {
    let mut queue: Vec<usize> = (0..packages.len()).collect();
    queue.sort_by_key(|&index| (std::cmp::Reverse(packages[index].size), index));
    let shared = Shared {
        inputs: request.inputs,
        keep: request.keep,
        spool: request.spool,
        interrupt: request.interrupt,
        epoch: request.lock.epoch,
        limits: request.limits,
        total: AtomicU64::new(0),
        reused: AtomicUsize::new(0),
    };
    let results: Vec<Mutex<Option<Result<Unpacked, AssembleError>>>> =
        packages.iter().map(|_| Mutex::new(None)).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        while let Some(&index) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
            if failed.load(Ordering::Relaxed) {
                return;
            }
            let result = unpack(packages[index], &shared);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            *results[index]
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(result);
            let by = packages[index].size;
            request.listener.event(Event::Advanced { stage: STAGE, by });
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..request.threads.get().min(packages.len()) {
            scope.spawn(work);
        }
    });
    let results: Vec<_> = results
        .into_iter()
        .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect();
    // Packages that were never begun have no result; there is an error then.
    let unpacked = results.into_iter().collect::<Result<_, _>>()?;
    Ok((unpacked, shared.reused.into_inner()))
}
