//! `SHA256SUMS`: the digests of a release as `sha256sum` writes them.

use baker_model::{Digest, Manifest};

use crate::names::MANIFEST;

/// The text for a release with this manifest, whose bytes have the digest `manifest_digest`:
/// one line per file and one for the manifest, sorted by name.
pub(crate) fn text(manifest: &Manifest, manifest_digest: &Digest) -> String {
    let mut lines: Vec<(&str, &Digest)> = manifest
        .files
        .iter()
        .map(|file| (file.name.as_str(), &file.sha256))
        .collect();
    lines.push((MANIFEST, manifest_digest));
    lines.sort();
    lines
        .iter()
        .map(|(name, digest)| format!("{digest}  {name}\n"))
        .collect()
}
