//! What machines share of their bakes: brought by `fetch`, put there by whoever has a key.
//!
//! A bake never asks a cache: what others made lies in the store before it begins, or is made again.
//! So nothing here decides over a bake; a cache that is down, empty or full of lies costs time.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use baker_fetch::store::Scratch;
use baker_fetch::{Store, StoreError};
use baker_model::event::Outcome;
use baker_model::{Event, Lock};
use baker_ship::cache::{self, Blob, CacheError, Kept, Shelf, Slot};
use baker_ship::{Signer, TargetError, Trust};
use serde::Serialize;

use super::bake::{Larder, size_of};
use super::catalogue::{open_shelf, target_failure};
use super::{BakeRequest, Kept as Use};
use crate::context::{Context, open_key};
use crate::exit::{Exit, Failure};
use crate::source::RecipeFolder;

/// Name of the stage in events.
const STAGE: &str = "cache";

/// Requests at once: most of the time of a small entry is that of the way.
const JOBS: usize = 6;

/// Results that name objects are read into memory; one has some ten KiB.
const LIST_LIMIT: u64 = 64 << 20;

/// A cache, and whom to believe there.
pub struct Cache {
    shelf: Box<dyn Shelf>,
    trust: Trust,
    /// Who signs what is shared; nobody when nothing is.
    signer: Option<Box<dyn Signer>>,
}

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

/// What went into a cache.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// Entries.
    pub shared: usize,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Entries that were there.
    pub there: usize,
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
            false => Self::Over(error.into()),
        }
    }
}

impl From<StoreError> for BringError {
    fn from(error: StoreError) -> Self {
        Self::Over(error.into())
    }
}

impl Cache {
    /// The cache that the configuration names, for bringing; none when it names none.
    ///
    /// # Errors
    /// It names nobody to trust, or a place or key that cannot be used.
    pub fn for_reading(context: &Context) -> Result<Option<Self>, Failure> {
        let Some(place) = &context.cache().place else {
            return Ok(None);
        };
        let trust = trust(context)?;
        if trust.is_empty() {
            let problem = format!("nobody is trusted to have filled the cache {place}");
            let help = "name the public keys of those who share there: `trust` in [cache] of the \
                        config file, or --cache-trust FILE; or do without: --cache ''";
            return Err(Failure::message(Exit::Usage, problem).help(help));
        }
        Ok(Some(Self {
            shelf: open_shelf(place, context)?,
            trust,
            signer: None,
        }))
    }

    /// The cache that the configuration names, for sharing; none when it names none, or no key.
    ///
    /// # Errors
    /// It names a place or key that cannot be used.
    pub fn for_sharing(context: &Context) -> Result<Option<Self>, Failure> {
        let (Some(place), Some(key)) = (&context.cache().place, &context.cache().key) else {
            return Ok(None);
        };
        let (trust, signer) = (trust(context)?, open_key(key)?);
        // What we have shared ourselves need not be shared again.
        let own = signer.public();
        let mut keys = trust.keys().to_vec();
        if trust.revoked(&own.id()).is_none() {
            keys.push(own);
        }
        Ok(Some(Self {
            shelf: open_shelf(place, context)?,
            trust: Trust::of(keys),
            signer: Some(signer),
        }))
    }

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
        let Brought {
            brought: entries,
            bytes,
            missing,
            ..
        } = brought;
        let summary = format!(
            "brought {entries} entries, {} MiB; {missing} not there",
            bytes.div_ceil(1 << 20)
        );
        finished(summary, context);
        Ok(brought)
    }

    /// Shares what the store has of what a bake of the recipe would look for.
    ///
    /// # Errors
    /// The cache cannot be written to, nobody signs, or a person asked to stop.
    pub fn share(
        &self,
        folder: &RecipeFolder,
        lock: &Lock,
        context: &Context,
    ) -> Result<Shared, Failure> {
        let Some(signer) = self.signer.as_deref() else {
            return Ok(Shared::default());
        };
        let store = context.store()?;
        let shared = with_larder(folder, lock, &store, context, |larder| {
            let slots = larder_slots(larder)?;
            let tally: Mutex<(Shared, Option<CacheError>)> = Mutex::default();
            let is_over = AtomicBool::new(false);
            each(&slots, &is_over, |slot| {
                let result = self.share_one(slot, larder, signer, context);
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                match result {
                    Ok(Some(0)) => tally.0.there += 1,
                    Ok(Some(bytes)) => {
                        tally.0.shared += 1;
                        tally.0.bytes += bytes;
                    }
                    Ok(None) => {}
                    Err(error) if error.is_of_entry() => warn(error, context),
                    Err(error) => {
                        is_over.store(true, Ordering::Relaxed);
                        tally.1.get_or_insert(error);
                    }
                }
            });
            match tally.into_inner().unwrap_or_else(PoisonError::into_inner) {
                (_, Some(error)) => Err(share_failure(error, context)),
                (shared, None) => Ok(shared),
            }
        })?;
        finished(shared.summary(), context);
        Ok(shared)
    }

    /// Gives the number of bytes sent: none when the store has no such entry, 0 when the cache has it.
    fn share_one(
        &self,
        slot: &Slot,
        larder: &Larder<'_>,
        signer: &dyn Signer,
        context: &Context,
    ) -> Result<Option<u64>, CacheError> {
        let Some(stored) = larder.find(slot) else {
            return Ok(None);
        };
        let shelf = self.shelf.as_ref();
        match cache::look(shelf, slot, &self.trust) {
            // Books of packed data grow with every recipe that needs more of an input.
            Ok(Some(there)) if there.result.size >= size_of(&stored.result) => {
                if cache::is_whole(shelf, slot, &there)? {
                    return Ok(Some(0));
                }
            }
            Ok(_) => {}
            // What nobody can use is replaced, and worth telling.
            Err(error) if error.is_of_entry() => warn(error, context),
            Err(error) => return Err(error),
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
        let sent = cache::share(shelf, slot, (&kept, &files), signer, context.interrupt())?;
        Ok(Some(sent))
    }
}

impl Shared {
    /// `shared 12 entries, 34 MiB; 40 were there`
    pub fn summary(&self) -> String {
        format!(
            "shared {} entries, {} MiB; {} were there",
            self.shared,
            self.bytes.div_ceil(1 << 20),
            self.there
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
        each(&books, &self.is_over, |slot| {
            self.one(slot);
        });
        Ok(*self.tally())
    }

    /// True when the store has it now.
    fn one(&self, slot: &Slot) -> bool {
        if self.larder.has(slot) {
            return true;
        }
        if self.is_over.load(Ordering::Relaxed) || self.context.interrupt().is_raised() {
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
                drop(tally);
                warn(error, self.context);
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
        let context = format!("going on without the cache {place}");
        warn(error.context(context), self.context);
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Brought> {
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

/// Whom the configuration trusts to have filled the cache.
fn trust(context: &Context) -> Result<Trust, Failure> {
    Trust::load_all(&context.cache().trust).map_err(|error| {
        Failure::new(Exit::Usage, error)
            .context("cannot tell whom to trust in the cache")
            .help("name .pub files, or folders of such files: `trust` in [cache], --cache-trust")
    })
}

/// What a bake of this recipe would look for is asked of a bake that does not happen.
fn with_larder<T>(
    folder: &RecipeFolder,
    lock: &Lock,
    store: &Store,
    context: &Context,
    work: impl FnOnce(&Larder<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let scratch = tempfile::tempdir().map_err(super::workdir_failure)?;
    let request = BakeRequest {
        folder,
        lock,
        boot_keys: None,
        formats: None,
        adopted: None,
        threads: None,
        kept: Use::Used,
    };
    work(&Larder::new(request, store, scratch.path(), context))
}

/// Everything of what is wanted that may be in the store, layers from the top down.
fn larder_slots(larder: &Larder<'_>) -> Result<Vec<Slot>, Failure> {
    let wants = larder.wants()?;
    let mut slots = wants.books;
    for chain in wants.chains {
        let top = chain.first();
        slots.extend(top.and_then(|top| larder.packed_of(top)));
        slots.extend(chain);
    }
    slots.sort();
    slots.dedup();
    Ok(slots)
}

/// Does `work` for each of `slots`, several at once, until it is over.
fn each(slots: &[Slot], is_over: &AtomicBool, work: impl Fn(&Slot) + Sync) {
    let next = AtomicUsize::new(0);
    let some = || {
        while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            work(slot);
        }
    };
    thread::scope(|scope| {
        for _ in 0..JOBS.min(slots.len()) {
            scope.spawn(some);
        }
    });
}

fn finished(summary: String, context: &Context) {
    context.listener().event(Event::Finished {
        stage: STAGE,
        how: Outcome::Done,
        summary,
    });
}

fn warn(error: impl Into<anyhow::Error>, context: &Context) {
    let text = format!("{:#}", error.into());
    context
        .listener()
        .event(Event::Warning { stage: STAGE, text });
}

fn share_failure(error: CacheError, context: &Context) -> Failure {
    match error {
        CacheError::Shelf(error) => target_failure(error, context),
        error => context.failure(Exit::Publish, error),
    }
}
