//! The statements that stand beside a manifest, one file each.
//!
//! Every one follows from the release alone, so that signing writes it, verification makes it
//! again, and a key that is elsewhere signs the very same bytes.

use std::path::Path;

use baker_model::Manifest;

use crate::dsse::Envelope;
use crate::names::{PROVENANCE, TEST_RESULT};
use crate::report::Problem;
use crate::{provenance, test_result};

/// A statement that is to be signed, or is.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    /// Its file in the release.
    pub(crate) file: &'static str,
    /// What it says, for whoever is asked to sign it.
    pub(crate) says: &'static str,
    /// It and its signatures.
    pub(crate) envelope: Envelope,
}

/// All statements of the release with this manifest whose files lie in `folder`, not yet signed,
/// sorted by file.
///
/// # Errors
/// The lock, which provenance follows from, cannot be used.
pub(crate) fn of(folder: &Path, manifest: &Manifest) -> Result<Vec<Standing>, Problem> {
    let mut all = Vec::new();
    if provenance::is_told(manifest) {
        let lock = provenance::lock(folder, manifest)?;
        all.push(Standing {
            file: PROVENANCE,
            says: "it says where the release comes from and how it was made",
            envelope: provenance::envelope(manifest, &lock),
        });
    }
    all.push(Standing {
        file: TEST_RESULT,
        says: "it says what the tests of the release said",
        envelope: test_result::envelope(manifest),
    });
    Ok(all)
}

/// The files of all statements of the release with this manifest, sorted.
pub(crate) fn files(manifest: &Manifest) -> impl Iterator<Item = &'static str> + use<> {
    let provenance = provenance::is_told(manifest).then_some(PROVENANCE);
    provenance.into_iter().chain([TEST_RESULT])
}
