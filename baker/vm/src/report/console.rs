//! A log as lines of coloured text.
//!
//! Colours and weight of SGR sequences (ECMA-48 8.3.117) are kept; every other escape sequence,
//! which would move a cursor or set a title, is dropped. The lines shown are bounded: the
//! beginning, the end, and what stands around the line that decided.

use baker_contract::Line as Message;

use super::Log;
use super::markup::Markup;
use crate::lines::plain_text;

/// Lines shown from the beginning of a long log.
const HEAD: usize = 500;
/// Lines shown from its end.
const TAIL: usize = 2000;
/// Lines shown on either side of the line that decided.
const AROUND: usize = 100;
/// Characters shown of a line.
const WIDTH: usize = 2000;

/// A log and the line of it that decided.
pub(super) struct Lines {
    lines: Vec<String>,
    skipped: u64,
    decisive: Option<usize>,
}

impl Lines {
    /// Splits `log`; `detail` is what the verdict says of the line that decided, if it is one.
    pub(super) fn new(log: Log<'_>, detail: Option<&str>) -> Self {
        let text = String::from_utf8_lossy(log.bytes);
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        if lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        let decisive = detail.and_then(|detail| decisive(&lines, detail));
        Self {
            lines,
            skipped: log.skipped,
            decisive,
        }
    }

    /// Number of lines.
    pub(super) fn count(&self) -> usize {
        self.lines.len()
    }

    /// The line that decided, from 1.
    pub(super) fn decisive(&self) -> Option<usize> {
        self.decisive.map(|index| index + 1)
    }

    /// Writes the lines into a `<pre>`; the line that decided gets the id `anchor`.
    pub(super) fn write(&self, page: &mut Markup, anchor: &str, file: &str) {
        page.raw("<pre class=\"console\" tabindex=\"0\">");
        if self.skipped > 0 {
            let note = format!("{} bytes before this are in {file}", self.skipped);
            page.element("<i>", &note, "\n</i>");
        }
        let mut style = Style::default();
        let mut hidden = 0;
        for (index, line) in self.lines.iter().enumerate() {
            if !self.is_shown(index) {
                hidden += 1;
                continue;
            }
            leave_out(page, &mut hidden, file);
            let decides = self.decisive == Some(index);
            if decides {
                page.raw("<mark").attribute("id", anchor).raw(">");
            }
            page.raw("<b>").number(index as u64 + 1).raw("</b>");
            write_line(page, line, &mut style);
            page.raw(if decides { "\n</mark>" } else { "\n" });
        }
        leave_out(page, &mut hidden, file);
        page.raw("</pre>");
    }

    fn is_shown(&self, index: usize) -> bool {
        index < HEAD
            || index + TAIL >= self.lines.len()
            || self
                .decisive
                .is_some_and(|decisive| decisive.abs_diff(index) <= AROUND)
    }
}

fn leave_out(page: &mut Markup, hidden: &mut usize, file: &str) {
    if *hidden > 0 {
        let note = format!("{hidden} lines left out here; they are in {file}");
        page.element("<i>", &note, "\n</i>");
        *hidden = 0;
    }
}

/// The line that `detail` speaks of: the first that contains it, else the first protocol line
/// that carries a part of it, else the last line that it quotes.
fn decisive(lines: &[String], detail: &str) -> Option<usize> {
    /// Shorter texts are found anywhere.
    const TELLING: usize = 8;
    let detail = detail.trim();
    if detail.len() < TELLING {
        return None;
    }
    let plain: Vec<String> = lines.iter().map(|line| plain_text(line)).collect();
    let carries = |line: &String| {
        let fields = Message::parse(line).map(|message| message.fields);
        fields
            .into_iter()
            .flatten()
            .any(|(_, value)| value.len() >= TELLING && detail.contains(&value))
    };
    let quoted = |line: &String| {
        let line = line.trim();
        line.len() >= TELLING && detail.contains(line)
    };
    plain
        .iter()
        .position(|line| line.contains(detail))
        .or_else(|| plain.iter().position(carries))
        .or_else(|| plain.iter().rposition(quoted))
}

/// The state of SGR sequences; it lasts over line ends, as on a terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Style {
    bold: bool,
    faint: bool,
    colour: Option<u8>,
}

/// Class names of the eight colours; bright ones look the same here.
const COLOURS: [&str; 8] = ["k", "r", "g", "y", "u", "m", "c", "w"];

impl Style {
    /// Applies the parameters of one SGR sequence.
    fn apply(&mut self, parameters: &str) {
        // ISO 8613-6 separates the parts of a colour with colons, most programs with semicolons.
        let mut codes = parameters
            .split([';', ':'])
            .map(|code| code.parse::<u16>().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.faint = true,
                22 => (self.bold, self.faint) = (false, false),
                39 => self.colour = None,
                30..=37 => self.colour = u8::try_from(code - 30).ok(),
                90..=97 => self.colour = u8::try_from(code - 90).ok(),
                38 => self.colour = extended(&mut codes).or(self.colour),
                48 => drop(extended(&mut codes)),
                _ => {}
            }
        }
    }

    fn open(self, page: &mut Markup) -> bool {
        if self == Self::default() {
            return false;
        }
        page.raw("<s class=\"");
        if let Some(name) = self.colour.and_then(|c| COLOURS.get(usize::from(c))) {
            page.raw(name);
        }
        page.raw(if self.bold { " bold" } else { "" });
        page.raw(if self.faint { " faint" } else { "" });
        page.raw("\">");
        true
    }
}

/// A colour of the 256 (`5;n`) or of the 16 million (`2;r;g;b`), as the nearest of the eight.
fn extended(codes: &mut impl Iterator<Item = u16>) -> Option<u8> {
    let nearest = |[red, green, blue]: [u16; 3], half: u16| {
        u8::from(red > half) | u8::from(green > half) << 1 | u8::from(blue > half) << 2
    };
    match codes.next()? {
        5 => match codes.next()? {
            code @ 0..=15 => u8::try_from(code % 8).ok(),
            code @ 16..=231 => {
                let cube = code - 16;
                Some(nearest([cube / 36, cube / 6 % 6, cube % 6], 2))
            }
            code => Some(if code > 243 { 7 } else { 0 }),
        },
        2 => Some(nearest([codes.next()?, codes.next()?, codes.next()?], 127)),
        _ => None,
    }
}

/// Writes one line: its time stamp apart, its text in runs of one style.
fn write_line(page: &mut Markup, line: &str, style: &mut Style) {
    let mut rest = line;
    if let Some(stamp) = stamp(line) {
        page.element("<time>", stamp, "</time>");
        rest = &line[stamp.len()..];
    }
    let mut room = WIDTH;
    let mut run = String::new();
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if let Some(parameters) = escape(&mut characters) {
                flush(page, &mut run, *style);
                style.apply(&parameters);
            }
        } else if !character.is_control() || character == '\t' {
            if room == 0 {
                flush(page, &mut run, *style);
                page.raw("<i> … the rest of this line is left out</i>");
                return;
            }
            room -= 1;
            run.push(character);
        }
    }
    flush(page, &mut run, *style);
}

fn flush(page: &mut Markup, run: &mut String, style: Style) {
    if !run.is_empty() {
        let opened = style.open(page);
        page.text(run).raw(if opened { "</s>" } else { "" });
        run.clear();
    }
}

/// The kernel's time stamp at the beginning of a line: `[    1.234567] `.
fn stamp(line: &str) -> Option<&str> {
    let end = line.strip_prefix('[')?.find(']')? + 2;
    let inside = line[1..end - 1].trim_start();
    let (whole, part) = inside.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(whole) && digits(part)).then(|| &line[..end])
}

/// Consumes the sequence after an ESC; gives its parameters when it is SGR.
fn escape(characters: &mut std::str::Chars<'_>) -> Option<String> {
    match characters.next()? {
        // Control sequence: parameters and intermediates, then one final byte 0x40-0x7e.
        '[' => {
            let mut parameters = String::new();
            let last = characters.find(|character| {
                let is_final = ('@'..='~').contains(character);
                if !is_final && parameters.len() < 64 {
                    parameters.push(*character);
                }
                is_final
            })?;
            (last == 'm' && !parameters.starts_with(['?', '<', '=', '>'])).then_some(parameters)
        }
        // Strings (OSC, DCS, PM, APC, SOS): up to BEL or the string terminator ESC \.
        ']' | 'P' | '^' | '_' | 'X' => {
            let mut before = ' ';
            for character in characters.by_ref() {
                if character == '\u{7}' || (before == '\u{1b}' && character == '\\') {
                    break;
                }
                before = character;
            }
            None
        }
        // Designation of a character set: one more character.
        '(' | ')' | '#' | '%' => {
            characters.next();
            None
        }
        _ => None,
    }
}

/// The end of a log as plain text of at most about `limit` bytes, cut at a line.
pub(super) fn plain_tail(log: Log<'_>, limit: usize) -> String {
    let text = String::from_utf8_lossy(log.bytes);
    let mut kept = Vec::new();
    let mut room = limit;
    for line in text.lines().rev() {
        let line = plain_text(line);
        if line.len() >= room {
            kept.push("(what stands before this is left out)".to_owned());
            break;
        }
        room -= line.len() + 1;
        kept.push(line);
    }
    kept.reverse();
    kept.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, detail: Option<&str>) -> String {
        let mut page = Markup::default();
        let log = Log {
            bytes: text.as_bytes(),
            skipped: 0,
        };
        Lines::new(log, detail).write(&mut page, "here", "serial.log");
        let text = page.finish();
        let inside = text.strip_prefix("<pre class=\"console\" tabindex=\"0\">");
        inside.unwrap().strip_suffix("</pre>").unwrap().to_owned()
    }

    #[test]
    fn colours_stay_and_cursor_moves_go() {
        let rows = [
            ("\u{1b}[2J\u{1b}[01;01H\u{1b}[=3hBds\r\n", "<b>1</b>Bds\n"),
            (
                "\u{1b}[0;1;31mFAILED\u{1b}[0m x",
                "<b>1</b><s class=\"r bold\">FAILED</s> x\n",
            ),
            (
                "\u{1b}[0;1;38:5:185mUNSUPP\u{1b}[m",
                "<b>1</b><s class=\"y bold\">UNSUPP</s>\n",
            ),
            (
                "\u{1b}[38;2;255;0;0;2ma\u{1b}[22mb\u{1b}[39mc",
                "<b>1</b><s class=\"r faint\">a</s><s class=\"r\">b</s>c\n",
            ),
            (
                "\u{1b}]0;title\u{7}a\u{1b}]3008;x\u{1b}\\b\u{1b}(Bc\u{1b}",
                "<b>1</b>abc\n",
            ),
            (
                "[    1.234567] up\n[ok] x",
                "<b>1</b><time>[    1.234567]</time> up\n<b>2</b>[ok] x\n",
            ),
            (
                "\u{1b}[31ma\nb",
                "<b>1</b><s class=\"r\">a</s>\n<b>2</b><s class=\"r\">b</s>\n",
            ),
            ("a\u{1b}[", "<b>1</b>a\n"),
            ("", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(shown(text, None), expected, "{text:?}");
        }
    }

    #[test]
    fn a_guest_that_prints_markup_is_shown_printing_it() {
        let text = shown("</pre><script>alert(1)</script>\u{1b}[31m<img src=x>", None);
        assert_eq!(
            text,
            "<b>1</b>&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;\
             <s class=\"r\">&lt;img src=x&gt;</s>\n"
        );
    }

    #[test]
    fn the_line_that_decided_is_marked() {
        let find = |text: &str, detail: &str| {
            let log = Log {
                bytes: text.as_bytes(),
                skipped: 0,
            };
            Lines::new(log, Some(detail)).decisive()
        };
        let panic = "[ 1.0] a\n[ 2.0] \u{1b}[31mKernel panic - not syncing: x\r\n";
        assert_eq!(find(panic, "[ 2.0] Kernel panic - not syncing: x"), Some(2));
        let init = "baker1 init-started\nbaker1 init-failed code=verity detail=no%20such%20disk\n";
        assert_eq!(find(init, "verity: no such disk"), Some(2));
        let silent = "first line\nlast line of it\n";
        assert_eq!(
            find(silent, "no sign for 30 s after: last line of it"),
            Some(2)
        );
        assert_eq!(find(silent, "line"), None);
        assert_eq!(find(silent, "something else"), None);
        assert!(shown("quite so", Some("quite so")).contains("<mark id=\"here\"><b>1</b>quite so"));
    }

    #[test]
    fn a_flood_is_cut_and_says_so() {
        let mut flood: String = (1..=9000).map(|n| format!("line number {n}\n")).collect();
        flood.push_str(&"x".repeat(WIDTH + 5));
        let text = shown(&flood, Some("line number 4000"));
        assert_eq!(text.matches("lines left out here").count(), 2);
        assert!(
            text.contains("3399 lines left out here"),
            "{}",
            &text[..200]
        );
        assert!(text.contains("line number 3900\n") && !text.contains("line number 3899\n"));
        assert!(text.contains("line number 4100\n") && !text.contains("line number 4101\n"));
        assert!(text.ends_with("<i> … the rest of this line is left out</i>\n"));
        assert!(text.len() < 200_000);
    }

    #[test]
    fn the_plain_end_of_a_log_fits() {
        let log = |text: &'static str| Log {
            bytes: text.as_bytes(),
            skipped: 0,
        };
        assert_eq!(plain_tail(log("a\n\u{1b}[31mb\r\n"), 100), "a\nb");
        assert_eq!(
            plain_tail(log("aaaa\nbb\ncc\n"), 8),
            "(what stands before this is left out)\nbb\ncc"
        );
    }
}
