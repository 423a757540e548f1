//! Times a store of many objects and the locks of many releases:
//! `cargo run --release -p baker-fetch --example bench_store -- empty-folder [objects] [releases]`

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use baker_fetch::{Act, Policy, Presence, Roots, Store};
use baker_model::{Digest, Interrupt};

/// Packages that one release names.
const PACKAGES: usize = 60;

#[expect(clippy::print_stdout, reason = "an example prints its result")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, counts @ ..] = arguments.as_slice() else {
        return Err("usage: bench_store <empty folder> [objects] [releases]".into());
    };
    let count = |place: usize, usual: usize| counts.get(place).map_or(Ok(usual), |n| n.parse());
    let (objects, releases) = (count(0, 100_000)?, count(1, 1_000)?);
    let folder = PathBuf::from(folder);
    let root = folder.join("store");
    let digests = fill(&root, objects)?;
    write_locks(&folder.join("releases"), &digests, releases)?;
    println!("{objects} objects, {releases} releases of {PACKAGES} packages");

    let timed = |what: &str, begin: Instant| println!("{what:<36} {:?}", begin.elapsed());
    let begin = Instant::now();
    let store = Store::open(&root)?;
    timed("open", begin);
    let begin = Instant::now();
    let found = store.survey()?;
    timed("list", begin);
    assert_eq!(found.len(), objects);
    let begin = Instant::now();
    let roots = Roots::read(&[folder.join("releases")])?;
    timed("read the locks", begin);
    let mut policy = Policy {
        roots: &roots,
        now: SystemTime::now() + Duration::from_secs(60),
        keep_newer_than: None,
        max_size: None,
        act: Act::Pretend,
    };
    let interrupt = Interrupt::new();
    let begin = Instant::now();
    let pretended = store.collect(&policy, &interrupt)?;
    timed("gc --dry-run", begin);
    policy.act = Act::Remove;
    let begin = Instant::now();
    let collected = store.collect(&policy, &interrupt)?;
    timed("gc", begin);
    assert_eq!(collected.removed.len(), pretended.removed.len());
    println!(
        "  {} removed, {} stay",
        collected.removed.len(),
        collected.kept
    );
    drop(store);

    // Those that went, too: a lookup that finds nothing costs as much.
    let store = Store::open(&root)?;
    for what in ["look up, each for the first time", "look up again"] {
        let begin = Instant::now();
        let mut present = 0;
        for digest in &digests {
            present += usize::from(store.presence(digest, 8)? == Presence::Present);
        }
        timed(&format!("{what}: {present} found"), begin);
    }
    Ok(())
}

/// Objects as the store would have them, without its waiting for the disk.
fn fill(root: &Path, objects: usize) -> Result<Vec<Digest>, Box<dyn Error>> {
    let store = Store::open(root)?;
    let mut digests = Vec::with_capacity(objects);
    for number in 0..objects as u64 {
        let bytes = number.to_le_bytes();
        let digest = Digest::of(&bytes);
        let path = store.path(&digest);
        fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        fs::write(path, bytes)?;
        digests.push(digest);
    }
    Ok(digests)
}

/// Locks that name two thirds of the objects, some of them again and again.
fn write_locks(folder: &Path, digests: &[Digest], releases: usize) -> std::io::Result<()> {
    for release in 0..releases {
        let mut text = String::new();
        for package in 0..PACKAGES {
            let place = (release * PACKAGES + package) * 2 / 3 % digests.len().max(1);
            text.push_str(&format!(
                "[[package]]\nname = \"package-{place}\"\nversion = \"1.0-{release}\"\n\
                 path = \"pool/main/p/package-{place}.deb\"\nsha256 = \"{}\"\n",
                digests[place]
            ));
        }
        let folder = folder.join(format!("name-{}/{release}.0.0", release % 20));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("recipe.lock"), text)?;
    }
    Ok(())
}
