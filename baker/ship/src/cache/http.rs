//! A server that knows GET, HEAD and PUT.
//!
//! ```text
//! GET  <base>/ac/<address>      the record, or 404
//! PUT  <base>/ac/<address>
//! HEAD <base>/cas/<sha256>      200 and the size, or 404
//! GET  <base>/cas/<sha256>
//! PUT  <base>/cas/<sha256>
//! ```
//! Everything is signed, so TLS is not needed to believe what is read; it is needed to keep a password
//! or token to oneself, so neither is sent without it, but to the own machine.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use baker_model::Interrupt;
use base64ct::{Base64, Encoding};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};

use super::{RECORD_LIMIT, Shelf, Slot};
use crate::folder::Watch;
use crate::target::{Credentials, Http, Patience, Piece, Secret, TargetError, Transport};

/// How long a request may take that sends something, beside the time for its bytes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The slowest line that is waited for, bytes per second.
const SLOWEST: u64 = 64 << 10;

/// Who we are to the server.
#[derive(Debug, Clone)]
pub enum Authorization {
    /// A name and its password.
    Basic(Credentials),
    /// A token.
    Bearer(Secret),
}

/// A server of entries.
#[derive(Debug)]
pub struct HttpShelf {
    http: Http,
    base: String,
    authorization: Option<HeaderValue>,
}

impl HttpShelf {
    /// The server at `base`, an address without a slash at its end; `authority` is a PEM file of
    /// certificates to believe beside the host's own; `interrupt` ends waiting for it.
    ///
    /// # Errors
    /// The certificates cannot be used, or a credential would be sent in the clear.
    pub fn new(
        base: &str,
        authorization: Option<&Authorization>,
        authority: Option<&Path>,
        interrupt: &Arc<Interrupt>,
    ) -> Result<Self, TargetError> {
        let refuse = |cause: &str| TargetError::Malformed {
            what: base.to_owned(),
            cause: cause.to_owned(),
        };
        let url = Url::parse(base).map_err(|error| refuse(&error.to_string()))?;
        let is_tls = url.scheme() == "https";
        if authorization.is_some() && !is_tls && !is_own_machine(&url) {
            return Err(refuse(
                "a password or token would be sent in the clear; write https://",
            ));
        }
        let header = authorization.map(|it| it.header().ok_or_else(|| refuse("odd credentials")));
        Ok(Self {
            http: Http::new(
                authority,
                match is_tls {
                    true => Transport::TlsOnly,
                    false => Transport::Any,
                },
                Patience::cache(interrupt),
            )?,
            base: base.to_owned(),
            authorization: header.transpose()?,
        })
    }

    fn record_url(&self, slot: &Slot) -> String {
        format!("{}/ac/{}", self.base, slot.address())
    }

    fn blob_url(&self, blob: &Piece) -> String {
        format!("{}/cas/{}", self.base, blob.sha256)
    }

    fn request(&self, method: Method, url: &str) -> RequestBuilder {
        let request = self.http.client.request(method, url);
        match &self.authorization {
            Some(header) => request.header(AUTHORIZATION, header.clone()),
            None => request,
        }
    }

    /// The answer, when it is a success; none when there is nothing at this address.
    fn get(&self, doing: &str, method: Method, url: &str) -> Result<Option<Response>, TargetError> {
        let request = self.request(method, url);
        let response = self.http.wait(doing, request.send(), None)?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            _ => accepted(doing, response).map(Some),
        }
    }

    fn put_body(
        &self,
        doing: &str,
        url: &str,
        (body, size): (Body, u64),
        watch: Option<Watch<'_>>,
    ) -> Result<(), TargetError> {
        let request = self
            .request(Method::PUT, url)
            .header(CONTENT_LENGTH, size)
            .header(CONTENT_TYPE, "application/octet-stream")
            .timeout(PATIENCE + Duration::from_secs(size / SLOWEST))
            .body(body);
        // The time limit wants to be set inside of the runtime.
        let sending = async { request.send().await };
        let response = match watch {
            Some(watch) => self.http.wait_for_upload(doing, sending, watch.interrupt)?,
            None => self.http.wait(doing, sending, None)?,
        };
        let refused = match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => Some("no files: it answered 405 to a PUT"),
            StatusCode::PAYLOAD_TOO_LARGE => Some("no files as large as this one: it answered 413"),
            _ => None,
        };
        if let Some(what) = refused {
            return Err(TargetError::Remote {
                doing: doing.to_owned(),
                cause: format!("the server takes {what}"),
            });
        }
        let response = accepted(doing, response)?;
        // Some redirections turn a PUT into a GET, which succeeds and keeps nothing.
        if response.url().as_str() != url {
            return Err(TargetError::Remote {
                doing: doing.to_owned(),
                cause: format!("the server sends us on to {}", response.url()),
            });
        }
        Ok(())
    }
}

impl Authorization {
    fn header(&self) -> Option<HeaderValue> {
        let text = match self {
            Self::Basic(credentials) => {
                let pair = format!("{}:{}", credentials.user, credentials.password.as_str());
                format!("Basic {}", Base64::encode_string(pair.as_bytes()))
            }
            Self::Bearer(token) => format!("Bearer {}", token.text()),
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Shelf for HttpShelf {
    fn place(&self) -> String {
        self.base.clone()
    }

    fn record(&self, slot: &Slot) -> Result<Option<Vec<u8>>, TargetError> {
        let doing = format!("read {slot} from {}", self.base);
        let response = self.get(&doing, Method::GET, &self.record_url(slot))?;
        let bytes = response.map(|response| self.http.bytes(&doing, response, RECORD_LIMIT));
        bytes.transpose()
    }

    fn put_record(&self, slot: &Slot, record: &[u8], _: &[Piece]) -> Result<(), TargetError> {
        let doing = format!("put {slot} into {}", self.base);
        let body = (Body::from(record.to_vec()), record.len() as u64);
        self.put_body(&doing, &self.record_url(slot), body, None)
    }

    fn size_of(&self, blob: &Piece) -> Result<Option<u64>, TargetError> {
        let doing = format!("look for {} in {}", blob.name, self.base);
        let response = self.get(&doing, Method::HEAD, &self.blob_url(blob))?;
        // Servers that compress on the way do not say the size; it is there all the same.
        Ok(response.map(|response| {
            let size = response.headers().get(CONTENT_LENGTH);
            let size = size.and_then(|size| size.to_str().ok()?.parse().ok());
            size.unwrap_or(blob.size)
        }))
    }

    fn read(
        &self,
        blob: &Piece,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<bool, TargetError> {
        let doing = format!("read {} from {}", blob.name, self.base);
        let Some(response) = self.get(&doing, Method::GET, &self.blob_url(blob))? else {
            return Ok(false);
        };
        self.http
            .copy(&doing, response, (blob, blob.size), to, watch)?;
        Ok(true)
    }

    fn put(&self, blob: &Piece, from: &Path, watch: Watch<'_>) -> Result<(), TargetError> {
        let doing = format!("put {} into {}", blob.name, self.base);
        let opened = tokio::fs::File::open(from);
        let file = self.http.wait(&doing, opened, None)?;
        let body = (Body::from(file), blob.size);
        self.put_body(&doing, &self.blob_url(blob), body, Some(watch))
    }
}

/// The response, when it is a success.
fn accepted(doing: &str, response: Response) -> Result<Response, TargetError> {
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(TargetError::Unauthorized {
            host: response.url().host_str().unwrap_or_default().to_owned(),
        }),
        status => Err(TargetError::Remote {
            doing: doing.to_owned(),
            cause: format!("the server answered {}", status.as_u16()),
        }),
    }
}

/// What never leaves this machine needs no TLS.
fn is_own_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
