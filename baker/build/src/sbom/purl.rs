//! Package URLs (<https://github.com/package-url/purl-spec>).

use std::fmt::Write as _;

use crate::inventory::PackageFacts;

/// `pkg:deb/debian/<name>@<version>?arch=...&distro=...&upstream=...`
///
/// `upstream` is the source package where it has another name or version: scanners look
/// advisories up by it, as those of Debian are about sources.
pub(super) fn of_package(facts: &PackageFacts, suite: &str) -> String {
    let lock = &facts.lock;
    let mut purl = format!(
        "pkg:deb/debian/{}@{}?arch={}&distro={}",
        escaped(&lock.name),
        escaped(&lock.version),
        escaped(&lock.architecture),
        escaped(suite)
    );
    if facts.source != lock.name || facts.source_version != lock.version {
        purl.push_str("&upstream=");
        purl.push_str(&escaped(&facts.source));
        if facts.source_version != lock.version {
            purl.push_str("%40");
            purl.push_str(&escaped(&facts.source_version));
        }
    }
    purl
}

/// Everything but letters, digits, `.-_~` and the colon in percent notation.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'.' | b'-' | b'_' | b'~' | b':' => escaped.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => escaped.push(byte.into()),
            byte => write!(escaped, "%{byte:02X}").expect("a String takes all text"),
        }
    }
    escaped
}

/// The guest program, which comes with baker and from no archive.
pub(super) fn of_guest(version: &str) -> String {
    format!("pkg:generic/baker-guest@{}", escaped(version))
}
