//! The store against other writers and against being killed.
//!
//! A child is this test binary itself, told by the environment to play a part.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use baker_fetch::{Act, FetchOptions, Policy, Presence, Roots, Store};
use baker_model::{Digest, Interrupt, Lock, Silent};
use baker_tests::archive::Suite;
use baker_tests::deb::{Compression, Deb};
use baker_tests::mirror::{Fault, Mirror};
use baker_tests::world::{World, patient, recipe, suite};

const PART: &str = "BAKER_TEST_PART";

fn child(part: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "fetch_store::plays_its_part_when_told",
            "--nocapture",
        ])
        .env(PART, part)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Does nothing in an ordinary run.
#[test]
fn plays_its_part_when_told() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let words: Vec<&str> = part.split('|').collect();
    match words.as_slice() {
        ["write", store] => {
            let store = Store::open(Path::new(store)).unwrap();
            for number in 0..u32::MAX {
                store.put(&mut content(number).as_slice()).unwrap();
            }
        }
        ["use", store, seed] => use_store(Path::new(store), seed.parse().unwrap()),
        ["collect", store] => {
            let store = Store::open(Path::new(store)).unwrap();
            let roots = Roots::default();
            let policy = Policy {
                roots: &roots,
                now: SystemTime::now(),
                keep_newer_than: None,
                max_size: Some(0),
                act: Act::Remove,
            };
            loop {
                store.collect(&policy, &Interrupt::new()).unwrap();
            }
        }
        ["fetch", store, url, keyring, lock] => {
            let store = Store::open(Path::new(store)).unwrap();
            let sources = patient(url, Path::new(keyring)).unwrap();
            let lock = Lock::parse(&std::fs::read_to_string(lock).unwrap()).unwrap();
            let options = FetchOptions {
                jobs: 2,
                ..FetchOptions::default()
            };
            baker_fetch::fetch(&lock, &sources, &store, &Silent, &Interrupt::new(), options)
                .unwrap();
        }
        other => panic!("{other:?}"),
    }
}

/// What bakers do with a store: they look for what they need and make what is not there; once
/// found or made, it has to stay. Half of what this one needs is its own, and looks long unused
/// whenever it begins anew.
fn use_store(root: &Path, seed: u32) {
    const OBJECTS: u32 = 12;
    for round in 0..6 {
        let store = Store::open(root).unwrap();
        let number = |step: u32| match step % 2 {
            0 => step,
            _ => 1_000 * (seed + 1) + step,
        };
        for step in (0..OBJECTS).filter(|step| step % 2 == 1) {
            forget_use(&store, &small(number(step)));
        }
        drop(store);
        let store = Store::open(root).unwrap();
        let mut mine = Vec::new();
        for step in 0..OBJECTS {
            let bytes = small(number((step * 7 + seed) % OBJECTS));
            let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
            if store.presence(&digest, size).unwrap() != Presence::Present {
                assert_eq!(store.put_bytes(&bytes).unwrap(), digest);
            }
            mine.push((digest, size));
        }
        for pass in 0..20 {
            for (digest, size) in &mine {
                let found = store.presence(digest, *size).unwrap();
                assert_eq!(found, Presence::Present, "round {round}, pass {pass}");
            }
        }
        for (digest, size) in &mine {
            store.open_verified(digest, *size).unwrap();
        }
    }
}

/// Lets an object that is there look as if nobody had used it for twenty years.
fn forget_use(store: &Store, bytes: &[u8]) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    if let Ok(file) = File::open(store.path(&Digest::of(bytes))) {
        file.set_modified(long_ago).unwrap();
    }
}

fn small(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(500)
}

fn content(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(50_000)
}

/// All objects of a store hash to their names.
fn assert_sound(root: &Path) -> usize {
    let mut count = 0;
    for folder in std::fs::read_dir(root.join("objects")).unwrap() {
        for entry in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert_eq!(Digest::of(&std::fs::read(&path).unwrap()).to_string(), name);
            count += 1;
        }
    }
    count
}

#[test]
fn a_killed_writer_leaves_only_whole_objects() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let part = format!("write|{}", root.display());
    for round in 0..8_u64 {
        let mut writer = child(&part);
        std::thread::sleep(Duration::from_millis(40 + round * 17));
        writer.kill().unwrap();
        writer.wait().unwrap();
        if root.join("objects").exists() {
            assert_sound(&root);
        }
    }
    let store = Store::open(&root).unwrap();
    assert_eq!(
        std::fs::read_dir(root.join("tmp")).unwrap().count(),
        0,
        "leftovers are removed"
    );
    let before = assert_sound(&root);
    store.put_bytes(b"and it still works").unwrap();
    assert_eq!(assert_sound(&root), before + 1);
}

#[test]
fn bakers_and_collectors_share_a_store() {
    for bakers in [2, 8] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        let store = Store::open(&root).unwrap();
        for number in 0..12 {
            store.put_bytes(&small(number)).unwrap();
            forget_use(&store, &small(number));
        }
        drop(store);
        let parts = (0..bakers).map(|seed| child(&format!("use|{}|{seed}", root.display())));
        let parts: Vec<Child> = parts.collect();
        let mut collectors = [0, 1].map(|_| child(&format!("collect|{}", root.display())));
        let ended = parts.into_iter().map(|mut part| part.wait().unwrap());
        let ended: Vec<bool> = ended.map(|status| status.success()).collect();
        for collector in &mut collectors {
            assert_eq!(collector.try_wait().unwrap(), None, "a collector failed");
            collector.kill().unwrap();
            collector.wait().unwrap();
        }
        assert_eq!(ended, vec![true; ended.len()], "{bakers} bakers");
        assert_sound(&root);
        let store = Store::open(&root).unwrap();
        let left = std::fs::read_dir(root.join("tmp")).unwrap().count();
        assert_eq!(left, 0, "nothing half-written is left");
        // Everybody is gone, so nothing is in use.
        let roots = Roots::default();
        let policy = Policy {
            roots: &roots,
            now: SystemTime::now(),
            keep_newer_than: None,
            max_size: Some(0),
            act: Act::Remove,
        };
        let collected = store.collect(&policy, &Interrupt::new()).unwrap();
        assert_eq!((collected.kept, collected.in_use), (0, 0));
    }
}

/// A world with ten larger packages behind a slow mirror.
fn slow_world() -> (World, Mirror, Lock) {
    let mut world = World::new().unwrap();
    let names: Vec<String> = (0..10).map(|number| format!("large{number}")).collect();
    let add = |suite: Suite, name: &String| {
        let package = Deb::new(name, "1").file("/usr/share/x", 0o644, name.repeat(3_000));
        suite.package(package.compression(Compression::None))
    };
    world.publish(&names.iter().fold(suite(), add)).unwrap();
    let mirror = Mirror::serve(&world.archive()).unwrap();
    world.use_mirror(&mirror.url()).unwrap();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let lock = world.lock(&recipe(&names, "").unwrap(), None).unwrap();
    std::fs::write(world.keyring().with_file_name("lock"), lock.to_text()).unwrap();
    mirror.plan(".deb", Fault::Slow(Duration::from_micros(200)), usize::MAX);
    (world, mirror, lock)
}

fn fetch_part(world: &World, mirror: &Mirror) -> String {
    let keyring = world.keyring();
    format!(
        "fetch|{}|{}|{}|{}",
        world.store.root().display(),
        mirror.url(),
        keyring.display(),
        keyring.with_file_name("lock").display()
    )
}

#[test]
fn two_bakers_fetch_the_same_lock_once() {
    let (world, mirror, lock) = slow_world();
    let part = fetch_part(&world, &mirror);
    let mut children: Vec<Child> = (0..3).map(|_| child(&part)).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert!(baker_fetch::check(&lock, &world.store).is_empty());
    let downloads = mirror
        .log()
        .iter()
        .filter(|line| line.contains(".deb"))
        .count();
    assert_eq!(
        downloads,
        lock.packages.len(),
        "each package is downloaded by one of them only"
    );
    assert_eq!(
        std::fs::read_dir(world.store.root().join("partial"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_killed_fetch_is_taken_up_again() {
    let (world, mirror, lock) = slow_world();
    let part = fetch_part(&world, &mirror);
    for round in 0..4_u64 {
        let mut fetcher = child(&part);
        std::thread::sleep(Duration::from_millis(60 + round * 40));
        fetcher.kill().unwrap();
        fetcher.wait().unwrap();
        assert_sound(world.store.root());
    }
    world.fetch(&lock).unwrap();
    assert!(baker_fetch::check(&lock, &world.store).is_empty());
}
