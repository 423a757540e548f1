//! As much of D-Bus as asking systemd needs: method calls and their replies.
//!
//! Follows the D-Bus specification, "Message Protocol" and "Authentication Protocol". Only little
//! endian, which is the byte order of every machine this program is built for.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// No reply we ask for comes near this; the specification allows 128 MiB.
const MESSAGE_LIMIT: usize = 4 << 20;

/// How long one reply may take. Generous: under emulation, systemd is busy for seconds.
const PATIENCE: Duration = Duration::from_secs(30);

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// What is called.
#[derive(Debug, Clone, Copy)]
pub struct Method<'a> {
    /// Bus name; none on a direct connection.
    pub destination: Option<&'a str>,
    /// Object path.
    pub path: &'a str,
    /// Interface.
    pub interface: &'a str,
    /// Method name.
    pub member: &'a str,
}

/// Arguments of a call.
#[derive(Debug, Clone, Copy)]
pub enum Arguments<'a> {
    /// Some strings, each an argument.
    Texts(&'a [&'a str]),
    /// One argument: a list of strings.
    List(&'a [&'a str]),
}

/// An authenticated connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl Connection {
    /// Connects and authenticates as this process's user.
    ///
    /// # Errors
    /// The socket cannot be reached, or the other side refuses.
    pub fn open(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Self {
            stream: BufReader::new(stream),
            serial: 0,
        };
        let user: String = nix::unistd::geteuid()
            .to_string()
            .bytes()
            .map(|digit| format!("{digit:02x}"))
            .collect();
        // All in one write, as sd-bus does: a server that reads BEGIN together with the first
        // message leaves that message unanswered.
        connection.send(format!("\0AUTH EXTERNAL {user}\r\nBEGIN\r\n").as_bytes())?;
        let mut answer = String::new();
        connection
            .stream
            .by_ref()
            .take(512)
            .read_line(&mut answer)?;
        if !answer.starts_with("OK ") {
            return Err(invalid(&format!(
                "authentication refused: {}",
                answer.trim_end()
            )));
        }
        Ok(connection)
    }

    /// Calls and waits for the reply; gives the reply's body.
    ///
    /// # Errors
    /// The connection broke, the reply makes no sense, or it is an error (`Other`, its name).
    pub fn call(&mut self, method: Method<'_>, arguments: Arguments<'_>) -> io::Result<Vec<u8>> {
        let replies = self.call_all(&[(method, arguments)])?;
        replies
            .into_iter()
            .next()
            .unwrap_or_else(|| Err(invalid("no reply")))
    }

    /// Calls all at once and waits for all replies, in the order of the calls: a busy peer keeps
    /// us waiting once, not once for each.
    ///
    /// # Errors
    /// The connection broke, or a reply makes no sense. A reply that is an error stands in the
    /// list.
    pub fn call_all(
        &mut self,
        calls: &[(Method<'_>, Arguments<'_>)],
    ) -> io::Result<Vec<io::Result<Vec<u8>>>> {
        let first = self.serial + 1;
        let mut messages = Vec::new();
        for (method, arguments) in calls {
            self.serial += 1;
            messages.extend(encode_call(self.serial, *method, *arguments)?);
        }
        self.send(&messages)?;
        let mut replies: Vec<_> = calls.iter().map(|_| None).collect();
        while replies.iter().any(Option::is_none) {
            // Signals come in between; they are nobody's answer.
            let message = self.receive()?;
            let index = message
                .reply_to
                .and_then(|serial| serial.checked_sub(first));
            let Some(reply) = index.and_then(|index| replies.get_mut(index as usize)) else {
                continue;
            };
            match message.kind {
                METHOD_RETURN => *reply = Some(Ok(message.body)),
                ERROR => *reply = Some(Err(io::Error::other(message.error))),
                _ => {}
            }
        }
        Ok(replies.into_iter().flatten().collect())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut fixed = [0; 16];
        self.stream.read_exact(&mut fixed)?;
        let rest = rest_length(&fixed).ok_or_else(|| invalid("malformed message header"))?;
        let mut bytes = fixed.to_vec();
        bytes.resize(16 + rest, 0);
        self.stream.read_exact(&mut bytes[16..])?;
        Message::parse(&bytes).ok_or_else(|| invalid("malformed message"))
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Bytes that follow the fixed part: the header fields, padded to 8, and the body.
fn rest_length(fixed: &[u8; 16]) -> Option<usize> {
    let mut reader = Reader::new(fixed);
    if reader.byte()? != b'l' {
        return None;
    }
    reader.skip(3)?;
    let body = reader.u32()? as usize;
    reader.u32()?;
    let fields = reader.u32()? as usize;
    let rest = fields.checked_next_multiple_of(8)?.checked_add(body)?;
    (rest <= MESSAGE_LIMIT).then_some(rest)
}

/// A received message, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    kind: u8,
    reply_to: Option<u32>,
    error: String,
    body: Vec<u8>,
}

impl Message {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        reader.skip(1)?;
        let kind = reader.byte()?;
        reader.skip(2)?;
        let body = reader.u32()? as usize;
        reader.u32()?;
        let end = (reader.u32()? as usize).checked_add(16)?;
        let mut message = Self {
            kind,
            reply_to: None,
            error: String::new(),
            body: Vec::new(),
        };
        while reader.at < end {
            reader.align(8)?;
            let code = reader.byte()?;
            match (code, reader.signature()?) {
                (5, b"u") => message.reply_to = Some(reader.u32()?),
                (4, b"s") => message.error = reader.text()?.to_owned(),
                (_, b"s" | b"o") => drop(reader.text()?),
                (_, b"u") => drop(reader.u32()?),
                (_, b"g") => drop(reader.signature()?),
                _ => return None,
            }
        }
        reader.align(8)?;
        message.body = reader.take(body)?.to_vec();
        Some(message)
    }
}

fn encode_call(serial: u32, method: Method<'_>, arguments: Arguments<'_>) -> io::Result<Vec<u8>> {
    let mut body = Writer::default();
    let signature = match arguments {
        Arguments::Texts(texts) => {
            texts.iter().try_for_each(|text| body.text(text))?;
            "s".repeat(texts.len())
        }
        Arguments::List(texts) => {
            let mut list = Writer::default();
            texts.iter().try_for_each(|text| list.text(text))?;
            body.length(list.0.len())?;
            body.0.extend(list.0);
            "as".to_owned()
        }
    };
    let mut fields = Writer::default();
    fields.field(1, b"o", method.path)?;
    fields.field(2, b"s", method.interface)?;
    fields.field(3, b"s", method.member)?;
    if let Some(destination) = method.destination {
        fields.field(6, b"s", destination)?;
    }
    if !signature.is_empty() {
        fields.field(8, b"g", &signature)?;
    }
    let mut message = Writer(vec![b'l', METHOD_CALL, 0, 1]);
    message.length(body.0.len())?;
    message.0.extend(serial.to_le_bytes());
    message.length(fields.0.len())?;
    message.0.extend(fields.0);
    message.align(8);
    message.0.extend(body.0);
    Ok(message.0)
}

/// Writes values; alignment counts from the start, which every use places at a multiple of 8.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn length(&mut self, length: usize) -> io::Result<()> {
        self.align(4);
        self.0.extend(
            u32::try_from(length)
                .map_err(io::Error::other)?
                .to_le_bytes(),
        );
        Ok(())
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        if text.contains('\0') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.length(text.len())?;
        self.0.extend(text.as_bytes());
        self.0.push(0);
        Ok(())
    }

    fn field(&mut self, code: u8, signature: &[u8; 1], text: &str) -> io::Result<()> {
        self.align(8);
        self.0.extend([code, 1, signature[0], 0]);
        if signature == b"g" {
            self.0
                .push(u8::try_from(text.len()).map_err(io::Error::other)?);
            self.0.extend(text.as_bytes());
            self.0.push(0);
            Ok(())
        } else {
            self.text(text)
        }
    }
}

/// Reads values; none as soon as something lies outside or is malformed.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of a message body.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// A 32-bit number.
    pub fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// A 64-bit number.
    pub fn u64(&mut self) -> Option<u64> {
        self.align(8)?;
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// A string or object path.
    pub fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    /// A signature.
    pub fn signature(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?.into();
        let signature = self.take(length)?;
        (self.byte()? == 0).then_some(signature)
    }

    /// The elements of an array, each read by `element` and aligned to `alignment`.
    pub fn array<T>(
        &mut self,
        alignment: usize,
        mut element: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let length = self.u32()? as usize;
        self.align(alignment)?;
        let end = self
            .at
            .checked_add(length)
            .filter(|&end| end <= self.bytes.len())?;
        let mut elements = Vec::new();
        while self.at < end {
            self.align(alignment)?;
            elements.push(element(self)?);
        }
        (self.at == end).then_some(elements)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    fn align(&mut self, to: usize) -> Option<()> {
        self.skip(self.at.checked_next_multiple_of(to)? - self.at)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method<'_> = Method {
        destination: Some("a.b"),
        path: "/p",
        interface: "i.j",
        member: "Do",
    };

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let message = encode_call(7, METHOD, Arguments::Texts(&["x"])).unwrap();
        let expected = b"l\x01\0\x01\x06\0\0\0\x07\0\0\0\x47\0\0\0\
            \x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0\
            \x02\x01s\0\x03\0\0\0i.j\0\0\0\0\0\
            \x03\x01s\0\x02\0\0\0Do\0\0\0\0\0\0\
            \x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0\
            \x08\x01g\0\x01s\0\0\x01\0\0\0x\0";
        assert_eq!(message, expected);
        let fixed = message[..16].try_into().unwrap();
        assert_eq!(rest_length(&fixed), Some(message.len() - 16));
    }

    fn reply() -> Vec<u8> {
        let mut fields = Writer::default();
        fields.align(8);
        fields.0.extend([5, 1, b'u', 0, 7, 0, 0, 0]);
        fields.field(4, b"s", "no.such").unwrap();
        fields.field(8, b"g", "s").unwrap();
        let mut message = Writer(vec![b'l', ERROR, 0, 1]);
        message.length(6).unwrap();
        message.0.extend([1, 0, 0, 0]);
        message.length(fields.0.len()).unwrap();
        message.0.extend(fields.0);
        message.align(8);
        message.text("x").unwrap();
        message.0
    }

    #[test]
    fn replies_are_read_and_no_cut_one_is_taken() {
        let bytes = reply();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.kind, message.reply_to), (ERROR, Some(7)));
        assert_eq!(message.error, "no.such");
        assert_eq!(Reader::new(&message.body).text(), Some("x"));
        for cut in 0..bytes.len() {
            assert_eq!(Message::parse(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn flipped_bytes_never_panic() {
        let bytes = reply();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                drop(Message::parse(&bytes));
                rest_length(&bytes[..16].try_into().unwrap());
            }
        }
    }

    #[test]
    fn lists_travel_both_ways() {
        let message = encode_call(1, METHOD, Arguments::List(&["failed", ""])).unwrap();
        let body = Message::parse(&message).unwrap().body;
        let texts = Reader::new(&body).array(4, Reader::text).unwrap();
        assert_eq!(texts, ["failed", ""]);
        assert_eq!(
            Reader::new(&body[..body.len() - 1]).array(4, Reader::text),
            None
        );
        let huge = [0xff; 16];
        assert_eq!(rest_length(&huge), None);
        assert_eq!(Reader::new(&huge).array(4, Reader::text), None);
    }
}
