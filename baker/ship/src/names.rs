//! Names inside a release and the name of its folder.

use baker_model::Manifest;

/// The manifest of a release.
pub const MANIFEST: &str = "manifest.json";
/// The signatures over the manifest.
pub const SIGNATURES: &str = "manifest.json.sig";
/// The digests of all files and of the manifest, as `sha256sum` writes them.
pub const SUMS: &str = "SHA256SUMS";

/// The in-toto statement of what the tests said, in its DSSE envelope.
pub const TEST_RESULT: &str = "test-result.intoto.json";

/// The in-toto statement of where the release comes from, in its DSSE envelope.
pub const PROVENANCE: &str = "provenance.intoto.json";

/// The files that a release has besides those that its manifest names.
pub(crate) const RESERVED: [&str; 5] = [MANIFEST, SIGNATURES, SUMS, TEST_RESULT, PROVENANCE];

/// The longest file name that every Linux file system takes, bytes.
const COMPONENT_LIMIT: usize = 255;

/// Name of the folder of a release: `<name>-<version>`.
#[must_use]
pub fn release_folder_name(manifest: &Manifest) -> String {
    format!("{}-{}", manifest.name, manifest.version)
}

/// Why a name may not stand in a manifest; none when it may.
///
/// Control characters and the backslash are refused because `sha256sum` escapes them, so that one
/// file would have two names.
pub(crate) fn objection_to(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.starts_with('/') {
        return Some("it is absolute");
    }
    if RESERVED.contains(&name) {
        return Some("it is kept for the signed lists");
    }
    name.split('/').find_map(objection_to_component)
}

/// Why `text` may not be one component of a path; none when it may.
pub(crate) fn objection_to_component(text: &str) -> Option<&'static str> {
    match text {
        "" => return Some("it has an empty component"),
        "." | ".." => return Some("it climbs"),
        _ => {}
    }
    if text.len() > COMPONENT_LIMIT {
        return Some("a component is longer than 255 bytes");
    }
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Some("it holds a control character or a backslash");
    }
    text.contains('/').then_some("it holds a slash")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_inside_pass() {
        for good in ["disk.raw", "evidence/uefi.json", "a b", "-x", "..a", "ü"] {
            assert_eq!(objection_to(good), None, "{good:?}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "../x",
            "a//b",
            "a/",
            "./a",
            "a\nb",
            "a\\b",
            "\0",
            SUMS,
            TEST_RESULT,
        ] {
            assert!(objection_to(bad).is_some(), "{bad:?}");
        }
        assert!(objection_to(&"x".repeat(256)).is_some());
        assert!(objection_to_component("a/b").is_some());
    }
}
