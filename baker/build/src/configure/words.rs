//! The small grammar that `sysusers.d`, `tmpfiles.d` and `*-preset` share: words, specifiers,
//! folders that override each other.

use std::collections::BTreeMap;

use super::error::ConfigureError;
use super::image::Image;

/// Splits a line into words: blanks separate, quotes group, backslash escapes.
pub(super) fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', _) => {
                let next = letters.next().ok_or("a backslash ends the line")?;
                word.get_or_insert_default().push(unescape(next));
            }
            (_, Some(open)) if letter == open => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(letter),
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            _ if letter.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

fn unescape(letter: char) -> char {
    match letter {
        'n' => '\n',
        't' => '\t',
        's' => ' ',
        other => other,
    }
}

/// Replaces the specifiers whose value an image knows before it boots.
///
/// Those of the running machine (`%m` machine id, `%b` boot id, `%H` host name, `%v` kernel) stay
/// as they are: whoever meets one leaves the line to the machine, see [`is_of_machine`].
pub(super) fn expand(text: &str, image: &Image<'_>) -> Result<String, ConfigureError> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('%') => out.push('%'),
            Some('S') => out.push_str("/var/lib"),
            Some('C') => out.push_str("/var/cache"),
            Some('L') => out.push_str("/var/log"),
            Some('t') => out.push_str("/run"),
            Some('T') => out.push_str("/tmp"),
            Some('V') => out.push_str("/var/tmp"),
            Some('h') => out.push_str("/root"),
            Some('u' | 'g') => out.push_str("root"),
            Some('U' | 'G') => out.push('0'),
            Some('o') => out.push_str(&os_release(image, "ID")?),
            Some('w') => out.push_str(&os_release(image, "VERSION_ID")?),
            Some('M') => out.push_str(&os_release(image, "IMAGE_ID")?),
            Some('A') => out.push_str(&os_release(image, "IMAGE_VERSION")?),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    Ok(out)
}

/// True when a specifier is left that only the running machine can replace.
pub(super) fn is_of_machine(expanded: &str) -> bool {
    expanded.contains('%')
}

fn os_release(image: &Image<'_>, key: &str) -> Result<String, ConfigureError> {
    let text = image.read_text("/usr/lib/os-release")?.unwrap_or_default();
    let value = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(k, _)| *k == key);
    Ok(value
        .map(|(_, value)| value.trim_matches(['"', '\'']).to_owned())
        .unwrap_or_default())
}

/// The `*.conf` files of folders that override each other (first folder first): name to path,
/// sorted by name. A link to `/dev/null` or an empty file hides those of its name.
pub(super) fn configuration_files(
    image: &Image<'_>,
    folders: &[&str],
) -> Result<BTreeMap<String, String>, ConfigureError> {
    files_named(image, folders, ".conf")
}

/// As [`configuration_files`], for another end of name.
pub(super) fn files_named(
    image: &Image<'_>,
    folders: &[&str],
    suffix: &str,
) -> Result<BTreeMap<String, String>, ConfigureError> {
    let mut files = BTreeMap::new();
    for folder in folders {
        for name in image.names(folder)? {
            if name.ends_with(suffix) {
                let path = format!("{folder}/{name}");
                files.entry(name).or_insert(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_systemd_does() {
        assert_eq!(
            split("u a - \"b c\" 'd\"' e\\sf").unwrap().join("|"),
            "u|a|-|b c|d\"|e f"
        );
        assert_eq!(split("  ").unwrap().len(), 0);
        assert_eq!(split("a ''").unwrap(), ["a", ""]);
        assert!(split("a \"b").is_err());
    }
}
