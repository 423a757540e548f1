//! Reads the suites of a recipe: signed release, package indexes, records.

use std::io::{BufRead, BufReader, Read};

use baker_model::lock::{ArchiveLock, IndexLock, Lock};
use baker_model::{Event, Interrupt, Listener};

use crate::debian::index::{self, IndexError};
use crate::debian::records::Records;
use crate::debian::release::{Expectation, NamedIndex, Release, ReleaseError};
use crate::debian::signature::{Keyring, KeyringError};
use crate::index_cache;
use crate::sources::{Sources, archive_of};
use crate::store::{Store, StoreError};
use crate::transfer::{DownloadError, Downloader, Wanted};

/// The largest `InRelease` that is read; real ones are below 200 KiB.
const RELEASE_LIMIT: usize = 16 << 20;

/// Memory that the parallel xz decoder may use before it falls back to one thread.
const XZ_MEMORY: u64 = 256 << 20;

/// What reading needs to know.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// Names of the suites.
    pub suites: &'a [String],
    /// Components.
    pub components: &'a [String],
    /// Architecture of the target.
    pub architecture: &'a str,
    /// The previous lock, to notice downgrades.
    pub previous: Option<&'a Lock>,
    /// Mirrors and keyrings.
    pub sources: &'a Sources,
    /// Where indexes are kept.
    pub store: &'a Store,
    /// Now, seconds since 1970-01-01 UTC.
    pub now: i64,
    /// Hears what happens.
    pub listener: &'a dyn Listener,
    /// Asks to stop.
    pub interrupt: &'a Interrupt,
    /// Name of the stage in events.
    pub stage: &'static str,
}

/// All suites, read.
#[derive(Debug)]
pub struct Suites {
    /// What the lock says of them, in the order of the suites.
    pub archives: Vec<ArchiveLock>,
    /// Their packages; the number of a suite is its place in `archives`.
    pub records: Records,
}

/// A suite cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// No keyring is known.
    #[error("no keyring is known; install debian-archive-keyring or name one with --keyring")]
    NoKeyring,
    /// A keyring cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A file cannot be had.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// A release is refused.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// An index cannot be read.
    #[error("cannot read {path} of suite {suite}")]
    Index {
        /// The suite.
        suite: String,
        /// Path below the suite's folder.
        path: String,
        /// What is wrong with it.
        #[source]
        source: IndexError,
    },
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Fetches, verifies and reads all suites at once.
///
/// # Errors
/// The first suite, in their order, that cannot be read.
pub fn read(reading: Reading<'_>) -> Result<Suites, ArchiveError> {
    if reading.sources.keyrings.is_empty() {
        return Err(ArchiveError::NoKeyring);
    }
    let keyring = &Keyring::read(&reading.sources.keyrings)?;
    let read: Vec<_> = std::thread::scope(|scope| {
        let threads = (0..).zip(reading.suites).map(|(number, suite)| {
            scope.spawn(move || read_suite(reading, keyring, suite, number))
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    let mut suites = Suites {
        archives: Vec::new(),
        records: Records::default(),
    };
    for result in read {
        let (archive, records) = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        suites.archives.push(archive);
        suites.records.append(records);
    }
    Ok(suites)
}

/// Reads the suites as a lock names them, from the store alone.
///
/// # Errors
/// An index is not in the store any more, or cannot be read.
pub fn read_locked(lock: &Lock, suites: &[String], store: &Store) -> Result<Suites, ArchiveError> {
    let mut read = Suites {
        archives: Vec::new(),
        records: Records::default(),
    };
    for (number, suite) in (0..).zip(suites) {
        let Some(archive) = lock.archives.iter().find(|archive| archive.suite == *suite) else {
            continue;
        };
        read.records.append(read_archive(archive, store, number)?);
        read.archives.push(archive.clone());
    }
    Ok(read)
}

/// Reads one suite as a lock names it, from the store alone; its packages get `number`.
///
/// # Errors
/// An index is not in the store any more, or cannot be read.
pub fn read_archive(
    archive: &ArchiveLock,
    store: &Store,
    number: u16,
) -> Result<Records, ArchiveError> {
    let mut records = Records::default();
    for index in &archive.indexes {
        let named = NamedIndex {
            path: index.path.clone(),
            size: index.size,
            sha256: index.sha256,
        };
        records.append(read_index(store, &archive.suite, &named, number)?);
    }
    Ok(records)
}

fn read_suite(
    reading: Reading<'_>,
    keyring: &Keyring,
    suite: &str,
    number: u16,
) -> Result<(ArchiveLock, Records), ArchiveError> {
    let Reading {
        sources,
        store,
        listener,
        interrupt,
        stage,
        ..
    } = reading;
    let archive = archive_of(suite);
    let mut downloader = Downloader::new(store, sources, listener, interrupt, stage);
    let what = format!("suite {suite}");
    let path = format!("dists/{suite}/InRelease");
    let text = downloader.read(&what, archive, &path, RELEASE_LIMIT)?;
    let locked = reading.previous.into_iter().flat_map(|lock| &lock.archives);
    let not_before = locked
        .filter(|old| old.suite == suite)
        .map(|old| old.date)
        .max();
    let expect = Expectation {
        suite,
        now: reading.now,
        not_before,
        expiry: sources.expiry,
    };
    let release = Release::verify(&text, keyring, expect)?;
    if release.expired.is_some() {
        let text = format!("suite {suite} has expired and is used all the same, as asked");
        listener.event(Event::Warning { stage, text });
    }
    let inrelease = store.put_bytes(&text)?;
    let mut architectures = vec![reading.architecture];
    if release.separate_all {
        architectures.push("all");
    }
    let mut indexes = Vec::new();
    let mut records = Records::default();
    for component in reading.components {
        for architecture in &architectures {
            let offered = release.package_index(suite, component, architecture)?;
            let named = fetch_index(&mut downloader, suite, &release, &offered)?;
            records.append(read_index(store, suite, &named, number)?);
            indexes.push(IndexLock {
                path: named.path,
                size: named.size,
                sha256: named.sha256,
            });
        }
    }
    indexes.sort();
    let archive = ArchiveLock {
        suite: suite.to_owned(),
        archive: archive.to_owned(),
        date: release.date,
        inrelease,
        signed_by: release.signed_by,
        indexes,
    };
    Ok((archive, records))
}

/// Fetches the first form of an index that the mirrors have: by digest where the archive offers
/// that, as the named file may be replaced while we look.
fn fetch_index(
    downloader: &mut Downloader<'_>,
    suite: &str,
    release: &Release,
    offered: &[NamedIndex],
) -> Result<NamedIndex, ArchiveError> {
    let mut last = None;
    for named in offered {
        let folder = named.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let by_hash = format!("dists/{suite}/{folder}/by-hash/SHA256/{}", named.sha256);
        let by_name = format!("dists/{suite}/{}", named.path);
        let what = format!("index {} of suite {suite}", named.path);
        for path in release
            .by_hash
            .then_some(by_hash)
            .into_iter()
            .chain([by_name])
        {
            let wanted = Wanted {
                what: &what,
                archive: archive_of(suite),
                path: &path,
                size: named.size,
                sha256: named.sha256,
            };
            match downloader.fetch(&wanted) {
                Ok(_) => return Ok(named.clone()),
                Err(error @ DownloadError::Gone { .. }) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Err(last.map_or(ArchiveError::NoKeyring, ArchiveError::Download))
}

fn read_index(
    store: &Store,
    suite: &str,
    named: &NamedIndex,
    number: u16,
) -> Result<Records, ArchiveError> {
    // Looked at even when its parsed form is kept: a lock names nothing that is not there.
    let file = store.open_verified(&named.sha256, named.size)?;
    if let Some(kept) = index_cache::read(store, &named.sha256, number) {
        return Ok(kept);
    }
    let fail = |source| ArchiveError::Index {
        suite: suite.to_owned(),
        path: named.path.clone(),
        source,
    };
    let reader = BufReader::with_capacity(1 << 17, file);
    let plain: Box<dyn BufRead> = match named.path.rsplit_once('.') {
        Some((_, "xz")) => {
            let decoder = xz_decoder(reader).map_err(|e| fail(IndexError::Read(e.into())))?;
            Box::new(BufReader::with_capacity(1 << 17, decoder))
        }
        Some((_, "gz")) => Box::new(BufReader::with_capacity(
            1 << 17,
            flate2::bufread::MultiGzDecoder::new(reader),
        )),
        _ => Box::new(reader),
    };
    let records = index::read(plain, number).map_err(fail)?;
    index_cache::keep(store, &named.sha256, &records);
    Ok(records)
}

fn xz_decoder<R: BufRead>(reader: R) -> Result<impl Read, liblzma::stream::Error> {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(4));
    let stream = liblzma::stream::MtStreamBuilder::new()
        .threads(u32::try_from(threads).unwrap_or(1))
        .memlimit_threading(XZ_MEMORY)
        .memlimit_stop(u64::MAX)
        .decoder()?;
    Ok(liblzma::bufread::XzDecoder::new_stream(reader, stream))
}
