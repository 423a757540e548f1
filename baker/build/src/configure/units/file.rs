//! Unit files: finding them and reading their `[Install]` section.

use baker_model::tree::Kind;

use crate::configure::error::ConfigureError;
use crate::configure::image::Image;

/// Folders of system units, strongest first; `/run` is empty in an image.
pub(super) const FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// How long a chain of links from alias to unit file may be.
const LINK_LIMIT: usize = 8;

/// The parts of a unit name: `prefix@instance.suffix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnitName<'a> {
    /// Before the `@`, or before the suffix.
    pub(super) prefix: &'a str,
    /// Between `@` and suffix; empty for a template.
    pub(super) instance: Option<&'a str>,
    /// With its dot.
    pub(super) suffix: &'a str,
}

impl<'a> UnitName<'a> {
    /// Takes a name apart; none when it has no known suffix.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        const SUFFIXES: [&str; 11] = [
            ".service",
            ".socket",
            ".target",
            ".mount",
            ".automount",
            ".timer",
            ".path",
            ".slice",
            ".swap",
            ".device",
            ".scope",
        ];
        let suffix = *SUFFIXES.iter().find(|suffix| name.ends_with(*suffix))?;
        let stem = &name[..name.len() - suffix.len()];
        let suffix = &name[stem.len()..];
        let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if stem.is_empty() || !stem.chars().all(good) {
            return None;
        }
        Some(match stem.split_once('@') {
            Some((prefix, instance)) => Self {
                prefix,
                instance: Some(instance),
                suffix,
            },
            None => Self {
                prefix: stem,
                instance: None,
                suffix,
            },
        })
    }

    /// True for `name@.service`.
    pub(super) fn is_template(&self) -> bool {
        self.instance == Some("")
    }

    /// The template that an instance comes from.
    pub(super) fn template(&self) -> Option<String> {
        self.instance
            .map(|_| format!("{}@{}", self.prefix, self.suffix))
    }

    /// The name with this instance.
    pub(super) fn with_instance(&self, instance: &str) -> String {
        format!("{}@{instance}{}", self.prefix, self.suffix)
    }
}

/// A unit file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitFile {
    /// Path of the file itself, aliases followed.
    pub(super) path: String,
    /// Name of that file.
    pub(super) name: String,
    /// Its `[Install]` section.
    pub(super) install: Install,
}

/// The `[Install]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Install {
    pub(super) wanted_by: Vec<String>,
    pub(super) required_by: Vec<String>,
    pub(super) upheld_by: Vec<String>,
    pub(super) alias: Vec<String>,
    pub(super) also: Vec<String>,
    pub(super) default_instance: Option<String>,
}

impl Install {
    /// True when enabling would do nothing.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A unit file.
    File(UnitFile),
    /// A link to `/dev/null`, at this path.
    Masked(String),
    /// Nothing.
    Nothing,
}

/// Finds a unit by name, its template when it is an instance.
pub(super) fn find(image: &Image<'_>, name: &str) -> Result<Found, ConfigureError> {
    let template = UnitName::parse(name).and_then(|parts| parts.template());
    for wanted in std::iter::once(name.to_owned()).chain(template) {
        for folder in FOLDERS {
            let path = format!("{folder}/{wanted}");
            match follow(image, &path)? {
                Found::Nothing => {}
                found => return Ok(found),
            }
        }
    }
    Ok(Found::Nothing)
}

/// Follows links from alias to alias until a file is reached.
fn follow(image: &Image<'_>, path: &str) -> Result<Found, ConfigureError> {
    let mut path = path.to_owned();
    for _ in 0..LINK_LIMIT {
        let Some(node) = image.node_itself(&path)? else {
            return Ok(Found::Nothing);
        };
        match &node.kind {
            Kind::File { .. } => return load(image, path).map(Found::File),
            Kind::Symlink { target } if target == b"/dev/null" => return Ok(Found::Masked(path)),
            Kind::Symlink { target } => {
                let Ok(target) = std::str::from_utf8(target) else {
                    return Ok(Found::Nothing);
                };
                path = beside(&path, target);
            }
            _ => return Ok(Found::Nothing),
        }
    }
    Ok(Found::Nothing)
}

/// Where a link at `path` with this `target` leads, `..` and `.` taken away textually.
pub(super) fn beside(path: &str, target: &str) -> String {
    let whole = match (target.starts_with('/'), path.rsplit_once('/')) {
        (false, Some((folder, _))) => format!("{folder}/{target}"),
        _ => target.to_owned(),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn load(image: &Image<'_>, path: String) -> Result<UnitFile, ConfigureError> {
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut install = Install::default();
    let text = image.read_text(&path)?.unwrap_or_default();
    install.read(&text);
    for folder in FOLDERS.iter().rev() {
        let dropins = format!("{folder}/{name}.d");
        for dropin in image.names(&dropins)? {
            if dropin.ends_with(".conf") {
                let text = image
                    .read_text(&format!("{dropins}/{dropin}"))?
                    .unwrap_or_default();
                install.read(&text);
            }
        }
    }
    Ok(UnitFile {
        path,
        name,
        install,
    })
}

impl Install {
    /// Adds what `text` has in its `[Install]` section; an empty value empties the list.
    fn read(&mut self, text: &str) {
        for (key, value) in values(text, "Install") {
            let list = match key.as_str() {
                "WantedBy" => &mut self.wanted_by,
                "RequiredBy" => &mut self.required_by,
                "UpheldBy" => &mut self.upheld_by,
                "Alias" => &mut self.alias,
                "Also" => &mut self.also,
                "DefaultInstance" => {
                    self.default_instance = Some(value).filter(|value| !value.is_empty());
                    continue;
                }
                _ => continue,
            };
            if value.is_empty() {
                list.clear();
            }
            list.extend(value.split_ascii_whitespace().map(str::to_owned));
        }
    }
}

/// Keys and values of one section of a unit file, in order, lines joined where they go on.
pub(super) fn values(text: &str, section: &str) -> Vec<(String, String)> {
    let header = format!("[{section}]");
    let (mut inside, mut values) = (false, Vec::new());
    let mut open = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(part) = line.strip_suffix('\\') {
            open.push_str(part);
            open.push(' ');
            continue;
        }
        let whole = std::mem::take(&mut open) + line;
        if whole.starts_with('[') {
            inside = whole == header;
        } else if let Some((key, value)) = whole.split_once('=').filter(|_| inside) {
            values.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let name = UnitName::parse("getty@tty1.service").unwrap();
        assert_eq!(
            (name.prefix, name.instance, name.suffix),
            ("getty", Some("tty1"), ".service")
        );
        assert_eq!(name.template().unwrap(), "getty@.service");
        assert!(UnitName::parse("getty@.service").unwrap().is_template());
        assert!(UnitName::parse("a.conf").is_none());
        assert!(UnitName::parse(".service").is_none());
        assert!(UnitName::parse("a/b.service").is_none());
    }

    #[test]
    fn values_join_lines_and_skip_comments() {
        let text = "[Unit]\nWantedBy=no\n[Install]\n# x\nWantedBy=a \\\n  b\nAlias = c\n";
        let values = values(text, "Install");
        assert_eq!(
            values[0].1.split_whitespace().collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(values[1], ("Alias".to_owned(), "c".to_owned()));
    }

    #[test]
    fn links_lead_beside_themselves() {
        assert_eq!(beside("/a/b/c", "../d"), "/a/d");
        assert_eq!(beside("/a/b/c", "/x"), "/x");
    }
}
