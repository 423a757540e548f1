//! The statements that stand beside a manifest, one file each.
//!
//! Every one follows from the release alone, so that signing writes it, verification makes it
//! again, and a key that is elsewhere signs the very same bytes.

use baker_model::Manifest;

use crate::dsse::Envelope;
use crate::names::TEST_RESULT;
use crate::test_result;

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

/// All statements of a release with this manifest, not yet signed, sorted by file.
pub(crate) fn of(manifest: &Manifest) -> Vec<Standing> {
    vec![Standing {
        file: TEST_RESULT,
        says: "it says what the tests of the release said",
        envelope: test_result::envelope(manifest),
    }]
}
