//! What a package says of itself: source, maintainer, licence.

use std::io;

use baker_model::lock::PackageLock;
use baker_model::tree::{Kind, LastLink, TreePath};

use super::copyright::Licensing;
use crate::assemble::control::Paragraph;
use crate::{Assembled, PackageText, Spool};

/// What the bill of materials says of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFacts {
    /// What the lock says of it.
    pub lock: PackageLock,
    /// Name of the source package.
    pub source: String,
    /// Version of the source package.
    pub source_version: String,
    /// `Maintainer`, as written; empty when there is none.
    pub maintainer: String,
    /// `Homepage`.
    pub homepage: Option<String>,
    /// First line of the description.
    pub summary: String,
    /// What its copyright file says.
    pub licensing: Licensing,
}

impl PackageFacts {
    /// Reads control and copyright file. Fields that cannot be read are left empty: the package
    /// has been checked where it was unpacked.
    #[must_use]
    pub fn of(text: &PackageText) -> Self {
        let lock = text.lock.clone();
        let paragraph = Paragraph::parse(&text.control).unwrap_or_default();
        let field = |name| paragraph.get(name).unwrap_or_default();
        // `Source: name (version)`; both as the package when not given (Debian policy 5.6.1).
        let (source, version) = match field("Source").split_once('(') {
            Some((name, version)) => (name.trim(), version.trim_end_matches(')').trim()),
            None => (field("Source").trim(), ""),
        };
        let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
        let copyright = text.copyright.as_deref().map(String::from_utf8_lossy);
        Self {
            source: or(source, &lock.name),
            source_version: or(version, &lock.version),
            maintainer: field("Maintainer").to_owned(),
            homepage: paragraph.get("Homepage").map(str::to_owned),
            summary: field("Description")
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
            licensing: Licensing::of(copyright.as_deref()),
            lock,
        }
    }

    /// What packages are sorted by.
    pub(super) fn key(&self) -> (&str, &str, &str) {
        let lock = &self.lock;
        (&lock.name, &lock.architecture, &lock.version)
    }
}

/// What the packages of the root say of themselves. To be called before files are left out: most
/// images are without `/usr/share/doc`.
///
/// # Errors
/// A copyright file cannot be read back.
pub fn texts(assembled: &Assembled, spool: &Spool) -> io::Result<Vec<PackageText>> {
    let text = |package: &crate::Package| {
        let path = TreePath::new(format!("usr/share/doc/{}/copyright", package.lock.name));
        // A package of the same source may share the folder, by a link.
        let found = path
            .ok()
            .and_then(|path| assembled.tree.resolve(&path, LastLink::Follow));
        let node = found.and_then(|path| assembled.tree.get(&path));
        let copyright = match node.map(|node| &node.kind) {
            Some(Kind::File { content, .. }) => Some(spool.read(content)?),
            _ => None,
        };
        Ok(PackageText {
            lock: package.lock.clone(),
            control: package.control.clone(),
            copyright,
        })
    };
    assembled.packages.iter().map(text).collect()
}
