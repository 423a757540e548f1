//! The journal of this boot, as far as it tells of errors.

use std::path::Path;
use std::time::Duration;

use super::command::{Ended, run};
use super::{Answer, Progress, cut};

/// Where the image has the program that reads the journal. Its files have a format of their own,
/// with compression and more; nobody but systemd reads them rightly for every version.
const PROGRAMS: [&str; 2] = ["/usr/bin/journalctl", "/bin/journalctl"];

/// How long reading may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the journal may take to write what it has been sent.
const SYNC_PATIENCE: Duration = Duration::from_secs(10);

/// Entries that are told, and how much is read for them.
const ENTRIES: usize = 256;
const READ: usize = 1 << 20;

/// Lines of a failed unit that are told, and how long reading them may take.
const LAST_LINES: usize = 12;
const LAST_PATIENCE: Duration = Duration::from_secs(20);

/// The longest entry, in bytes.
const ENTRY: usize = 512;

/// Tells each entry at priority err or worse. Holds when that is all of them.
///
/// # Errors
/// The image cannot read its journal.
pub fn errors(progress: Progress<'_>) -> Result<Answer, String> {
    // Failing that, the journal is read as it stands.
    journalctl(&["--sync"], SYNC_PATIENCE, progress).ok();
    let fields = "--output-fields=MESSAGE,UNIT,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER";
    let arguments = [
        "-b",
        "-p",
        "err",
        "-o",
        "export",
        "-q",
        "--no-pager",
        fields,
    ];
    let ended = journalctl(&arguments, PATIENCE, progress)?;
    if !succeeded(&ended) {
        return Err(format!("journalctl: {}", ended.describe()));
    }
    Ok(answer(&ended.output.bytes, ended.output.cut))
}

/// What a unit said last, and what was said of it; empty when that cannot be read.
pub fn last_words(unit: &str) -> String {
    let lines = LAST_LINES.to_string();
    let arguments = [
        "-b",
        "-u",
        unit,
        "-n",
        &lines,
        "-o",
        "cat",
        "-q",
        "--no-pager",
    ];
    match journalctl(&arguments, LAST_PATIENCE, &|_| ()) {
        Ok(ended) if succeeded(&ended) => {
            let text = String::from_utf8_lossy(&ended.output.bytes);
            let lines = text.lines().map(|line| cut(line.trim_end(), ENTRY));
            lines.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn journalctl(
    arguments: &[&str],
    patience: Duration,
    progress: Progress<'_>,
) -> Result<Ended, String> {
    let program = PROGRAMS
        .into_iter()
        .find(|path| Path::new(path).exists())
        .ok_or("the image has no journalctl, so its journal cannot be read")?;
    let words = std::iter::once(&program).chain(arguments);
    let words: Vec<String> = words.map(|&word| word.to_owned()).collect();
    run(&words, patience, READ, progress)
}

/// Without a single entry journalctl ends with 0 or, in some versions, with 1 and silence.
fn succeeded(ended: &Ended) -> bool {
    let code = ended.status.and_then(|status| status.code());
    code == Some(0)
        || (code == Some(1) && ended.output.bytes.is_empty() && ended.errors.bytes.is_empty())
}

fn answer(export: &[u8], cut_off: bool) -> Answer {
    let (entries, whole) = parse(export);
    // What is not told cannot be excused.
    let complete = whole && !cut_off && entries.len() <= ENTRIES;
    let found = match (entries.len(), complete) {
        (count, true) => format!("{count} entries"),
        (_, false) => format!("more than the {ENTRIES} entries or {READ} bytes that are told"),
    };
    Answer {
        findings: entries.into_iter().take(ENTRIES).collect(),
        ..Answer::new(complete, found)
    }
}

/// The fields of an entry that matter.
#[derive(Default)]
struct Entry {
    message: Option<String>,
    /// What systemd says it speaks of.
    unit: Option<String>,
    /// Where the sender belongs.
    sender: Option<String>,
    identifier: Option<String>,
}

impl Entry {
    fn set(&mut self, key: &[u8], value: &[u8]) {
        let field = match key {
            b"MESSAGE" => &mut self.message,
            b"UNIT" => &mut self.unit,
            b"_SYSTEMD_UNIT" => &mut self.sender,
            b"SYSLOG_IDENTIFIER" => &mut self.identifier,
            _ => return,
        };
        let text = String::from_utf8_lossy(value);
        *field = Some(text.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    /// `UNIT: MESSAGE`; what PID 1 and the kernel say is not about their own unit.
    fn text(self) -> String {
        let sender = self.sender.filter(|unit| unit != "init.scope");
        let from = self.unit.or(sender).or(self.identifier);
        let from = from.unwrap_or_else(|| "unknown".into());
        let message = self.message.unwrap_or_default();
        cut(&format!("{from}: {message}"), ENTRY)
    }
}

/// Reads the Journal Export Format: `KEY=VALUE` lines, or a line `KEY`, the length of the value
/// as 64-bit little-endian number, the value and a line end; entries are separated by empty
/// lines. Also gives whether all was understood.
fn parse(mut bytes: &[u8]) -> (Vec<String>, bool) {
    let mut entries = Vec::new();
    let mut entry = None::<Entry>;
    while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        bytes = rest;
        if line.is_empty() {
            entries.extend(entry.take().map(Entry::text));
            continue;
        }
        let (key, value) = match line.iter().position(|&byte| byte == b'=') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => match binary(bytes) {
                Some((value, rest)) => {
                    bytes = rest;
                    (line, value)
                }
                None => return (entries, false),
            },
        };
        entry.get_or_insert_default().set(key, value);
    }
    entries.extend(entry.take().map(Entry::text));
    (entries, bytes.is_empty())
}

fn binary(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (value, rest) = rest.split_at_checked(length)?;
    Some((value, rest.strip_prefix(b"\n")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORT: &[u8] = b"__CURSOR=s=1\n_SYSTEMD_UNIT=init.scope\nUNIT=a.service\n\
        SYSLOG_IDENTIFIER=systemd\nMESSAGE=Failed to start a.service - A=B.\n\n\
        SYSLOG_IDENTIFIER=kernel\nMESSAGE\n\x05\0\0\0\0\0\0\0a\n\nbc\n\n\
        _SYSTEMD_UNIT=b.service\nSYSLOG_IDENTIFIER=b\nMESSAGE=\xff\n\n";

    #[test]
    fn entries_are_read_whatever_their_bytes() {
        let (entries, whole) = parse(EXPORT);
        let expected = [
            "a.service: Failed to start a.service - A=B.",
            "kernel: a bc",
            "b.service: \u{fffd}",
        ];
        assert_eq!(entries, expected);
        assert!(whole);
        for cut in 0..EXPORT.len() {
            parse(&EXPORT[..cut]);
        }
        assert!(!parse(b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xffx\n").1);
    }

    #[test]
    fn what_is_not_told_spoils_the_answer() {
        assert!(answer(EXPORT, false).holds);
        assert!(answer(b"", false).holds);
        assert!(!answer(EXPORT, true).holds);
        let many = b"MESSAGE=x\n\n".repeat(ENTRIES + 1);
        let answer = answer(&many, false);
        assert!(!answer.holds);
        assert_eq!(answer.findings.len(), ENTRIES);
        let long = [b"MESSAGE=".as_slice(), &[b'x'; 9999], b"\n\n"].concat();
        assert!(parse(&long).0[0].len() < ENTRY + 8);
    }
}
