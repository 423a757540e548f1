//! Lines out of byte streams, and text out of terminal noise.

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

/// Bytes read at a time.
const CHUNK: usize = 8 * 1024;

/// A line longer than this is cut, so that a guest cannot fill the host's memory.
const LONGEST: usize = 64 * 1024;

/// A piece of a stream of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A line, without its end. An unfinished last line counts as one.
    Line(String),
    /// A line that is not over yet, as far as it is there: a prompt, or half of a line.
    Prompt(String),
    /// Nothing more comes.
    End,
}

/// Sends every piece of `read`; waits while the receiver is behind.
pub(crate) async fn pump<T>(
    mut read: impl AsyncRead + Unpin,
    sender: mpsc::Sender<T>,
    wrap: fn(Piece) -> T,
) {
    let mut splitter = Splitter::default();
    let mut chunk = vec![0; CHUNK];
    let mut pieces = Vec::new();
    loop {
        let count = read.read(&mut chunk).await.unwrap_or(0);
        splitter.take(&chunk[..count], &mut |line| pieces.push(Piece::Line(line)));
        if count == 0 {
            splitter.finish(&mut |line| pieces.push(Piece::Line(line)));
            pieces.push(Piece::End);
        } else if let Some(text) = splitter.unfinished() {
            pieces.push(Piece::Prompt(text));
        }
        for piece in pieces.drain(..) {
            if sender.send(wrap(piece)).await.is_err() {
                return;
            }
        }
        if count == 0 {
            return;
        }
    }
}

/// Only so much of an unfinished line is shown: a prompt is short.
const PROMPT: usize = 512;

#[derive(Debug, Default)]
struct Splitter {
    pending: Vec<u8>,
}

impl Splitter {
    fn take(&mut self, bytes: &[u8], sink: &mut dyn FnMut(String)) {
        for &byte in bytes {
            if byte == b'\n' || self.pending.len() == LONGEST {
                self.finish(sink);
            }
            if byte != b'\n' {
                self.pending.push(byte);
            }
        }
    }

    /// The end of the line that is not over yet, if there is one.
    fn unfinished(&self) -> Option<String> {
        let end = &self.pending[self.pending.len().saturating_sub(PROMPT)..];
        (!end.is_empty()).then(|| String::from_utf8_lossy(end).into_owned())
    }

    fn finish(&mut self, sink: &mut dyn FnMut(String)) {
        if !self.pending.is_empty() {
            let line = String::from_utf8_lossy(&self.pending).into_owned();
            self.pending.clear();
            sink(line);
        }
    }
}

/// The text that a terminal would show: without escape sequences (ECMA-48 control sequences and
/// strings, single shifts) and without control bytes; used for matching, never for the log.
pub(crate) fn plain_text(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            if !c.is_control() {
                text.push(c);
            } else if c == '\t' {
                text.push(' ');
            }
            continue;
        }
        match chars.next() {
            // Control sequence: parameters and intermediates, then one final byte 0x40-0x7e.
            Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
            // Operating system command: up to BEL or the string terminator ESC \.
            Some(']') => {
                while let Some(c) = chars.next() {
                    if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                        break;
                    }
                }
            }
            // Designation of a character set: one more character.
            Some('(' | ')' | '#' | '%') => drop(chars.next()),
            _ => {}
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_leave_no_trace() {
        let rows = [
            ("\u{1b}[0;1;31m[FAILED]\u{1b}[0m x\r", "[FAILED] x"),
            (
                "\u{1b}[2J\u{1b}[01;01H\u{1b}[=3hBdsDxe: loading",
                "BdsDxe: loading",
            ),
            ("\u{1b}]0;title\u{7}a\u{1b}]3008;x\u{1b}\\b", "ab"),
            ("\u{1b}(Ba\tb\u{1b}", "a b"),
            ("plain  ", "plain"),
        ];
        for (line, expected) in rows {
            assert_eq!(plain_text(line), expected, "{line:?}");
        }
    }

    #[test]
    fn lines_are_whole_bounded_and_none_is_lost() {
        let mut found = Vec::new();
        let mut splitter = Splitter::default();
        for piece in [&b"one\r\ntw"[..], b"o\n\n", &[b'x'; LONGEST + 3], b"\xff"] {
            splitter.take(piece, &mut |line| found.push(line));
        }
        assert_eq!(splitter.unfinished().as_deref(), Some("xxx\u{fffd}"));
        splitter.finish(&mut |line| found.push(line));
        let expected = [
            "one\r".to_owned(),
            "two".into(),
            "x".repeat(LONGEST),
            "xxx\u{fffd}".into(),
        ];
        assert_eq!(found, expected);
    }
}
