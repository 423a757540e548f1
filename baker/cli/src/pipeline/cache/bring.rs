//! Brings from a cache what a bake would look for.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use baker_fetch::store::Scratch;
use baker_fetch::{Store, StoreError};
use baker_model::Lock;
use baker_ship::cache::{self, Blob, CacheError, Slot};
use serde::Serialize;

use super::super::bake::Larder;
use super::{Cache, each, finished, mend, warn, with_larder};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::source::RecipeFolder;

/// Refused entries that are told one by one: with a wrong key all of them are.
const TOLD: usize = 3;

/// Results that name objects are read into memory; one has some ten KiB.
const LIST_LIMIT: u64 = 64 << 20;

/// What came from a cache.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Brought {
    /// Entries.
    pub brought: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that were looked for and are not there, or not to be believed.
    pub missing: usize,
    /// Of those: not to be believed.
    pub refused: usize,
}

/// An entry is not brought.
enum BringError {
    /// Others may be well.
    Entry(anyhow::Error),
    /// Nothing is to be had of the cache, or the store takes nothing.
    Over(anyhow::Error),
}

impl BringError {
    /// A signed entry that is no such thing.
    fn odd(slot: &Slot) -> Self {
        Self::Entry(anyhow::anyhow!(
            "the entry {slot} is refused: it is signed, but not what a bake keeps"
        ))
    }
}

impl From<CacheError> for BringError {
    fn from(error: CacheError) -> Self {
        match error.is_of_entry() {
            true => Self::Entry(error.into()),
            false => {
                let help = mend(&error);
                let error = anyhow::Error::new(error);
                Self::Over(match help {
                    Some(help) => anyhow::anyhow!("{error:#}; {help}"),
                    None => error,
                })
            }
        }
    }
}

impl From<StoreError> for BringError {
    fn from(error: StoreError) -> Self {
        Self::Over(error.into())
    }
}

impl Cache {
    /// Brings what a bake of the recipe would look for and the store has not. Whatever goes wrong is
    /// told, and the bake does the work.
    ///
    /// # Errors
    /// What is wanted cannot be told, the store cannot be opened, or a person asked to stop.
    pub fn bring(
        &self,
        folder: &RecipeFolder,
        lock: &Lock,
        context: &Context,
    ) -> Result<Brought, Failure> {
        let store = context.store()?;
        let brought = with_larder(folder, lock, &store, context, |larder| {
            let bringing = Bringing {
                cache: self,
                larder,
                store: &store,
                context,
                tally: Mutex::default(),
                is_over: AtomicBool::new(false),
            };
            bringing.all()
        })?;
        if context.interrupt().is_raised() {
            return Err(context.failure(Exit::Fetch, anyhow::anyhow!("interrupted")));
        }
        if brought.refused > 0 {
            let place = self.shelf.place();
            let text = format!(
                "{} entries of {place} are refused and made here; where they were made, \
                 `baker store share --again` puts good ones there, with a key that is trusted here",
                brought.refused
            );
            warn(text, context);
        }
        finished(brought.summary(), context);
        Ok(brought)
    }
}

impl Brought {
    /// `brought 40 entries, 34 MiB; 2 were not there`
    fn summary(&self) -> String {
        format!(
            "brought {} entries, {} MiB; {} were not there",
            self.brought,
            self.bytes.div_ceil(1 << 20),
            self.missing - self.refused
        )
    }
}

/// Bringing of what one recipe wants.
struct Bringing<'a> {
    cache: &'a Cache,
    larder: &'a Larder<'a>,
    store: &'a Store,
    context: &'a Context,
    tally: Mutex<Brought>,
    /// The cache cannot be used: nothing more is asked of it.
    is_over: AtomicBool,
}

impl Bringing<'_> {
    fn all(&self) -> Result<Brought, Failure> {
        let wants = self.larder.wants()?;
        let mut books = wants.books;
        // The highest layer is enough; where it is the top, its tree goes into the image.
        for chain in &wants.chains {
            let found = chain.iter().position(|slot| self.one(slot));
            let top = found.filter(|at| *at == 0).and_then(|at| chain.get(at));
            books.extend(top.and_then(|top| self.larder.packed_of(top)));
        }
        each(
            &books,
            || self.stops(),
            |slot| {
                self.one(slot);
            },
        );
        Ok(*self.tally())
    }

    fn stops(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) || self.context.interrupt().is_raised()
    }

    /// True when the store has it now.
    fn one(&self, slot: &Slot) -> bool {
        if self.larder.has(slot) {
            return true;
        }
        if self.stops() {
            return false;
        }
        let result = self.entry(slot);
        let mut tally = self.tally();
        match result {
            Ok(Some(bytes)) => {
                tally.brought += 1;
                tally.bytes += bytes;
                return true;
            }
            Ok(None) => tally.missing += 1,
            Err(BringError::Over(error)) => self.give_up(error),
            Err(BringError::Entry(error)) => {
                tally.missing += 1;
                tally.refused += 1;
                let is_told = tally.refused <= TOLD;
                drop(tally);
                if is_told {
                    warn(format!("{error:#}"), self.context);
                }
            }
        }
        false
    }

    /// Brings an entry; gives its bytes, or none when the cache does not have all of it.
    fn entry(&self, slot: &Slot) -> Result<Option<u64>, BringError> {
        let shelf = self.cache.shelf.as_ref();
        let Some(kept) = cache::look(shelf, slot, &self.cache.trust)? else {
            return Ok(None);
        };
        let name = Larder::file_name(slot);
        if !Larder::is_list(slot) {
            if !kept.objects.is_empty() {
                return Err(BringError::odd(slot));
            }
            let Some(scratch) = self.blob(slot, &kept.result)? else {
                return Ok(None);
            };
            self.store.take_result(scratch, &name)?;
            return Ok(Some(kept.bytes()));
        }
        if kept.result.size > LIST_LIMIT {
            return Err(BringError::odd(slot));
        }
        let (mut list, interrupt) = (Vec::new(), self.context.interrupt());
        if !cache::bring(shelf, slot, &kept.result, &mut list, interrupt)? {
            return Ok(None);
        }
        if !Larder::fits(slot, &list, &kept) {
            return Err(BringError::odd(slot));
        }
        for object in &kept.objects {
            let Some(scratch) = self.blob(slot, object)? else {
                return Ok(None);
            };
            self.store.take_object(scratch, &object.sha256)?;
        }
        let mut scratch = self.store.incoming()?;
        scratch.append(&list)?;
        self.store.take_result(scratch, &name)?;
        Ok(Some(kept.bytes()))
    }

    /// The bytes of a blob in a file of the store without its final name; none when they are not there.
    fn blob(&self, slot: &Slot, blob: &Blob) -> Result<Option<Scratch>, BringError> {
        let mut filling = Filling(self.store.incoming()?);
        let shelf = self.cache.shelf.as_ref();
        let interrupt = self.context.interrupt();
        match cache::bring(shelf, slot, blob, &mut filling, interrupt) {
            Ok(true) => Ok(Some(filling.0)),
            Ok(false) => {
                filling.0.discard();
                Ok(None)
            }
            Err(error) => {
                filling.0.discard();
                Err(error.into())
            }
        }
    }

    fn give_up(&self, error: anyhow::Error) {
        let was_over = self.is_over.swap(true, Ordering::Relaxed);
        if was_over || self.context.interrupt().is_raised() {
            return;
        }
        let place = self.cache.shelf.place();
        warn(
            format!("going on without the cache {place}: {error:#}"),
            self.context,
        );
    }

    fn tally(&self) -> MutexGuard<'_, Brought> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of the store that takes bytes.
struct Filling(Scratch);

impl Write for Filling {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
