//! Parsed indexes that the store keeps: a lock is the same with and without them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use baker_fetch::debian::{cache, index};
use baker_model::Lock;
use baker_tests::archive::{DAY, Suite};
use baker_tests::deb::{Compression, Deb};
use baker_tests::world::{World, recipe, suite};

/// The kept index of a world with one suite of one index.
fn kept(world: &World) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(world.store.stages())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("/index-"))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn lock(world: &World) -> Lock {
    world.lock(&recipe(&["hello"], "").unwrap(), None).unwrap()
}

fn world(suite: &Suite) -> World {
    let world = World::new().unwrap();
    world.publish(suite).unwrap();
    world
}

#[test]
fn a_lock_is_the_same_with_and_without_kept_indexes() {
    let rich = suite()
        .package(Deb::new("hello", "2:1.0~rc1").depends("libhello (>= 1) | other, late:any"))
        .package(Deb::new("late", "1").field("Multi-Arch", "allowed"))
        .package(Deb::new("other", "3").field("Provides", "libhello (= 9), virtual"));
    for suite in [suite(), rich] {
        for form in [Compression::None, Compression::Gzip, Compression::Xz] {
            let mut suite = suite.clone();
            suite.forms = vec![form];
            let world = world(&suite);
            let first = lock(&world).to_text();
            let bytes = fs::read(kept(&world)).unwrap();
            assert_eq!(lock(&world).to_text(), first, "{form:?}");
            assert_eq!(fs::read(kept(&world)).unwrap(), bytes);
            fs::remove_dir_all(world.store.stages()).unwrap();
            assert_eq!(lock(&world).to_text(), first, "a store that keeps nothing");
        }
    }
}

/// Or the other tests would hold for a baker that keeps indexes and never reads them.
#[test]
fn a_kept_index_is_what_is_read() {
    let world = world(&suite());
    let before = lock(&world);
    let named = &before.archives[0].indexes[0].sha256;
    let text = "Package: linux-image-6.12-amd64\nVersion: 6.12\nArchitecture: amd64\n\
        Filename: pool/l\nSize: 1\nSHA256: <>\n\nPackage: systemd-boot-efi\nVersion: 257\n\
        Architecture: amd64\nFilename: pool/s\nSize: 1\nSHA256: <>\n\nPackage: linux-image-amd64\n\
        Version: 1\nArchitecture: amd64\nDepends: linux-image-6.12-amd64\nFilename: pool/m\n\
        Size: 1\nSHA256: <>\n\nPackage: hello\nVersion: 77\nArchitecture: amd64\n\
        Filename: pool/h\nSize: 1\nSHA256: <>\n";
    let text = text.replace("<>", &"00".repeat(32));
    let other = index::read(text.as_bytes(), 0).unwrap();
    let path = kept(&world);
    fs::remove_file(&path).unwrap();
    fs::write(&path, cache::encode(&other, named)).unwrap();
    let packages = lock(&world).packages;
    let hello = packages.iter().find(|package| package.name == "hello");
    assert_eq!(hello.unwrap().version, "77");
}

#[test]
fn odd_kept_indexes_are_made_anew() {
    let world = world(&suite());
    let expected = lock(&world).to_text();
    let path = kept(&world);
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    let longer = [good.as_slice(), b"more"].concat();
    for odd in [Vec::new(), good[..good.len() - 1].to_vec(), flipped, longer] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, odd).unwrap();
        assert_eq!(lock(&world).to_text(), expected);
        assert_eq!(fs::read(&path).unwrap(), good, "it is made anew");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(lock(&world).to_text(), expected);
}

/// The digest of an index is signed, what is kept of it is not.
#[test]
fn what_others_can_write_is_not_believed() {
    let world = world(&suite());
    lock(&world);
    let path = kept(&world);
    fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    lock(&world);
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o444, "it is made anew");
}

#[test]
fn an_index_that_moved_on_is_read_anew() {
    let world = world(&suite());
    let recipe = recipe(&["hello"], "").unwrap();
    let first = world.lock(&recipe, None).unwrap();
    let mut newer = suite().package(Deb::new("hello", "9.0"));
    newer.date += DAY / 48;
    newer.signed_at += DAY / 48;
    world.publish(&newer).unwrap();
    let second = world.lock(&recipe, Some(&first)).unwrap();
    assert_ne!(first.archives[0].indexes, second.archives[0].indexes);
    let hello = second
        .packages
        .iter()
        .find(|package| package.name == "hello");
    assert_eq!(hello.unwrap().version, "9.0");
}
