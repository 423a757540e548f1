//! Small deb822 documents: Release files and apt's `.sources`. Package indexes have their own,
//! faster reader.

/// The fields of one paragraph, names as written, values with their line breaks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph(Vec<(String, String)>);

impl Paragraph {
    /// The value of a field; names compare without case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The words of a field; empty when it is not there.
    pub fn words<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.get(name).unwrap_or_default().split_whitespace()
    }
}

/// All paragraphs of a text. Lines that are neither a field nor a continuation are passed over,
/// as apt does; whoever needs a field will miss it.
#[must_use]
pub fn paragraphs(text: &str) -> Vec<Paragraph> {
    let mut all = Vec::new();
    let mut current = Paragraph::default();
    for line in text.lines() {
        if line.trim().is_empty() {
            if !current.0.is_empty() {
                all.push(std::mem::take(&mut current));
            }
        } else if line.starts_with('#') {
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = current.0.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            current
                .0
                .push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    if !current.0.is_empty() {
        all.push(current);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_continue_and_paragraphs_end() {
        let text = "# c\nA: 1\nB:\n x y\n# c\n\tz\n\n\nnonsense\na: 2\n";
        let all = paragraphs(text);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("b"), Some("\nx y\nz"));
        assert_eq!(all[0].words("B").collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!(all[1].get("A"), Some("2"));
        assert_eq!(all[1].words("none").count(), 0);
    }
}
