//! Parsed indexes among the results of stages in the store: what resolving would otherwise
//! decompress and parse on every run.
//!
//! An index is a fixed file, known by its digest, and so is what parsing it gives. Nothing here
//! fails: what is not there, cannot be read or looks odd is made anew from the index itself, and
//! what cannot be written is done without.
//!
//! The digest of an index is signed, that of its parsed form is not. So a file counts only when no
//! other user could have written it: a store that many can write to never decides what is locked.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use baker_model::Digest;

use crate::debian::cache;
use crate::debian::records::Records;
use crate::store::Store;

/// Larger files are none of ours; the parsed index of all of Debian has 30 MB.
const LIMIT: u64 = 1 << 30;

/// The kept records of the index of this digest, with the number `suite`.
pub(crate) fn read(store: &Store, index: &Digest, suite: u16) -> Option<Records> {
    let path = path(store, index);
    let file = File::open(&path).ok()?;
    let metadata = file.metadata().ok()?;
    let is_ours = metadata.uid() == own_user()? && metadata.mode() & 0o022 == 0;
    if !metadata.is_file() || !is_ours || metadata.len() > LIMIT {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).ok()?);
    file.take(LIMIT).read_to_end(&mut bytes).ok()?;
    let records = cache::decode(bytes, index, suite)?;
    store.note_use(&path);
    Some(records)
}

/// Keeps the records of the index of this digest.
pub(crate) fn keep(store: &Store, index: &Digest, records: &Records) {
    let bytes = cache::encode(records, index);
    // Without it the next run takes half a second longer; nothing else is lost.
    drop(store.keep_result(&path(store, index), &bytes));
}

fn path(store: &Store, index: &Digest) -> PathBuf {
    let key = index.derive(&format!("parsed index {}", cache::VERSION));
    store.stages().join(format!("index-{key}"))
}

/// The user whom files that we make belong to; none where nobody says so.
fn own_user() -> Option<u32> {
    let process = std::fs::metadata("/proc/self").ok()?;
    Some(process.uid())
}
