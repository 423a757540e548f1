//! What machines share of their bakes: brought by `fetch`, put there by whoever has a key.
//!
//! A bake never asks a cache: what others made lies in the store before it begins, or is made again.
//! So nothing here decides over a bake; a cache that is down, empty or full of lies costs time.

mod bring;
mod share;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use baker_fetch::Store;
use baker_model::event::Outcome;
use baker_model::{Event, Lock};
use baker_ship::cache::{CacheError, Shelf, Slot};
use baker_ship::{Signer, TargetError, Trust};

use super::bake::Larder;
use super::catalogue::open_shelf;
use super::{BakeRequest, Kept};
use crate::context::{Context, open_key};
use crate::exit::{Exit, Failure};
use crate::source::RecipeFolder;

/// Name of the stage in events.
const STAGE: &str = "cache";

/// Requests at once: most of the time of a small entry is that of the way.
const JOBS: usize = 6;

/// A cache, and whom to believe there.
pub struct Cache {
    shelf: Box<dyn Shelf>,
    trust: Trust,
    /// Who signs what is shared; nobody when nothing is.
    signer: Option<Box<dyn Signer>>,
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
        let trust = trust.with_key(signer.public());
        Ok(Some(Self {
            shelf: open_shelf(place, context)?,
            trust,
            signer: Some(signer),
        }))
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
        kept: Kept::Used,
    };
    work(&Larder::new(request, store, scratch.path(), context))
}

/// Does `work` for each of `slots`, several at once, until it is over.
fn each(slots: &[Slot], is_over: impl Fn() -> bool + Sync, work: impl Fn(&Slot) + Sync) {
    let next = AtomicUsize::new(0);
    let some = || {
        while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
            if is_over() {
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

/// What a person can do about it.
const fn mend(error: &CacheError) -> Option<&'static str> {
    let CacheError::Shelf(error) = error else {
        return None;
    };
    match error {
        TargetError::Unauthorized { .. } => Some(
            "who we are there comes from the environment or a file: see baker/CI.md, A cache that a \
             team shares",
        ),
        TargetError::ReadOnly { .. } | TargetError::Write { .. } => {
            Some("let this user write there, or name another place: --cache PLACE")
        }
        TargetError::Full { .. } => Some("make room there, or name another place: --cache PLACE"),
        TargetError::Remote { .. } => {
            Some("see that the server runs and takes files there, or name another: --cache PLACE")
        }
        _ => None,
    }
}

fn finished(summary: String, context: &Context) {
    context.listener().event(Event::Finished {
        stage: STAGE,
        how: Outcome::Done,
        summary,
    });
}

fn warn(text: String, context: &Context) {
    context
        .listener()
        .event(Event::Warning { stage: STAGE, text });
}
