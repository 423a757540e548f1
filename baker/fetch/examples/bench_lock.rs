//! Times locking a recipe with and without kept indexes, from a store that has the indexes:
//! `cargo run --release -p baker-fetch --example bench_lock -- recipe.toml store mirror...`

use std::error::Error;
use std::path::Path;
use std::time::{Instant, SystemTime};

use baker_fetch::{LockRequest, Sources, Store};
use baker_model::lock::GuestLock;
use baker_model::{Digest, Interrupt, Lock, Recipe, Silent};

/// Rounds of each kind; the fastest counts, since other programs only ever slow one down.
const ROUNDS: usize = 9;

#[expect(clippy::print_stdout, reason = "an example prints its result")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [recipe, store, mirrors @ ..] = arguments.as_slice() else {
        return Err("usage: bench_lock <recipe.toml> <store folder> [mirror]...".into());
    };
    let recipe = Recipe::parse(&std::fs::read_to_string(recipe)?)?;
    let mut sources = Sources::from_host(Path::new("/"))?;
    for mirror in mirrors {
        sources = sources.with_mirror(mirror)?;
    }
    let store = Store::open(Path::new(store))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = i64::try_from(now.as_secs())?;
    let lock = || lock(&recipe, &sources, &store, now);
    let expected = lock()?.to_text();
    for (what, is_kept) in [("without kept indexes", false), ("with kept indexes", true)] {
        let mut fastest = f64::INFINITY;
        for _ in 0..ROUNDS {
            if !is_kept {
                forget(&store)?;
            }
            let begin = Instant::now();
            let lock = lock()?;
            fastest = fastest.min(begin.elapsed().as_secs_f64());
            if lock.to_text() != expected {
                return Err("another lock came out".into());
            }
        }
        println!("lock {what}: {fastest:.3} s");
    }
    Ok(())
}

fn lock(
    recipe: &Recipe,
    sources: &Sources,
    store: &Store,
    now: i64,
) -> Result<Lock, Box<dyn Error>> {
    let guest = GuestLock {
        size: 0,
        sha256: Digest::of(b""),
    };
    let lock = baker_fetch::lock(&LockRequest {
        recipe,
        previous: None,
        parent: None,
        guest: &guest,
        files: &[],
        sources,
        store,
        now,
        listener: &Silent,
        interrupt: &Interrupt::new(),
    })?;
    Ok(lock)
}

fn forget(store: &Store) -> std::io::Result<()> {
    for entry in std::fs::read_dir(store.stages())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("index-") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
