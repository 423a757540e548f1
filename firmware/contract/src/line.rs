//! One line of the protocol: a word and its keys.

use std::fmt;

use crate::MAGIC;

/// A parsed or to-be-written line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The word after the magic.
    pub word: String,
    /// Keys and decoded values, in order; a key may repeat.
    pub fields: Vec<(String, String)>,
}

impl Line {
    /// A line with no fields yet.
    #[must_use]
    pub fn new(word: &str) -> Self {
        Self {
            word: word.to_owned(),
            fields: Vec::new(),
        }
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.fields.push((key.to_owned(), value.to_string()));
        self
    }

    /// The same with one more field, when there is a value for it.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// All values of `key`, in order.
    #[must_use]
    pub fn all(&self, key: &str) -> Vec<String> {
        let values = self.fields.iter().filter(|(k, _)| k == key);
        values.map(|(_, value)| value.clone()).collect()
    }

    /// The first value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    /// Finds a protocol line inside console text: whatever stands before the magic (time stamps,
    /// escape sequences) is skipped. None when there is no protocol line.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let start = text.find(MAGIC)? + MAGIC.len();
        let mut words = text[start..].strip_prefix(' ')?.split_ascii_whitespace();
        let word = words.next()?.to_owned();
        let fields = words
            .filter_map(|field| field.split_once('='))
            .map(|(key, value)| (key.to_owned(), decode(value)))
            .collect();
        Some(Self { word, fields })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MAGIC} {}", self.word)?;
        for (key, value) in &self.fields {
            write!(f, " {key}=")?;
            for byte in value.bytes() {
                if byte.is_ascii_graphic() && byte != b'%' {
                    write!(f, "{}", char::from(byte))?;
                } else {
                    write!(f, "%{byte:02X}")?;
                }
            }
        }
        Ok(())
    }
}

/// Percent-decodes; a broken escape stands for itself.
fn decode(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| value.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip_whatever_the_value() {
        for value in [
            "",
            "plain",
            "two words",
            "50%",
            "a=b",
            "ü\n\u{1b}[0m",
            "%zz",
        ] {
            let line = Line::new("unit-failed").with("unit", value).with("n", 7);
            let text = format!("[   1.5] {line}\r");
            assert_eq!(Line::parse(&text), Some(line), "{value:?}");
        }
    }

    #[test]
    fn other_console_text_is_no_line() {
        for text in [
            "",
            "baker1",
            "baker1x y",
            "[ OK ] Reached target",
            "baker2 ready",
        ] {
            assert_eq!(Line::parse(text), None, "{text:?}");
        }
    }
}
