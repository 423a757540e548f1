//! A bucket that speaks the S3 protocol: the names of [`super`] below a prefix.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use baker_model::Interrupt;
use object_store::PutMode;

use super::{RECORD_LIMIT, Shelf, Slot};
use crate::folder::Watch;
use crate::target::{BucketAccess, BucketTarget, Patience, Piece, Target, TargetError};

/// A bucket of entries.
#[derive(Debug)]
pub struct BucketShelf {
    target: BucketTarget,
}

impl BucketShelf {
    /// The bucket; the arguments are those of [`BucketTarget::new`], and what ends
    /// waiting for it.
    ///
    /// # Errors
    /// The certificates or the endpoint cannot be used.
    pub fn new(
        bucket: &str,
        prefix: &str,
        access: &BucketAccess,
        authority: Option<&Path>,
        interrupt: &Arc<Interrupt>,
    ) -> Result<Self, TargetError> {
        let target = BucketTarget::patient(
            (bucket, prefix),
            access,
            authority,
            Patience::cache(interrupt),
        )?;
        Ok(Self { target })
    }

    fn blob_key(&self, blob: &Piece) -> object_store::path::Path {
        self.target.key(&format!("cas/{}", blob.sha256))
    }

    fn record_key(&self, slot: &Slot) -> object_store::path::Path {
        self.target.key(&format!("ac/{}", slot.address()))
    }
}

impl Shelf for BucketShelf {
    fn place(&self) -> String {
        self.target.place()
    }

    fn record(&self, slot: &Slot) -> Result<Option<Vec<u8>>, TargetError> {
        let found = self.target.small(&self.record_key(slot), RECORD_LIMIT)?;
        Ok(found.map(|(bytes, _)| bytes))
    }

    fn put_record(&self, slot: &Slot, record: &[u8], _: &[Piece]) -> Result<(), TargetError> {
        let key = self.record_key(slot);
        self.target
            .put_small(&key, record, PutMode::Overwrite)
            .map(drop)
    }

    fn size_of(&self, blob: &Piece) -> Result<Option<u64>, TargetError> {
        self.target.size_at(&self.blob_key(blob), blob)
    }

    fn read(
        &self,
        blob: &Piece,
        to: &mut dyn Write,
        watch: Watch<'_>,
    ) -> Result<bool, TargetError> {
        // A range of an object that is not there is an error like others.
        if self.size_of(blob)?.is_none() {
            return Ok(false);
        }
        let key = self.blob_key(blob);
        self.target.read_at((&key, blob), 0, to, watch)?;
        Ok(true)
    }

    fn put(&self, blob: &Piece, from: &Path, watch: Watch<'_>) -> Result<(), TargetError> {
        let key = self.blob_key(blob);
        self.target.put_at((&key, blob), from, watch)
    }
}
