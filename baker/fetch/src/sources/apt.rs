//! apt's own configuration of sources: `sources.list`, `*.list` and `*.sources`
//! (sources.list(5)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{DEBIAN, SECURITY, SourcesError};
use crate::debian::deb822::paragraphs;

/// One mirror of a Debian archive.
pub struct Entry {
    /// Which archive.
    pub archive: &'static str,
    /// Its root.
    pub url: String,
}

/// All mirrors of Debian archives, in the order in which apt reads them.
pub fn entries(root: &Path) -> Result<Vec<Entry>, SourcesError> {
    let apt = root.join("etc/apt");
    let mut entries = Vec::new();
    if let Some(text) = read(&apt.join("sources.list"))? {
        one_line(&text, &mut entries);
    }
    for path in files(&apt.join("sources.list.d"))? {
        let Some(text) = read(&path)? else { continue };
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("list") => one_line(&text, &mut entries),
            Some("sources") => deb822(&text, &mut entries),
            _ => {}
        }
    }
    Ok(entries)
}

/// True for URLs of the kinds that can be fetched.
pub fn is_fetchable(url: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|start| url.len() > start.len() && url.starts_with(start))
        || url
            .strip_prefix("file:")
            .is_some_and(|path| path.starts_with('/'))
}

fn read(path: &Path) -> Result<Option<String>, SourcesError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SourcesError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, SourcesError> {
    let fail = |source| SourcesError::Read {
        path: folder.to_owned(),
        source,
    };
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let paths: io::Result<Vec<_>> = listing
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut paths = paths.map_err(fail)?;
    paths.sort();
    Ok(paths)
}

/// `deb [options] URL suite component...`
fn one_line(text: &str, entries: &mut Vec<Entry>) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line
            .strip_prefix("deb")
            .filter(|rest| rest.starts_with([' ', '\t']))
        else {
            continue;
        };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(inside) => inside.split_once(']').unwrap_or(("", "")),
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        if let (Some(url), Some(suite)) = (words.next(), words.next()) {
            let signed_by = options
                .split_whitespace()
                .find_map(|o| o.strip_prefix("signed-by="));
            add(url, suite, signed_by.unwrap_or_default(), entries);
        }
    }
}

fn deb822(text: &str, entries: &mut Vec<Entry>) {
    for paragraph in paragraphs(text) {
        let off = paragraph.get("Enabled").is_some_and(|value| {
            ["no", "false", "without", "off", "disable", "0"].contains(&value)
        });
        if off || !paragraph.words("Types").any(|kind| kind == "deb") {
            continue;
        }
        let signed_by = paragraph.get("Signed-By").unwrap_or_default();
        for url in paragraph.words("URIs") {
            for suite in paragraph.words("Suites") {
                add(url, suite, signed_by, entries);
            }
        }
    }
}

/// Takes an entry when it is plainly one of Debian's own archives: by the name of the folder, or
/// by the keyring that it is tied to. The rest belongs to third parties.
fn add(url: &str, suite: &str, signed_by: &str, entries: &mut Vec<Entry>) {
    let url = url.trim_end_matches('/');
    let folder = url.rsplit('/').next().unwrap_or_default();
    let by_keyring = signed_by.contains("/debian-archive-");
    if !is_fetchable(url) || !(folder == DEBIAN || folder == SECURITY || by_keyring) {
        return;
    }
    let security = folder == SECURITY || (folder != DEBIAN && suite.ends_with("-security"));
    let archive = if security { SECURITY } else { DEBIAN };
    entries.push(Entry {
        archive,
        url: url.to_owned(),
    });
}
