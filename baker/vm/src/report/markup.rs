//! Markup that cannot be broken out of: only words of the program itself are written as they are,
//! everything else is escaped on its way in.

/// A growing HTML or XML text.
#[derive(Debug, Default)]
pub(super) struct Markup {
    text: String,
}

impl Markup {
    /// Adds markup. It can only come from the program text.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.text.push_str(markup);
        self
    }

    /// Adds text, escaped; good inside elements and inside quoted attributes.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for character in text.chars() {
            self.character(character);
        }
        self
    }

    /// Adds a number.
    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.text.push_str(&number.to_string());
        self
    }

    /// Adds thousandths as a decimal fraction: `12345` as `12.345`. Always with a point, whatever
    /// the locale.
    pub(super) fn thousandths(&mut self, number: u64) -> &mut Self {
        let (whole, rest) = (number / 1000, number % 1000);
        self.text.push_str(&format!("{whole}.{rest:03}"));
        self
    }

    /// Adds ` name="value"`.
    pub(super) fn attribute(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.raw(" ").raw(name).raw("=\"").text(value).raw("\"")
    }

    /// Adds an element of which `open` is the whole start tag and `close` the end tag.
    pub(super) fn element(
        &mut self,
        open: &'static str,
        text: &str,
        close: &'static str,
    ) -> &mut Self {
        self.raw(open).text(text).raw(close)
    }

    /// Adds bytes in base64, whose alphabet needs no escaping.
    pub(super) fn base64(&mut self, bytes: &[u8]) -> &mut Self {
        use base64ct::{Base64, Encoding as _};
        self.text.push_str(&Base64::encode_string(bytes));
        self
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn character(&mut self, character: char) {
        match character {
            '&' => self.text.push_str("&amp;"),
            '<' => self.text.push_str("&lt;"),
            '>' => self.text.push_str("&gt;"),
            '"' => self.text.push_str("&quot;"),
            '\'' => self.text.push_str("&#39;"),
            '\n' | '\t' => self.text.push(character),
            _ if character.is_control() || reorders(character) || is_no_character(character) => {
                self.text.extend(character.escape_unicode());
            }
            _ => self.text.push(character),
        }
    }
}

/// Characters that change the order in which others are shown (Unicode TR 9, explicit formatting):
/// with them a line of a console can be made to read as another.
const fn reorders(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// U+FFFE and U+FFFF are outside of XML's `Char` (XML 1.0, 2.2).
const fn is_no_character(character: char) -> bool {
    matches!(character, '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let mut page = Markup::default();
        page.raw("<p").attribute("title", "\" onload='x'").raw(">");
        page.text("<script>&\u{0}\u{1b}[1m\r\u{202e}\u{ffff}é\t\n");
        page.element("<b>", "</b>", "</b>").raw("</p>");
        assert_eq!(
            page.finish(),
            "<p title=\"&quot; onload=&#39;x&#39;\">&lt;script&gt;&amp;\\u{0}\\u{1b}[1m\\u{d}\
             \\u{202e}\\u{ffff}é\t\n<b>&lt;/b&gt;</b></p>"
        );
    }

    #[test]
    fn numbers_have_a_point() {
        let mut page = Markup::default();
        page.thousandths(12_045).raw(" ").number(7);
        assert_eq!(page.finish(), "12.045 7");
    }
}
