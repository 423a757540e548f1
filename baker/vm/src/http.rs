//! One HTTP/1.1 GET, plain or by TLS, as small as a check needs it.

use std::net::Ipv4Addr;
use std::time::Duration;

use baker_model::plan::HttpCheck;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::tls;

/// An answer is read up to this many bytes.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// A single try may take this long: a server that accepts and says nothing is tried again.
const TRY: Duration = Duration::from_secs(5);

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// For any answer.
    pub any: Duration,
    /// For the right one, once there was one at all.
    pub right: Duration,
}

/// Makes the request until it is answered as planned or the time is up; says what was found, or
/// what was wrong last.
pub(crate) async fn check(
    check: &HttpCheck,
    host_port: u16,
    window: Window,
    certificate: Option<&Vec<u8>>,
) -> Result<String, String> {
    let tls = certificate.map(|der| tls::connector(der)).transpose();
    let tls = tls.map_err(|error| format!("cannot prepare TLS: {error}"))?;
    let mut deadline = Instant::now() + window.any;
    let mut answered = false;
    let mut problem = "no try was made".to_owned();
    loop {
        match timeout_at(
            deadline,
            timeout(TRY, attempt(check, host_port, tls.as_ref())),
        )
        .await
        {
            Err(_) => break,
            Ok(Err(_)) => problem = format!("no whole answer within {} s", TRY.as_secs()),
            Ok(Ok(Err(error))) => problem = error.to_string(),
            Ok(Ok(Ok(answer))) => match judge(check, &answer) {
                Ok(found) => return Ok(found),
                Err(found) => {
                    problem = found;
                    if !answer.is_empty() && !answered {
                        answered = true;
                        deadline = deadline.min(Instant::now() + window.right);
                    }
                }
            },
        }
        if timeout_at(deadline, sleep(PAUSE)).await.is_err() {
            break;
        }
    }
    Err(problem)
}

async fn attempt(
    check: &HttpCheck,
    port: u16,
    tls: Option<&TlsConnector>,
) -> std::io::Result<Vec<u8>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    match tls {
        None => speak(check, stream).await,
        Some(tls) => {
            let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
            speak(check, tls.connect(name, stream).await?).await
        }
    }
}

async fn speak(
    check: &HttpCheck,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> std::io::Result<Vec<u8>> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: localhost:{}\r\nUser-Agent: baker\r\nConnection: close\r\n\r\n",
        check.path, check.port
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn judge(check: &HttpCheck, answer: &[u8]) -> Result<String, String> {
    let Some(answer) = Answer::parse(answer) else {
        return Err("the answer is not HTTP/1".to_owned());
    };
    if answer.status != check.status {
        return Err(format!(
            "status {}, expected {}",
            answer.status, check.status
        ));
    }
    match &check.contains {
        Some(text) if !String::from_utf8_lossy(&answer.body).contains(text.as_str()) => {
            Err(format!(
                "the body ({} bytes) does not contain `{text}`",
                answer.body.len()
            ))
        }
        _ => Ok(format!(
            "status {}, {} bytes",
            answer.status,
            answer.body.len()
        )),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    /// Reads status line, header and body (RFC 9112); none when cut short or something else.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let header = std::str::from_utf8(&bytes[..end]).ok()?;
        let body = &bytes[end + 4..];
        let mut lines = header.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let status = words
            .next()?
            .starts_with("HTTP/1.")
            .then(|| words.next())??
            .parse()
            .ok()?;
        let field = |name: &str| {
            header.split("\r\n").skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let chunked =
            field("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
        let body = if chunked {
            dechunk(body)?
        } else if let Some(length) = field("content-length") {
            body.get(..length.parse().ok()?)?.to_vec()
        } else {
            body.to_vec()
        };
        Some(Self { status, body })
    }
}

/// Joins the chunks (RFC 9112 section 7.1).
fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end])
            .ok()?
            .split(';')
            .next()?
            .trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(status: u16, contains: Option<&str>) -> HttpCheck {
        let contains = contains.map(str::to_owned);
        HttpCheck {
            port: 80,
            path: "/x".into(),
            status,
            contains,
            tls: None,
        }
    }

    #[test]
    fn answers_are_read_as_the_protocol_says() {
        let rows: [(&str, Option<(u16, &str)>); 6] = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
                Some((200, "hi")),
            ),
            ("HTTP/1.0 404 Not Found\r\n\r\nno", Some((404, "no"))),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
                Some((200, "hello")),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
                None,
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi", None),
            ("SSH-2.0-OpenSSH\r\n\r\n", None),
        ];
        for (bytes, expected) in rows {
            let expected = expected.map(|(status, body)| Answer {
                status,
                body: body.as_bytes().to_vec(),
            });
            assert_eq!(Answer::parse(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn status_and_text_must_both_hold() {
        let answer = b"HTTP/1.1 200 OK\r\n\r\nbaked";
        assert_eq!(
            judge(&plan(200, Some("baked")), answer).unwrap(),
            "status 200, 5 bytes"
        );
        assert!(
            judge(&plan(200, Some("fried")), answer)
                .unwrap_err()
                .contains("`fried`")
        );
        assert!(
            judge(&plan(204, None), answer)
                .unwrap_err()
                .contains("200, expected 204")
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn it_tries_again_until_the_server_is_ready() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let count = stream.read(&mut request).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\n\r\nready")
                .await
                .unwrap();
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        let plan = plan(200, Some("ready"));
        let window = |time| Window {
            any: time,
            right: time,
        };
        let found = check(&plan, port, window(Duration::from_secs(20)), None).await;
        assert_eq!(found.unwrap(), "status 200, 5 bytes");
        assert!(
            server
                .await
                .unwrap()
                .starts_with("GET /x HTTP/1.1\r\nHost: ")
        );
        let refused = check(&plan, port, window(Duration::from_millis(300)), None)
            .await
            .unwrap_err();
        assert!(refused.contains("refused"), "{refused}");
    }
}
