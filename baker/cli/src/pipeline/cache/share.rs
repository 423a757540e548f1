//! Puts into a cache what the store has.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use baker_model::Lock;
use baker_ship::cache::{self, Blob, CacheError, Kept, Offer, Present, Slot};
use baker_ship::{Signer, TargetError};
use serde::Serialize;

use super::super::bake::{Larder, size_of};
use super::{Cache, each, finished, mend, warn, with_larder};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::source::RecipeFolder;

/// What went into a cache.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// Entries.
    pub shared: usize,
    /// Of those: in place of some that are not to be believed.
    pub replaced: usize,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Entries that were there.
    pub there: usize,
}

/// What became of an entry.
enum Fate {
    /// The store does not have it.
    Unknown,
    /// The cache has it.
    There,
    /// It was sent: so many bytes, perhaps in place of one that is refused.
    Sent { bytes: u64, replaced: bool },
}

impl Cache {
    /// Shares what the store has of what a bake of the recipe would look for.
    ///
    /// # Errors
    /// The cache cannot be written to, nobody signs, or a person asked to stop.
    pub fn share(
        &self,
        folder: &RecipeFolder,
        lock: &Lock,
        present: Present,
        context: &Context,
    ) -> Result<Shared, Failure> {
        let Some(signer) = self.signer.as_deref() else {
            return Ok(Shared::default());
        };
        let store = context.store()?;
        let shared = with_larder(folder, lock, &store, context, |larder| {
            let sharing = Sharing {
                cache: self,
                larder,
                signer,
                present,
                context,
            };
            sharing.all()
        })?;
        finished(shared.summary(), context);
        Ok(shared)
    }
}

/// Sharing of what one recipe wants.
struct Sharing<'a> {
    cache: &'a Cache,
    larder: &'a Larder<'a>,
    signer: &'a dyn Signer,
    present: Present,
    context: &'a Context,
}

impl Sharing<'_> {
    fn all(&self) -> Result<Shared, Failure> {
        let slots = self.slots()?;
        let tally: Mutex<(Shared, Option<CacheError>)> = Mutex::default();
        let is_over = AtomicBool::new(false);
        let interrupt = self.context.interrupt();
        let stops = || is_over.load(Ordering::Relaxed) || interrupt.is_raised();
        each(&slots, stops, |slot| {
            let result = self.one(slot);
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(fate) => tally.0.count(&fate),
                Err(error) if error.is_of_entry() => warn(error.to_string(), self.context),
                Err(error) => {
                    is_over.store(true, Ordering::Relaxed);
                    tally.1.get_or_insert(error);
                }
            }
        });
        let (shared, error) = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error {
            let help = mend(&error);
            let place = self.cache.shelf.place();
            let failure = self.context.failure(Exit::Publish, error);
            return Err(failure
                .context(format!("cannot share in {place}"))
                .help_if(help));
        }
        if interrupt.is_raised() {
            return Err(self
                .context
                .failure(Exit::Publish, anyhow::anyhow!("interrupted")));
        }
        Ok(shared)
    }

    /// Everything of what is wanted that may be in the store.
    fn slots(&self) -> Result<Vec<Slot>, Failure> {
        let wants = self.larder.wants()?;
        let mut slots = wants.books;
        for chain in wants.chains {
            let top = chain.first();
            slots.extend(top.and_then(|top| self.larder.packed_of(top)));
            slots.extend(chain);
        }
        slots.sort();
        slots.dedup();
        Ok(slots)
    }

    fn one(&self, slot: &Slot) -> Result<Fate, CacheError> {
        let Some(stored) = self.larder.find(slot) else {
            return Ok(Fate::Unknown);
        };
        let shelf = self.cache.shelf.as_ref();
        let mut replaced = false;
        if self.present == Present::Left {
            match cache::look(shelf, slot, &self.cache.trust) {
                Ok(Some(there)) if !has_grown(there.result.size, size_of(&stored.result)) => {
                    if cache::is_whole(shelf, slot, &there)? {
                        return Ok(Fate::There);
                    }
                }
                Ok(_) => {}
                Err(error) if error.is_of_entry() => replaced = true,
                Err(error) => return Err(error),
            }
        }
        let failed = |error| TargetError::Read {
            path: stored.result.clone(),
            source: error,
        };
        let mut kept = Kept::new(Blob::of_file(&stored.result).map_err(failed)?);
        let mut files: Vec<&Path> = vec![&stored.result];
        for (path, blob) in &stored.objects {
            kept.objects.push(*blob);
            files.push(path);
        }
        let offer = Offer {
            kept: &kept,
            files: &files,
            present: self.present,
        };
        let interrupt = self.context.interrupt();
        let bytes = cache::share(shelf, slot, offer, self.signer, interrupt)?;
        Ok(Fate::Sent { bytes, replaced })
    }
}

/// True when an entry is worth replacing by one of another size. Books of packed data grow with every
/// recipe that needs more of an input; that two of the same data differ by some bytes, as the threads
/// of their bakes went, is no reason to send one.
const fn has_grown(there: u64, here: u64) -> bool {
    here > there + there / 16
}

impl Shared {
    fn count(&mut self, fate: &Fate) {
        match fate {
            Fate::Unknown => {}
            Fate::There => self.there += 1,
            Fate::Sent { bytes, replaced } => {
                self.shared += 1;
                self.replaced += usize::from(*replaced);
                self.bytes += bytes;
            }
        }
    }

    /// `shared 12 entries, 34 MiB; 40 were there`
    pub fn summary(&self) -> String {
        let replaced = match self.replaced {
            0 => String::new(),
            some => format!(" ({some} in place of refused ones)"),
        };
        format!(
            "shared {} entries{replaced}, {} MiB; {} were there",
            self.shared,
            self.bytes.div_ceil(1 << 20),
            self.there
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_grown_is_sent_again() {
        for (there, here, sent) in [(0, 1, true), (16, 17, false), (16, 18, true), (9, 5, false)] {
            assert_eq!(has_grown(there, here), sent, "{there} {here}");
        }
    }
}
