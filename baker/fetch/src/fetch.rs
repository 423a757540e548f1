//! The fetch stage: lock in, inputs in the store.
//!
//! Takes a lock; gives a store that holds every package that the lock names. Looks at the network
//! only for what is missing, and fetches nothing that the lock does not name.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use baker_model::event::Outcome;
use baker_model::lock::PackageLock;
use baker_model::{Event, Interrupt, Listener, Lock};

use crate::sources::Sources;
use crate::store::{Presence, Store, StoreError};
use crate::transfer::{DownloadError, Downloader, Wanted};

const STAGE: &str = "fetch";

/// How to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchOptions {
    /// Downloads at once, 1 to 16.
    pub jobs: usize,
    /// How what is there already is checked.
    pub check: Check,
}

/// How an object that is in the store already is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Check {
    /// By its size; whoever reads it will check the digest.
    #[default]
    Size,
    /// By reading it; altered objects are fetched again.
    Digest,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            jobs: 6,
            check: Check::Size,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Packages that were there.
    pub stored: usize,
    /// Packages that were fetched.
    pub downloaded: usize,
    /// Bytes of the packages fetched.
    pub bytes: u64,
}

/// An input cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A locked package is no longer in the archive.
    #[error("package {package}: {path} is gone from the archive: run `baker lock`")]
    Gone {
        /// Name and version.
        package: String,
        /// Path below the archive root.
        path: String,
    },
    /// A download failed.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Brings all packages of the lock into the store.
///
/// # Errors
/// The first package, in the order of the lock, that cannot be had; others are in the store then
/// and will not be fetched again.
pub fn fetch(
    lock: &Lock,
    sources: &Sources,
    store: &Store,
    listener: &dyn Listener,
    interrupt: &Interrupt,
    options: FetchOptions,
) -> Result<Fetched, FetchError> {
    let missing = missing(lock, store, options.check, listener)?;
    let bytes = missing.iter().map(|package| package.size).sum();
    listener.event(Event::Started {
        stage: STAGE,
        total: Some(bytes),
        unit: "bytes",
    });
    let mut fetched = Fetched {
        stored: distinct(lock).len() - missing.len(),
        downloaded: missing.len(),
        bytes,
    };
    let run = Run {
        missing: &missing,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        failures: Mutex::default(),
    };
    let jobs = options.jobs.clamp(1, 16).min(missing.len());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| run.work(Downloader::new(store, sources, listener, interrupt, STAGE)));
        }
    });
    let mut failures = run
        .failures
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    failures.sort_by_key(|(place, _)| *place);
    if let Some((_, error)) = failures.into_iter().next() {
        return Err(error);
    }
    if missing.is_empty() {
        fetched.bytes = 0;
    }
    let how = if missing.is_empty() {
        Outcome::Reused
    } else {
        Outcome::Done
    };
    let summary = format!(
        "{} packages fetched, {} there already",
        fetched.downloaded, fetched.stored
    );
    listener.event(Event::Finished {
        stage: STAGE,
        how,
        summary,
    });
    Ok(fetched)
}

/// Every problem of the inputs in the store, read in full; empty when a bake can begin.
#[must_use]
pub fn check(lock: &Lock, store: &Store) -> Vec<StoreError> {
    let checked = distinct(lock);
    let problems = checked
        .iter()
        .map(|package| store.open_verified(&package.sha256, package.size));
    problems.filter_map(Result::err).collect()
}

/// Packages by content: one that serves two purposes is fetched once.
fn distinct(lock: &Lock) -> Vec<&PackageLock> {
    let mut seen = std::collections::BTreeSet::new();
    lock.all_packages()
        .filter(|package| seen.insert(package.sha256))
        .collect()
}

fn missing<'a>(
    lock: &'a Lock,
    store: &Store,
    check: Check,
    listener: &dyn Listener,
) -> Result<Vec<&'a PackageLock>, FetchError> {
    let mut missing = Vec::new();
    for package in distinct(lock) {
        let mut present = store.presence(&package.sha256, package.size)? == Presence::Present;
        if present
            && check == Check::Digest
            && let Err(error) = store.open_verified(&package.sha256, package.size)
        {
            let text = format!("package {}: {error}; fetching it again", package.name);
            listener.event(Event::Warning { stage: STAGE, text });
            store.remove(&package.sha256)?;
            present = false;
        }
        if !present {
            missing.push(package);
        }
    }
    Ok(missing)
}

/// Packages to be fetched, taken in turn by all threads.
struct Run<'a> {
    missing: &'a [&'a PackageLock],
    next: AtomicUsize,
    stop: AtomicBool,
    failures: Mutex<Vec<(usize, FetchError)>>,
}

impl Run<'_> {
    fn work(&self, mut downloader: Downloader<'_>) {
        while !self.stop.load(Ordering::Relaxed) {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(package) = self.missing.get(place) else {
                return;
            };
            if let Err(error) = fetch_one(&mut downloader, package) {
                self.stop.store(true, Ordering::Relaxed);
                let failures = self.failures.lock();
                failures
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push((place, error));
            }
        }
    }
}

fn fetch_one(downloader: &mut Downloader<'_>, package: &PackageLock) -> Result<(), FetchError> {
    let name = format!("{} {}", package.name, package.version);
    let what = format!("package {name}");
    let wanted = Wanted {
        what: &what,
        archive: &package.archive,
        path: &package.path,
        size: package.size,
        sha256: package.sha256,
    };
    match downloader.fetch(&wanted) {
        Ok(_) => Ok(()),
        Err(DownloadError::Gone { path, .. }) => Err(FetchError::Gone {
            package: name,
            path,
        }),
        Err(error) => Err(error.into()),
    }
}
