//! The only place of this room that knows HTTP: a client with a runtime of its own.
//!
//! The network only moves while somebody waits for it, so a slow disk slows the other side down
//! instead of filling memory.

use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use baker_model::Interrupt;
use base64ct::{Base64, Encoding};
use reqwest::{Certificate, Client, Response};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use super::{Piece, TargetError};
use crate::atomic;
use crate::folder::Watch;
use crate::report::chain;

/// How often a wait looks whether somebody asked to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// How long to wait for the other side.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    /// Until it can be spoken to.
    pub(crate) connect: Duration,
    /// While it says nothing.
    pub(crate) stall: Duration,
    /// From the first failure of a request to the last time that it is sent again, where it is.
    pub(crate) retry: Duration,
    /// Who ends a wait that knows nobody else to do so.
    pub(crate) interrupt: Option<Arc<Interrupt>>,
}

impl Patience {
    /// For releases, which are worth waiting for.
    pub(crate) const RELEASE: Self = Self::of(20, 60, 180, None);

    /// For what can also be made here, in about the time of such a wait.
    pub(crate) fn cache(interrupt: &Arc<Interrupt>) -> Self {
        Self::of(5, 20, 5, Some(interrupt.clone()))
    }

    const fn of(connect: u64, stall: u64, retry: u64, interrupt: Option<Arc<Interrupt>>) -> Self {
        Self {
            connect: Duration::from_secs(connect),
            stall: Duration::from_secs(stall),
            retry: Duration::from_secs(retry),
            interrupt,
        }
    }
}

/// The largest file of certificates that is read, bytes.
const CERTIFICATES_LIMIT: u64 = 4 << 20;

/// A name and its password, wiped from memory when dropped and never printed.
#[derive(Clone)]
pub struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Zeroizing<String>,
}

impl Credentials {
    /// These.
    #[must_use]
    pub fn new(user: String, password: String) -> Self {
        let password = Zeroizing::new(password);
        Self { user, password }
    }

    /// Those in the value of a basic authorization: base64 of `user:password`.
    #[must_use]
    pub fn of_basic(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(Base64::decode_vec(text.trim()).ok()?);
        let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
        Some(Self::new(user.to_owned(), password.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// What requests may go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TLS, also after a redirection.
    TlsOnly,
    /// Anything: for what is believed by its signature alone.
    Any,
}

/// Sends requests of one target.
#[derive(Debug)]
pub(crate) struct Http {
    runtime: Runtime,
    pub(crate) client: Client,
    patience: Patience,
}

impl Http {
    /// A client that believes the host's certificates, and those of the PEM file `authority`.
    pub(crate) fn new(
        authority: Option<&Path>,
        transport: Transport,
        patience: Patience,
    ) -> Result<Self, TargetError> {
        // Another crate of the process may have chosen a provider before; that one will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        let start = |error: &dyn std::error::Error| TargetError::Remote {
            doing: "start the network client".to_owned(),
            cause: chain(error),
        };
        let mut builder = Client::builder()
            .user_agent(concat!("baker/", env!("CARGO_PKG_VERSION")))
            .https_only(transport == Transport::TlsOnly)
            .connect_timeout(patience.connect);
        if let Some(path) = authority {
            builder = builder.tls_certs_merge(certificates(path)?);
        }
        let client = builder.build().map_err(|error| start(&error))?;
        let runtime = runtime().map_err(|error| start(&error))?;
        Ok(Self {
            runtime,
            client,
            patience,
        })
    }

    /// Waits for `future`; `doing` is for the error.
    pub(crate) fn wait<T, E: std::error::Error>(
        &self,
        doing: &str,
        future: impl Future<Output = Result<T, E>>,
        interrupt: Option<&Interrupt>,
    ) -> Result<T, TargetError> {
        let interrupt = interrupt.or(self.patience.interrupt.as_deref());
        let limit = Some(self.patience.stall);
        wait(&self.runtime, doing, future, interrupt, limit)
    }

    /// Waits for the answer to a large file, however long that takes: nothing is heard before it is
    /// there.
    pub(crate) fn wait_for_upload<T, E: std::error::Error>(
        &self,
        doing: &str,
        future: impl Future<Output = Result<T, E>>,
        interrupt: &Interrupt,
    ) -> Result<T, TargetError> {
        wait(&self.runtime, doing, future, Some(interrupt), None)
    }

    /// The body of a response, at most `limit` bytes.
    pub(crate) fn bytes(
        &self,
        doing: &str,
        mut response: Response,
        limit: u64,
    ) -> Result<Vec<u8>, TargetError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.wait(doing, response.chunk(), None)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(TargetError::Malformed {
                    what: doing.to_owned(),
                    cause: format!("the answer has more than {limit} bytes"),
                });
            }
        }
        Ok(bytes)
    }

    /// Hands the body of a response over, at most `limit` bytes of it.
    pub(crate) fn copy(
        &self,
        doing: &str,
        mut response: Response,
        (piece, limit): (&Piece, u64),
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        let mut left = limit;
        while left > 0 {
            let chunk = self.wait(doing, response.chunk(), Some(watch.interrupt))?;
            let Some(chunk) = chunk else {
                break;
            };
            let count = usize::try_from(left).map_or(chunk.len(), |left| chunk.len().min(left));
            to.write_all(&chunk[..count])
                .map_err(|e| TargetError::of_write(Path::new(&piece.name), piece.size, e))?;
            left -= count as u64;
        }
        Ok(())
    }
}

/// A runtime that moves only while somebody waits.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Waits for `future` until it is done, silent for longer than `limit`, or somebody asks to stop.
pub(super) fn wait<T, E: std::error::Error>(
    runtime: &Runtime,
    doing: &str,
    future: impl Future<Output = Result<T, E>>,
    interrupt: Option<&Interrupt>,
    limit: Option<Duration>,
) -> Result<T, TargetError> {
    let mut future = pin!(future);
    let failed = |cause: String| TargetError::Remote {
        doing: doing.to_owned(),
        cause,
    };
    runtime.block_on(async {
        let mut waited = Duration::ZERO;
        loop {
            if interrupt.is_some_and(Interrupt::is_raised) {
                let place = doing.to_owned();
                return Err(TargetError::Interrupted { place });
            }
            if let Ok(output) = tokio::time::timeout(GLANCE, future.as_mut()).await {
                return output.map_err(|error| failed(chain(&error)));
            }
            waited += GLANCE;
            if let Some(limit) = limit.filter(|limit| waited >= *limit) {
                return Err(failed(format!("no answer for {} s", limit.as_secs())));
            }
        }
    })
}

/// The certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<Certificate>, TargetError> {
    let bytes = read_file(path)?;
    Certificate::from_pem_bundle(&bytes).map_err(|error| TargetError::Malformed {
        what: path.display().to_string(),
        cause: chain(&error),
    })
}

/// The bytes of a file that the person has named; symbolic links are followed.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, TargetError> {
    let read = || {
        let file = atomic::open_regular(&path.canonicalize()?)?;
        atomic::read_limited(&file, CERTIFICATES_LIMIT)
    };
    read().map_err(|error| TargetError::of_read(path, error))
}
