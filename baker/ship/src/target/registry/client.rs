//! One repository of a registry: the requests of the OCI distribution specification 1.1, with
//! basic and token authentication.

use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use baker_model::{Digest, Interrupt};
use base64ct::{Base64, Encoding};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LINK, LOCATION,
    RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::document::{Descriptor, INDEX_TYPE, Index, MANIFEST_TYPE};
use crate::folder::Watch;
use crate::target::http::{Credentials, Http};
use crate::target::{Piece, TargetError};

/// The largest manifest, index or list that is read, bytes; registries take no more than 4 MiB.
const DOCUMENT_LIMIT: u64 = 4 << 20;

/// The longest complaint of a registry that is read, bytes.
const COMPLAINT_LIMIT: u64 = 16 << 10;

/// Tells that the registry knows referrers by itself (distribution specification, "Pushing
/// Manifests with Subject").
const SUBJECT_HEADER: &str = "OCI-Subject";

/// Waits before a request is sent again that the server failed to answer (5xx): registries on
/// plain folders do so for a moment while somebody else puts the same blob.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(900),
    Duration::from_millis(2700),
];

/// A repository.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    pub(super) http: &'a Http,
    pub(super) host: &'a str,
    pub(super) repository: String,
    pub(super) credentials: Option<&'a Credentials>,
    /// The header that the registry last accepted, shared by the repositories of a target.
    pub(super) authorization: &'a Mutex<Option<HeaderValue>>,
}

/// Whether a registry keeps referrers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Referrers {
    /// It does.
    Kept,
    /// Whoever pushes has to keep them under a tag.
    ByTag,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Complaints {
    errors: Vec<Complaint>,
}

#[derive(Deserialize)]
struct Complaint {
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

impl Client<'_> {
    /// The digest and the bytes of a manifest or index; none when there is no such.
    pub(super) fn manifest(&self, reference: &str) -> Result<Option<Vec<u8>>, TargetError> {
        let doing = format!("read {} of {}", reference, self.name());
        let url = self.url(&format!("manifests/{reference}"));
        let accept = format!("{MANIFEST_TYPE}, {INDEX_TYPE}");
        let request = || self.request(Method::GET, &url).header(ACCEPT, &accept);
        let response = self.send(&doing, request, None)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = self.accepted(&doing, response)?;
        self.http.bytes(&doing, response, DOCUMENT_LIMIT).map(Some)
    }

    /// Puts a manifest under a tag or its digest.
    pub(crate) fn put_manifest(
        &self,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Referrers, TargetError> {
        let doing = format!("put {} into {}", reference, self.name());
        let url = self.url(&format!("manifests/{reference}"));
        let request = || {
            let request = self.request(Method::PUT, &url);
            request
                .header(CONTENT_TYPE, media_type)
                .body(bytes.to_vec())
        };
        // While another publisher puts the same blob, a registry on plain files rewrites the blob's
        // link in place, reads it empty and calls the manifest invalid.
        let passes = |status: StatusCode| {
            status.is_server_error()
                || [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND].contains(&status)
        };
        let never = Interrupt::new();
        let once = || self.send_once(&doing, request, None);
        let response = self.accepted(&doing, patiently(&never, passes, once)?)?;
        let knows = response.headers().contains_key(SUBJECT_HEADER);
        Ok(if knows {
            Referrers::Kept
        } else {
            Referrers::ByTag
        })
    }

    /// Bytes of a blob; none when it is not there.
    pub(crate) fn blob_size(&self, sha256: Digest) -> Result<Option<u64>, TargetError> {
        let doing = format!("look for {} in {}", sha256.short(), self.name());
        let url = self.url(&format!("blobs/sha256:{sha256}"));
        let response = self.send(&doing, || self.request(Method::HEAD, &url), None)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = self.accepted(&doing, response)?;
        Ok(header(response.headers(), CONTENT_LENGTH.as_str()).and_then(|size| size.parse().ok()))
    }

    /// Puts the bytes of a file as a blob, in one request, streamed.
    pub(crate) fn put_file(
        &self,
        piece: &Piece,
        from: &Path,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        let doing = format!("put `{}` into {}", piece.name, self.name());
        let once = || self.put_file_once(&doing, piece, from, watch.interrupt);
        self.accepted(
            &doing,
            patiently(watch.interrupt, |status| status.is_server_error(), once)?,
        )?;
        watch.advance(piece.size);
        Ok(())
    }

    fn put_file_once(
        &self,
        doing: &str,
        piece: &Piece,
        from: &Path,
        interrupt: &Interrupt,
    ) -> Result<Response, TargetError> {
        let url = self.upload(doing, piece.sha256)?;
        let file = self.http.wait(doing, tokio::fs::File::open(from), None)?;
        let request = self
            .request(Method::PUT, url.as_str())
            .header(CONTENT_LENGTH, piece.size)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(Body::from(file));
        // The upload was opened a moment ago, so the authorization is good; a stream of a file
        // cannot be sent twice.
        self.http.wait_for_upload(doing, request.send(), interrupt)
    }

    /// Puts a small blob.
    pub(crate) fn put_bytes(&self, bytes: &[u8]) -> Result<(), TargetError> {
        let sha256 = Digest::of(bytes);
        if self.blob_size(sha256)? == Some(bytes.len() as u64) {
            return Ok(());
        }
        let doing = format!("put {} into {}", sha256.short(), self.name());
        let url = self.upload(&doing, sha256)?;
        let request = || {
            let request = self.request(Method::PUT, url.as_str());
            let request = request.header(CONTENT_TYPE, "application/octet-stream");
            request.body(bytes.to_vec())
        };
        self.accepted(&doing, self.send(&doing, request, None)?)?;
        Ok(())
    }

    /// Reads a blob from byte `from` on.
    pub(crate) fn read(
        &self,
        piece: &Piece,
        from: u64,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<(), TargetError> {
        let doing = format!("read `{}` from {}", piece.name, self.name());
        let limit = piece.size.saturating_sub(from);
        if limit == 0 {
            return Ok(());
        }
        let url = self.url(&format!("blobs/sha256:{}", piece.sha256));
        let request = || {
            let request = self.request(Method::GET, &url);
            match from {
                0 => request,
                from => request.header(RANGE, format!("bytes={from}-")),
            }
        };
        let response = self.send(&doing, request, Some(watch.interrupt))?;
        let response = self.accepted(&doing, response)?;
        if from > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            // A registry without ranges: what is there already is left out here.
            let mut rest = Skip { left: from, to };
            return self
                .http
                .copy(&doing, response, (piece, piece.size), &mut rest, watch);
        }
        self.http.copy(&doing, response, (piece, limit), to, watch)
    }

    /// All tags, sorted; none when there is no such repository.
    pub(super) fn tags(&self) -> Result<Vec<String>, TargetError> {
        let doing = format!("list {}", self.name());
        let mut url = self.url("tags/list");
        let mut found = Vec::new();
        loop {
            let response = self.send(&doing, || self.request(Method::GET, &url), None)?;
            if response.status() == StatusCode::NOT_FOUND {
                return Ok(found);
            }
            let response = self.accepted(&doing, response)?;
            let next = next_page(&url, response.headers());
            let bytes = self.http.bytes(&doing, response, DOCUMENT_LIMIT)?;
            let page: Tags = parse(&doing, &bytes)?;
            found.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) if next != url => url = next,
                _ => break,
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The manifests whose subject is `subject`, by the registry's own list; none when it keeps
    /// none.
    pub(super) fn referrers(
        &self,
        subject: Digest,
    ) -> Result<Option<Vec<Descriptor>>, TargetError> {
        let doing = format!(
            "list the referrers of {} in {}",
            subject.short(),
            self.name()
        );
        let url = self.url(&format!("referrers/sha256:{subject}"));
        let request = || self.request(Method::GET, &url).header(ACCEPT, INDEX_TYPE);
        let response = self.send(&doing, request, None)?;
        // Registries of before 1.1 answer with a page of their own.
        let is_index = header(response.headers(), CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.starts_with(INDEX_TYPE));
        if !response.status().is_success() || !is_index {
            return Ok(None);
        }
        let bytes = self.http.bytes(&doing, response, DOCUMENT_LIMIT)?;
        let index: Index = parse(&doing, &bytes)?;
        Ok(Some(index.manifests))
    }

    /// The response, when it is a success.
    fn accepted(&self, doing: &str, response: Response) -> Result<Response, TargetError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
            let host = response.url().host_str().unwrap_or_default().to_owned();
            return Err(TargetError::Unauthorized { host });
        }
        // What it says about it is worth telling and not worth failing over.
        let said = self.http.bytes(doing, response, COMPLAINT_LIMIT);
        let said = said.ok().and_then(|bytes| complaint(&bytes));
        Err(TargetError::Remote {
            doing: doing.to_owned(),
            cause: match said {
                Some(said) => format!("the server answered {}: {said}", status.as_u16()),
                None => format!("the server answered {}", status.as_u16()),
            },
        })
    }

    fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    fn url(&self, rest: &str) -> String {
        format!("https://{}/v2/{}/{rest}", self.host, self.repository)
    }

    /// Opens an upload and gives the address that finishes it.
    fn upload(&self, doing: &str, sha256: Digest) -> Result<Url, TargetError> {
        let begin = self.url("blobs/uploads/");
        let request = || self.request(Method::POST, &begin).header(CONTENT_LENGTH, 0);
        let response = self.accepted(doing, self.send(doing, request, None)?)?;
        let location = header(response.headers(), LOCATION.as_str());
        let url = location.and_then(|to| Url::parse(&begin).ok()?.join(&to).ok());
        let mut url = url.ok_or_else(|| TargetError::Malformed {
            what: format!("the answer of {}", self.host),
            cause: "it names no place for an upload".to_owned(),
        })?;
        url.query_pairs_mut()
            .append_pair("digest", &format!("sha256:{sha256}"));
        Ok(url)
    }

    fn request(&self, method: Method, url: &str) -> RequestBuilder {
        let request = self.http.client.request(method, url);
        let held = self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some(header) => request.header(AUTHORIZATION, header.clone()),
            None => request,
        }
    }

    /// Sends a request; once more with authorization when the registry asks for it, and a few
    /// times more when it fails.
    fn send(
        &self,
        doing: &str,
        request: impl Fn() -> RequestBuilder,
        interrupt: Option<&Interrupt>,
    ) -> Result<Response, TargetError> {
        let never = Interrupt::new();
        let once = || self.send_once(doing, &request, interrupt);
        let passes = |status: StatusCode| status.is_server_error();
        patiently(interrupt.unwrap_or(&never), passes, once)
    }

    fn send_once(
        &self,
        doing: &str,
        request: impl Fn() -> RequestBuilder,
        interrupt: Option<&Interrupt>,
    ) -> Result<Response, TargetError> {
        let response = self.http.wait(doing, request().send(), interrupt)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges = response.headers().get_all(WWW_AUTHENTICATE);
        let challenges = challenges.iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<String> = challenges.map(str::to_owned).collect();
        let header = self.authorize(doing, &challenges)?;
        *self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(header);
        self.http.wait(doing, request().send(), interrupt)
    }

    /// The header that answers one of the challenges.
    fn authorize(&self, doing: &str, challenges: &[String]) -> Result<HeaderValue, TargetError> {
        let refused = || TargetError::Unauthorized {
            host: self.host.to_owned(),
        };
        for challenge in challenges {
            let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("basic") {
                let credentials = self.credentials.ok_or_else(refused)?;
                return basic(credentials).ok_or_else(refused);
            }
            if scheme.eq_ignore_ascii_case("bearer") {
                let token = self.token(doing, rest)?;
                return secret(&format!("Bearer {token}")).ok_or_else(refused);
            }
        }
        Err(refused())
    }

    /// A token of the registry's own token server.
    fn token(&self, doing: &str, challenge: &str) -> Result<String, TargetError> {
        let refused = || TargetError::Unauthorized {
            host: self.host.to_owned(),
        };
        let realm = parameter(challenge, "realm").ok_or_else(refused)?;
        let mut url = Url::parse(&realm).map_err(|_| refused())?;
        let scope = parameter(challenge, "scope")
            .unwrap_or_else(|| format!("repository:{}:pull,push", self.repository));
        for (key, value) in [
            ("service", parameter(challenge, "service")),
            ("scope", Some(scope)),
        ] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, &value);
            }
        }
        let mut request = self.http.client.get(url);
        if let Some(header) = self.credentials.and_then(basic) {
            request = request.header(AUTHORIZATION, header);
        }
        let response = self.http.wait(doing, request.send(), None)?;
        if !response.status().is_success() {
            return Err(refused());
        }
        let bytes = self.http.bytes(doing, response, DOCUMENT_LIMIT)?;
        let token: Token = parse(doing, &bytes)?;
        token.token.or(token.access_token).ok_or_else(refused)
    }
}

/// The answer to `once`; asked again after each pause while its status is one that passes.
fn patiently(
    interrupt: &Interrupt,
    passes: impl Fn(StatusCode) -> bool,
    once: impl Fn() -> Result<Response, TargetError>,
) -> Result<Response, TargetError> {
    for pause in PAUSES {
        let response = once()?;
        if !passes(response.status()) || interrupt.is_raised() {
            return Ok(response);
        }
        std::thread::sleep(pause);
    }
    once()
}

/// Leaves out the first bytes.
struct Skip<'a> {
    left: u64,
    to: &'a mut dyn Write,
}

impl Write for Skip<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let skipped = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.left -= skipped as u64;
        self.to.write_all(&bytes[skipped..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// The first error of a registry's own list of errors, in printable characters.
fn complaint(bytes: &[u8]) -> Option<String> {
    let complaints: Complaints = serde_json::from_slice(bytes).ok()?;
    let first = complaints.errors.into_iter().next()?;
    let text = format!("{} {}", first.code, first.message);
    Some(text.trim().escape_debug().collect())
}

pub(super) fn parse<T: for<'de> Deserialize<'de>>(
    doing: &str,
    bytes: &[u8],
) -> Result<T, TargetError> {
    serde_json::from_slice(bytes).map_err(|error| TargetError::Malformed {
        what: format!("the answer to: {doing}"),
        cause: error.to_string(),
    })
}

fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let pair = format!("{}:{}", credentials.user, credentials.password.as_str());
    secret(&format!("Basic {}", Base64::encode_string(pair.as_bytes())))
}

/// A header that is never printed.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The value of `key="value"` in a challenge.
fn parameter(challenge: &str, key: &str) -> Option<String> {
    let mut rest = challenge;
    loop {
        let (name, after) = rest.split_once("=\"")?;
        let (value, tail) = after.split_once('"')?;
        let name = name.trim_start_matches([',', ' ']);
        if name.eq_ignore_ascii_case(key) {
            return Some(value.to_owned());
        }
        rest = tail;
    }
}

/// `Link: </v2/...>; rel="next"`.
fn next_page(url: &str, headers: &HeaderMap) -> Option<String> {
    let link = header(headers, LINK.as_str())?;
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    let base = Url::parse(url).ok()?;
    let next = base.join(target).ok()?;
    // The authorization is for this registry and for nobody else.
    let same = next.host_str() == base.host_str() && next.port() == base.port();
    (rest.contains("rel=\"next\"") && same).then(|| next.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_and_pages_are_understood() {
        let challenge =
            "realm=\"https://auth.example/token\",service=\"r\", scope=\"a:b:pull,push\"";
        assert_eq!(
            parameter(challenge, "realm").unwrap(),
            "https://auth.example/token"
        );
        assert_eq!(parameter(challenge, "Scope").unwrap(), "a:b:pull,push");
        assert_eq!(parameter(challenge, "none"), None);
        assert_eq!(parameter("realm=\"open", "realm"), None);
        let page = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::from_str(link).unwrap());
            next_page("https://h:5000/v2/a/tags/list", &headers)
        };
        let next = page("</v2/a/tags/list?n=2&last=x>; rel=\"next\"");
        assert_eq!(next.unwrap(), "https://h:5000/v2/a/tags/list?n=2&last=x");
        assert_eq!(page("<https://evil/v2/a>; rel=\"next\""), None);
        assert_eq!(page("nonsense"), None);
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials = Credentials::new("me".to_owned(), "hunter2".to_owned());
        let header = basic(&credentials).unwrap();
        let shown = format!("{credentials:?} {header:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("aHVudGVy"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_there_already_is_left_out() {
        let mut out = Vec::new();
        let mut skip = Skip {
            left: 5,
            to: &mut out,
        };
        for part in [&b"abc"[..], b"defg", b"hi"] {
            skip.write_all(part).unwrap();
        }
        assert_eq!(out, b"fghi");
    }
}
