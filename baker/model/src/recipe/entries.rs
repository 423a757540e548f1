//! `[[file]]`, `[[directory]]`, `[[link]]`: what the recipe adds to the root.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Permission bits, written as an octal string (`"0755"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-7]{1,4}$"))]
pub struct Mode(pub u16);

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u16::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a mode; write it in octal, as \"0644\""))
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}

/// `[[file]]`: one file to add; replaces what a package put there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileEntry {
    /// Absolute path in the image.
    pub path: String,
    /// The content itself; either this or `source`.
    #[serde(default)]
    pub content: Option<String>,
    /// A file beside the recipe, relative to its folder; either this or `content`.
    #[serde(default)]
    pub source: Option<String>,
    /// Permissions.
    #[serde(default = "file_mode")]
    pub mode: Mode,
    /// Owner, by name or number.
    #[serde(default = "root_name")]
    pub owner: String,
    /// Group, by name or number.
    #[serde(default = "root_name")]
    pub group: String,
}

/// Where the bytes of a [`FileEntry`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSource<'a> {
    /// In the recipe.
    Content(&'a str),
    /// In a file beside it.
    Local(&'a str),
}

impl FileEntry {
    /// A file of root's at `path` that everybody may read, with the bytes of the local file
    /// `source`.
    #[must_use]
    pub fn local(path: &str, source: String) -> Self {
        Self {
            path: path.to_owned(),
            content: None,
            source: Some(source),
            mode: file_mode(),
            owner: root_name(),
            group: root_name(),
        }
    }

    /// A file of root's at `path` that everybody may read, with this content.
    #[must_use]
    pub fn text(path: &str, content: String) -> Self {
        Self {
            content: Some(content),
            source: None,
            ..Self::local(path, String::new())
        }
    }

    /// Where the bytes are; parsing has made sure that there is exactly one place.
    #[must_use]
    pub fn source(&self) -> FileSource<'_> {
        match (&self.content, &self.source) {
            (_, Some(source)) => FileSource::Local(source),
            (content, None) => FileSource::Content(content.as_deref().unwrap_or_default()),
        }
    }
}

fn file_mode() -> Mode {
    Mode(0o644)
}

fn directory_mode() -> Mode {
    Mode(0o755)
}

fn root_name() -> String {
    "root".to_owned()
}

/// `[[directory]]`: one directory to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Directory {
    /// Absolute path in the image.
    pub path: String,
    /// Permissions.
    #[serde(default = "directory_mode")]
    pub mode: Mode,
    /// Owner, by name or number.
    #[serde(default = "root_name")]
    pub owner: String,
    /// Group, by name or number.
    #[serde(default = "root_name")]
    pub group: String,
}

/// `[[link]]`: one symbolic link to add; replaces what a package put there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Link {
    /// Absolute path in the image.
    pub path: String,
    /// Target, as written into the link.
    pub target: String,
}
