//! The programs that firmware can start: boot loaders and unified kernel images.

use std::collections::BTreeMap;

use baker_formats::pe::{Image, authenticode};
use baker_formats::volume::{EntryKind, Volume};
use baker_model::Digest;
use serde::Serialize;

/// Larger programs than this are not looked into: they are read whole.
const PROGRAM_LIMIT: u64 = 256 << 20;

/// Larger text sections than this hold no text.
const TEXT_LIMIT: usize = 64 << 10;

/// A program on the ESP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Program {
    /// Path on its volume, without a leading slash.
    pub path: String,
    /// Number of bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Digest,
    /// Names of the certificates that its signatures bring along.
    pub signed_by: Vec<String>,
    /// Its sections.
    pub sections: Vec<ProgramSection>,
    /// The kernel command line inside, of a unified kernel image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// The kernel release inside, of a unified kernel image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
}

/// A section of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProgramSection {
    /// Its name.
    pub name: String,
    /// Number of bytes, without fill.
    pub size: u64,
    /// Digest of those.
    pub sha256: Digest,
}

/// The programs of a volume. What is called one and is none is left out.
pub(super) fn find(volume: &Volume) -> Vec<Program> {
    let files = volume.entries().iter().filter(|(path, entry)| {
        let name = path.file_name().to_ascii_lowercase();
        matches!(entry.kind, EntryKind::File { .. }) && name.ends_with(b".efi")
    });
    files
        .filter_map(|(path, _)| {
            let bytes = volume.read(path, PROGRAM_LIMIT).ok().flatten()?;
            let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
            read(path, &bytes)
        })
        .collect()
}

fn read(path: String, bytes: &[u8]) -> Option<Program> {
    let image = Image::parse(bytes).ok()?;
    let text = |name| {
        let section = image.section_bytes(bytes, name)?;
        let text = str::from_utf8(section.get(..section.len().min(TEXT_LIMIT))?).ok()?;
        Some(text.trim_matches(['\0', '\n', ' ']).to_owned())
    };
    let signatures = authenticode::signatures(bytes).unwrap_or_default();
    Some(Program {
        path,
        size: bytes.len() as u64,
        sha256: Digest::of(bytes),
        signed_by: signatures
            .into_iter()
            .flat_map(|signature| signature.names)
            .collect(),
        sections: image
            .sections
            .iter()
            .map(|section| {
                let body = image
                    .section_bytes(bytes, &section.name)
                    .unwrap_or_default();
                ProgramSection {
                    name: section.name.clone(),
                    size: body.len() as u64,
                    sha256: Digest::of(body),
                }
            })
            .collect(),
        command_line: text(".cmdline"),
        kernel: text(".uname"),
    })
}

/// The fields of an `os-release` or a like file.
pub(super) fn fields(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| {
            let value = value.trim_matches(['"', '\'']);
            (key.to_owned(), value.to_owned())
        })
        .collect()
}
