//! From mirrors into the store: in order, with retries, resumed, checked while streaming.

use std::time::Duration;

use baker_model::{Digest, Digester, Event, Interrupt, Listener};

use super::hasher::Hasher;
use super::transport::{TransferError, Transport};
use crate::sources::Sources;
use crate::store::{Presence, Scratch, Store, StoreError};

/// A file that is known by digest.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What it is, for messages: `package nginx 1.26-3`.
    pub what: &'a str,
    /// The archive that it lies in.
    pub archive: &'a str,
    /// Path below the archive root.
    pub path: &'a str,
    /// Size in bytes.
    pub size: u64,
    /// Digest.
    pub sha256: Digest,
}

/// How a file came to be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was there.
    Stored,
    /// It came from a mirror.
    Downloaded,
}

/// A file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No mirror is configured.
    #[error("no mirror of the archive `{archive}` is known; name one with --mirror {archive}=URL")]
    NoMirror {
        /// The archive.
        archive: String,
    },
    /// Every mirror says that there is no such file.
    #[error("{what}: {path} is gone from the archive `{archive}`")]
    Gone {
        /// What it is.
        what: String,
        /// The archive.
        archive: String,
        /// Path below the archive root.
        path: String,
    },
    /// What came is not what was wanted, twice.
    #[error(transparent)]
    Altered(Box<Alteration>),
    /// No mirror could be read to the end.
    #[error("{what}: cannot fetch {path} from the archive `{archive}`: {}", reasons.join("; "))]
    Failed {
        /// What it is.
        what: String,
        /// The archive.
        archive: String,
        /// Path below the archive root.
        path: String,
        /// The last failure of each mirror.
        reasons: Vec<String>,
    },
    /// The store cannot take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A person asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A file that came other than the lock or the index names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what}: {path} came altered, twice: expected {expected_size} bytes with SHA-256 {expected}, \
     found {found_size} bytes{}", found_digest(*found)
)]
pub struct Alteration {
    /// What it is.
    pub what: String,
    /// Path below the archive root.
    pub path: String,
    /// The digest expected.
    pub expected: Digest,
    /// The size expected.
    pub expected_size: u64,
    /// The digest found; none when there were more bytes than expected.
    pub found: Option<Digest>,
    /// The size found; one more than expected when there were more bytes.
    pub found_size: u64,
}

fn found_digest(found: Option<Digest>) -> String {
    found.map_or_else(
        || " or more".to_owned(),
        |found| format!(" with SHA-256 {found}"),
    )
}

/// Fetches files into the store; one for each thread.
pub struct Downloader<'a> {
    store: &'a Store,
    sources: &'a Sources,
    listener: &'a dyn Listener,
    interrupt: &'a Interrupt,
    stage: &'static str,
    transport: Transport,
}

/// What one try with one mirror came to, when it did not fail on the way.
enum Try {
    Complete,
    Altered { found: Option<Digest>, size: u64 },
}

impl<'a> Downloader<'a> {
    /// A downloader that reports as `stage`.
    pub fn new(
        store: &'a Store,
        sources: &'a Sources,
        listener: &'a dyn Listener,
        interrupt: &'a Interrupt,
        stage: &'static str,
    ) -> Self {
        let transport = Transport::new(sources.patience.stall);
        Self {
            store,
            sources,
            listener,
            interrupt,
            stage,
            transport,
        }
    }

    /// Brings a file into the store; nothing is fetched when it is there.
    ///
    /// # Errors
    /// No mirror has it, it comes altered, the network fails for good, or the store cannot take it.
    pub fn fetch(&mut self, wanted: &Wanted<'_>) -> Result<Arrival, DownloadError> {
        if self.is_stored(wanted)? {
            return Ok(Arrival::Stored);
        }
        let mut scratch = match self.store.partial(&wanted.sha256, self.interrupt) {
            Err(StoreError::Interrupted) => return Err(DownloadError::Interrupted),
            other => other?,
        };
        // Another baker may have fetched it while we waited for the file.
        if self.is_stored(wanted)? {
            scratch.discard();
            return Ok(Arrival::Stored);
        }
        self.fill(wanted, &mut scratch)?;
        self.store.publish(scratch, &wanted.sha256)?;
        Ok(Arrival::Downloaded)
    }

    /// Reads a whole small file of unknown digest into memory.
    ///
    /// # Errors
    /// As [`Downloader::fetch`]; also when it is larger than `limit`.
    pub fn read(
        &mut self,
        what: &str,
        archive: &str,
        path: &str,
        limit: usize,
    ) -> Result<Vec<u8>, DownloadError> {
        let mut bytes = Vec::new();
        self.try_mirrors(what, archive, path, |this, url| {
            let mut body = this.transport.open(url, 0, this.interrupt)?;
            bytes.clear();
            loop {
                let chunk = body.next()?;
                if chunk.is_empty() {
                    return Ok(true);
                }
                bytes.extend_from_slice(&chunk);
                if bytes.len() > limit {
                    let reason = format!("it is larger than {limit} bytes");
                    return Err(Stop::Transfer(TransferError::Failed { reason }));
                }
            }
        })?;
        Ok(bytes)
    }

    fn is_stored(&self, wanted: &Wanted<'_>) -> Result<bool, DownloadError> {
        let presence = self.store.presence(&wanted.sha256, wanted.size)?;
        if let Presence::WrongSize { found } = presence {
            let text = format!(
                "{} is damaged in the store ({found} bytes instead of {}); fetching it again",
                wanted.what, wanted.size
            );
            self.listener.event(Event::Warning {
                stage: self.stage,
                text,
            });
        }
        Ok(presence == Presence::Present)
    }

    fn fill(&mut self, wanted: &Wanted<'_>, scratch: &mut Scratch) -> Result<(), DownloadError> {
        let mut altered = 0;
        let mut reported = 0;
        self.try_mirrors(
            wanted.what,
            wanted.archive,
            wanted.path,
            |this, url| match this.fill_once(wanted, scratch, url, &mut reported)? {
                Try::Complete => Ok(true),
                Try::Altered { found, size } => {
                    scratch.restart()?;
                    altered += 1;
                    if altered < 2 {
                        let text = format!("{} came altered; trying once more", wanted.what);
                        this.listener.event(Event::Warning {
                            stage: this.stage,
                            text,
                        });
                        return Ok(false);
                    }
                    Err(Stop::Altered(Box::new(Alteration {
                        what: wanted.what.to_owned(),
                        path: wanted.path.to_owned(),
                        expected: wanted.sha256,
                        expected_size: wanted.size,
                        found,
                        found_size: size,
                    })))
                }
            },
        )
    }

    fn fill_once(
        &mut self,
        wanted: &Wanted<'_>,
        scratch: &mut Scratch,
        url: &str,
        reported: &mut u64,
    ) -> Result<Try, Stop> {
        let (mut digester, mut size) = scratch.resume()?;
        if size > wanted.size || (size == wanted.size && digester.clone().finish() != wanted.sha256)
        {
            scratch.restart()?;
            (digester, size) = scratch.resume()?;
        }
        let mut hasher = Hasher::new(digester, wanted.size.saturating_sub(size));
        if size < wanted.size || wanted.size == 0 {
            let mut body = match self.transport.open(url, size, self.interrupt) {
                // With another file on the server, or a proxy that knows no ranges, the same
                // request would fail again: the next one asks for everything.
                Err(TransferError::Range { reason }) => {
                    scratch.restart()?;
                    return Err(TransferError::Failed { reason }.into());
                }
                other => other?,
            };
            if body.start != size {
                scratch.restart()?;
                size = 0;
                hasher = Hasher::new(Digester::new(), wanted.size);
            }
            loop {
                let chunk = body.next()?;
                if chunk.is_empty() {
                    break;
                }
                size += chunk.len() as u64;
                if size > wanted.size {
                    return Ok(Try::Altered {
                        found: None,
                        size: wanted.size + 1,
                    });
                }
                hasher.update(chunk.clone());
                scratch.append(&chunk)?;
                // Bytes fetched twice count once, or a bar would overrun.
                let by = size.saturating_sub(*reported);
                *reported += by;
                if by > 0 {
                    self.listener.event(Event::Advanced {
                        stage: self.stage,
                        by,
                    });
                }
            }
        }
        let found = hasher.finish();
        match found == wanted.sha256 {
            true => Ok(Try::Complete),
            false => Ok(Try::Altered {
                found: Some(found),
                size,
            }),
        }
    }

    /// Tries mirror after mirror. `attempt` says true when it is done, false to go on with the
    /// next mirror (or this one, when it is the only one).
    fn try_mirrors(
        &mut self,
        what: &str,
        archive: &str,
        path: &str,
        mut attempt: impl FnMut(&mut Self, &str) -> Result<bool, Stop>,
    ) -> Result<(), DownloadError> {
        let sources = self.sources;
        let mirrors = sources.mirrors(archive);
        if mirrors.is_empty() {
            return Err(DownloadError::NoMirror {
                archive: archive.to_owned(),
            });
        }
        let mut reasons = Vec::new();
        let mut gone = 0;
        // Two rounds, so that a single mirror gets its second chance after an altered file.
        let mut turns = mirrors
            .iter()
            .chain(mirrors)
            .take(mirrors.len() + 1)
            .peekable();
        while let Some(mirror) = turns.next() {
            let url = format!("{mirror}/{path}");
            match self.with_patience(&url, &mut attempt) {
                Ok(true) => return Ok(()),
                Ok(false) => continue,
                Err(Stop::Transfer(TransferError::Interrupted)) => {
                    return Err(DownloadError::Interrupted);
                }
                Err(Stop::Store(error)) => return Err(error.into()),
                Err(Stop::Altered(found)) => return Err(DownloadError::Altered(found)),
                Err(Stop::Transfer(error)) => {
                    gone += usize::from(error == TransferError::NotFound);
                    reasons.push(error.to_string());
                }
            }
            if reasons.len() >= mirrors.len() {
                break;
            }
            if turns.peek().is_some() {
                let text = format!("{what}: {}; trying the next mirror", reasons.join("; "));
                self.listener.event(Event::Note {
                    stage: self.stage,
                    text,
                });
            }
        }
        let (what, archive, path) = (what.to_owned(), archive.to_owned(), path.to_owned());
        if gone == reasons.len() && gone > 0 {
            return Err(DownloadError::Gone {
                what,
                archive,
                path,
            });
        }
        Err(DownloadError::Failed {
            what,
            archive,
            path,
            reasons,
        })
    }

    /// Tries one mirror again and again while trying may help, with growing pauses.
    fn with_patience(
        &mut self,
        url: &str,
        attempt: &mut impl FnMut(&mut Self, &str) -> Result<bool, Stop>,
    ) -> Result<bool, Stop> {
        let patience = self.sources.patience;
        let mut pause = patience.pause;
        let mut tries = 1;
        loop {
            match attempt(self, url) {
                Err(Stop::Transfer(TransferError::Failed { reason })) if tries < patience.tries => {
                    let text = format!("{reason}; trying again");
                    self.listener.event(Event::Note {
                        stage: self.stage,
                        text,
                    });
                    self.sleep(pause)?;
                    pause *= 2;
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn sleep(&self, pause: Duration) -> Result<(), Stop> {
        let step = Duration::from_millis(50);
        let mut left = pause;
        while !left.is_zero() {
            if self.interrupt.is_raised() {
                return Err(Stop::Transfer(TransferError::Interrupted));
            }
            std::thread::sleep(left.min(step));
            left = left.saturating_sub(step);
        }
        Ok(())
    }
}

/// Why an attempt ended.
enum Stop {
    Transfer(TransferError),
    Store(StoreError),
    Altered(Box<Alteration>),
}

impl From<TransferError> for Stop {
    fn from(error: TransferError) -> Self {
        Self::Transfer(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
