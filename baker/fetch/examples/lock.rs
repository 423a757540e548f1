//! Locks a recipe against the host's sources, prints the lock and fetches its packages:
//! `cargo run -p baker-fetch --example lock -- recipe.toml store [package to explain]`.

use std::error::Error;
use std::path::Path;
use std::time::{Instant, SystemTime};

use baker_fetch::{FetchOptions, LockRequest, Sources, Store};
use baker_model::lock::GuestLock;
use baker_model::{Digest, Event, Interrupt, Listener, Recipe};

struct Talk;

impl Listener for Talk {
    #[expect(clippy::print_stderr, reason = "an example talks to whoever runs it")]
    fn event(&self, event: Event) {
        if !matches!(event, Event::Advanced { .. }) {
            eprintln!("{event:?}");
        }
    }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example prints its result"
)]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [recipe, store, package @ ..] = arguments.as_slice() else {
        return Err("usage: lock <recipe.toml> <store folder> [package to explain]".into());
    };
    let recipe = Recipe::parse(&std::fs::read_to_string(recipe)?)?;
    let sources = Sources::from_host(Path::new("/"))?;
    let store = Store::open(Path::new(store))?;
    let interrupt = Interrupt::new();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs();
    let guest = GuestLock {
        size: 0,
        sha256: Digest::of(b""),
    };
    let request = LockRequest {
        recipe: &recipe,
        previous: None,
        parent: None,
        guest: &guest,
        files: &[],
        sources: &sources,
        store: &store,
        now: i64::try_from(now)?,
        listener: &Talk,
        interrupt: &interrupt,
    };
    let begin = Instant::now();
    let lock = baker_fetch::lock(&request)?;
    eprintln!("locked in {:?}", begin.elapsed());
    println!("{}", lock.to_text());
    if let [package] = package {
        let request = LockRequest {
            previous: Some(&lock),
            parent: None,
            ..request
        };
        println!("{}", baker_fetch::why(&request, package)?);
    }
    let begin = Instant::now();
    let options = FetchOptions::default();
    let fetched = baker_fetch::fetch(&lock, &sources, &store, &Talk, &interrupt, options)?;
    eprintln!("{fetched:?} in {:?}", begin.elapsed());
    Ok(())
}
