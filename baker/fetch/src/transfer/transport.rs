//! The only place that knows HTTP: opens a URL as a plain reader.
//!
//! One transport belongs to one thread and owns a small runtime. The network only moves while
//! somebody reads, so a slow disk slows the sender down instead of filling memory.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::{Pin, pin};
use std::time::Duration;

use baker_model::Interrupt;
use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use tokio::runtime::Runtime;

/// How often a wait looks whether somebody asked to stop.
const GLANCE: Duration = Duration::from_millis(100);

/// Opens URLs, one at a time.
#[derive(Debug)]
pub struct Transport {
    stall: Duration,
    http: Option<Http>,
}

#[derive(Debug)]
struct Http {
    runtime: Runtime,
    plain: Option<Client>,
    secure: Option<Client>,
}

/// A URL could not be opened or read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The server says that there is no such file.
    #[error("not found")]
    NotFound,
    /// The server refuses; trying again is of no use.
    #[error("the server answered {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The server has no such range of the file, or sent another one; trying again from the start
    /// may help.
    #[error("{reason}")]
    Range {
        /// What the server said.
        reason: String,
    },
    /// The network or the server failed; trying again may help.
    #[error("{reason}")]
    Failed {
        /// What failed.
        reason: String,
    },
    /// A person asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl TransferError {
    fn failed(error: &dyn std::error::Error) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        Self::Failed { reason }
    }
}

/// The bytes of a URL from `start` on.
pub struct Body<'a> {
    /// First byte that will be read; 0 when the server does not know how to begin elsewhere.
    pub start: u64,
    source: Source<'a>,
}

enum Source<'a> {
    File(File),
    Http {
        runtime: &'a Runtime,
        response: Response,
        stall: Duration,
        interrupt: &'a Interrupt,
    },
}

impl Transport {
    /// A transport that gives up on a connection that is silent for `stall`.
    #[must_use]
    pub fn new(stall: Duration) -> Self {
        Self { stall, http: None }
    }

    /// Opens a URL, from byte `start` on when the server can.
    ///
    /// # Errors
    /// There is no such file, or the network or the server fails.
    pub fn open<'a>(
        &'a mut self,
        url: &str,
        start: u64,
        interrupt: &'a Interrupt,
    ) -> Result<Body<'a>, TransferError> {
        if let Some(path) = url.strip_prefix("file:") {
            return open_file(&decoded(path), start);
        }
        let stall = self.stall;
        let http = match &mut self.http {
            Some(http) => http,
            none => none.insert(Http::new()?),
        };
        let client = http.client(url.starts_with("https:"))?;
        let mut request = client.get(url);
        if start > 0 {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        let response = wait(&http.runtime, request.send(), stall, interrupt)?
            .map_err(|error| TransferError::failed(&error.without_url()))?;
        let start =
            match response.status() {
                StatusCode::OK => 0,
                StatusCode::PARTIAL_CONTENT => range_start(&response)
                    .filter(|at| *at == start)
                    .ok_or(TransferError::Range {
                        reason: "the server sent another range".to_owned(),
                    })?,
                StatusCode::RANGE_NOT_SATISFIABLE => {
                    let reason = "the server has no such range".to_owned();
                    return Err(TransferError::Range { reason });
                }
                StatusCode::NOT_FOUND | StatusCode::GONE => return Err(TransferError::NotFound),
                status if retryable(status) => {
                    let reason = format!("the server answered {}", status.as_u16());
                    return Err(TransferError::Failed { reason });
                }
                status => {
                    return Err(TransferError::Refused {
                        status: status.as_u16(),
                    });
                }
            };
        let runtime = &http.runtime;
        Ok(Body {
            start,
            source: Source::Http {
                runtime,
                response,
                stall,
                interrupt,
            },
        })
    }
}

impl Body<'_> {
    /// The next bytes; empty at the end.
    ///
    /// # Errors
    /// The connection breaks or falls silent, or a person asked to stop.
    pub fn next(&mut self) -> Result<Bytes, TransferError> {
        match &mut self.source {
            Source::File(file) => {
                let mut bytes = Vec::new();
                let read = file.take(super::BUFFER).read_to_end(&mut bytes);
                read.map(|_| bytes.into())
                    .map_err(|error| TransferError::failed(&error))
            }
            Source::Http {
                runtime,
                response,
                stall,
                interrupt,
            } => {
                // An empty chunk is not the end; none is.
                while let Some(chunk) = wait(runtime, response.chunk(), *stall, interrupt)?
                    .map_err(|error| TransferError::failed(&error.without_url()))?
                {
                    if !chunk.is_empty() {
                        return Ok(chunk);
                    }
                }
                Ok(Bytes::new())
            }
        }
    }
}

impl Http {
    fn new() -> Result<Self, TransferError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| TransferError::failed(&error))?;
        Ok(Self {
            runtime,
            plain: None,
            secure: None,
        })
    }

    /// A client without any root certificate serves plain HTTP: a bare host has no certificates,
    /// and needs none to fetch from an archive that is signed.
    fn client(&mut self, secure: bool) -> Result<Client, TransferError> {
        let slot = if secure {
            &mut self.secure
        } else {
            &mut self.plain
        };
        if let Some(client) = slot {
            return Ok(client.clone());
        }
        // Another crate of the process may have chosen a provider before; that one will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = Client::builder()
            .user_agent(concat!("baker/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(20));
        if !secure {
            builder = builder.tls_certs_only([]);
        }
        let client = builder
            .build()
            .map_err(|error| TransferError::failed(&error))?;
        Ok(slot.insert(client).clone())
    }
}

/// Runs a future until it is done, silent for `stall`, or somebody asks to stop.
fn wait<T>(
    runtime: &Runtime,
    future: impl Future<Output = T>,
    stall: Duration,
    interrupt: &Interrupt,
) -> Result<T, TransferError> {
    let mut future: Pin<&mut _> = pin!(future);
    runtime.block_on(async {
        let mut waited = Duration::ZERO;
        loop {
            if interrupt.is_raised() {
                return Err(TransferError::Interrupted);
            }
            if let Ok(output) = tokio::time::timeout(GLANCE, future.as_mut()).await {
                return Ok(output);
            }
            waited += GLANCE;
            if waited >= stall {
                let reason = format!("no answer for {} s", stall.as_secs());
                return Err(TransferError::Failed { reason });
            }
        }
    })
}

fn retryable(status: StatusCode) -> bool {
    status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status)
}

/// `bytes 100-199/200` begins at 100.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

fn open_file(path: &str, start: u64) -> Result<Body<'static>, TransferError> {
    let open = File::open(path).and_then(|mut file| {
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        file.seek(SeekFrom::Start(start)).map(|_| file)
    });
    match open {
        Ok(file) => Ok(Body {
            start,
            source: Source::File(file),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(TransferError::NotFound),
        Err(error) => Err(TransferError::failed(&error)),
    }
}

/// `file:///a%20b` and `file:/a%20b` name `/a b`.
fn decoded(path: &str) -> String {
    let path = path.strip_prefix("//").unwrap_or(path);
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex
            .filter(|_| *first == b'%')
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_urls_name_paths() {
        for (url, path) in [
            ("///a%20b", "/a b"),
            ("/a", "/a"),
            ("/a%2", "/a%2"),
            ("/%zz", "/%zz"),
        ] {
            assert_eq!(decoded(url), path);
        }
    }
}
