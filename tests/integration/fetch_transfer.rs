//! Downloads from mirrors that misbehave.

use std::time::Duration;

use baker_fetch::{DownloadError, FetchError, Presence};
use baker_model::Lock;
use baker_tests::archive::{Defect, Suite};
use baker_tests::mirror::{Fault, Mirror};
use baker_tests::world::{World, recipe, suite};

const DEB: &str = "libhello_1.2_amd64.deb";

/// A world whose archive is served over HTTP, and a lock of it.
fn served(suite: &Suite) -> (World, Mirror, Lock) {
    let mut world = World::new().unwrap();
    world.publish(suite).unwrap();
    let mirror = Mirror::serve(&world.archive()).unwrap();
    world.use_mirror(&mirror.url()).unwrap();
    let lock = world.lock(&recipe(&["hello"], "").unwrap(), None).unwrap();
    (world, mirror, lock)
}

fn requests(mirror: &Mirror) -> Vec<String> {
    let log = mirror
        .log()
        .into_iter()
        .filter_map(|line| line.split_once(DEB).map(|(_, r)| r.to_owned()));
    log.collect()
}

fn assert_complete(world: &World, lock: &Lock) {
    assert!(baker_fetch::check(lock, &world.store).is_empty());
    for folder in ["tmp", "partial"] {
        let left = std::fs::read_dir(world.store.root().join(folder))
            .unwrap()
            .count();
        assert_eq!(left, 0, "files left in {folder}");
    }
}

#[test]
fn all_inputs_arrive_and_are_not_fetched_twice() {
    let (mut world, mirror, lock) = served(&suite());
    let fetched = world.fetch(&lock).unwrap();
    assert_eq!((fetched.stored, fetched.downloaded), (0, 4));
    assert_complete(&world, &lock);
    drop(mirror);
    world.use_mirror("http://127.0.0.1:1").unwrap();
    let again = world.fetch(&lock).unwrap();
    assert_eq!((again.stored, again.downloaded, again.bytes), (4, 0, 0));
    assert!(world.recorder.heard("Reused"));
}

#[test]
fn what_fails_in_passing_is_tried_again() {
    for (fault, times) in [
        (Fault::Status(503), 2),
        (Fault::Cut(0), 2),
        (Fault::Slow(Duration::from_micros(50)), 1),
        (Fault::Altered, 1),
        (Fault::Longer, 1),
    ] {
        let (world, mirror, lock) = served(&suite());
        mirror.plan(DEB, fault, times);
        world
            .fetch(&lock)
            .unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_complete(&world, &lock);
    }
}

#[test]
fn a_download_that_was_cut_off_goes_on_where_it_ended() {
    let (world, mirror, lock) = served(&incompressible());
    mirror.plan(DEB, Fault::Cut(10_000), 1);
    world.fetch(&lock).unwrap();
    assert_complete(&world, &lock);
    let log = requests(&mirror);
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!(log[0], " from 0");
    assert_ne!(log[1], " from 0", "the second request must resume");

    let (world, mirror, lock) = served(&incompressible());
    mirror.plan(DEB, Fault::Cut(10_000), 1);
    mirror.plan(DEB, Fault::NoRange, 1);
    world.fetch(&lock).unwrap();
    assert_complete(&world, &lock);
}

#[test]
fn a_second_run_takes_up_what_the_first_one_left() {
    for noise in [300_000, 9_000_000] {
        let (world, mirror, lock) = served(&library_of(noise));
        let cut = noise / 3;
        mirror.plan(DEB, Fault::Cut(cut), 1);
        mirror.plan(DEB, Fault::Status(503), 2);
        let error = world.fetch(&lock).unwrap_err().to_string();
        assert!(error.contains("503"), "{error}");
        world.fetch(&lock).unwrap();
        assert_complete(&world, &lock);
        let last = requests(&mirror).pop();
        assert_eq!(
            last,
            Some(format!(" from {cut}")),
            "only the rest is fetched"
        );
    }
}

#[test]
fn a_file_that_was_another_one_in_the_first_run_is_fetched_anew() {
    for noise in [300_000, 9_000_000] {
        let (world, mirror, lock) = served(&library_of(noise));
        let package = lock.packages.iter().find(|p| p.name == "libhello").unwrap();
        let file = world.archive().join(&package.path);
        let right = std::fs::read(&file).unwrap();
        std::fs::write(&file, vec![7; right.len()]).unwrap();
        mirror.plan(DEB, Fault::Cut(100_000), 1);
        mirror.plan(DEB, Fault::Status(503), 2);
        world.fetch(&lock).unwrap_err();
        std::fs::write(&file, right).unwrap();
        world.fetch(&lock).unwrap();
        assert_complete(&world, &lock);
        let log = requests(&mirror);
        let expected = [" from 100000", " from 0"];
        assert_eq!(log[log.len() - 2..], expected, "{log:?}");
    }
}

#[test]
fn ranges_that_the_server_gets_wrong_are_asked_for_only_once() {
    for fault in [Fault::WrongRange, Fault::RangeRefused] {
        let (world, mirror, lock) = served(&incompressible());
        mirror.plan(DEB, Fault::Cut(10_000), 1);
        mirror.plan(DEB, fault, usize::MAX);
        world
            .fetch(&lock)
            .unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_complete(&world, &lock);
        let expected = [" from 0", " from 10000", " from 0"];
        assert_eq!(requests(&mirror), expected, "{fault:?}");
    }
}

fn incompressible() -> Suite {
    library_of(300_000)
}

/// A library that is as large packed as unpacked, so that half of it can be sent.
fn library_of(size: usize) -> Suite {
    use baker_tests::deb::{Compression, Deb};
    let mut number = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        number.to_be_bytes()[0]
    })
    .take(size)
    .collect();
    let library = Deb::new("libhello", "1.2").file("/usr/lib/libhello.so", 0o644, noise);
    suite().package(library.compression(Compression::None))
}

#[test]
fn a_wrong_partial_file_does_no_harm() {
    let (world, _mirror, lock) = served(&incompressible());
    let package = lock
        .packages
        .iter()
        .find(|package| package.name == "libhello")
        .unwrap();
    let partial = world
        .store
        .root()
        .join("partial")
        .join(package.sha256.to_string());
    let size = usize::try_from(package.size).unwrap();
    for junk in [vec![9; 5_000], vec![9; size], vec![9; size + 10]] {
        world.store.remove(&package.sha256).unwrap();
        std::fs::write(&partial, junk).unwrap();
        world.fetch(&lock).unwrap();
        assert_complete(&world, &lock);
    }
}

#[test]
fn damaged_objects_in_the_store_are_fetched_again() {
    let (world, _mirror, lock) = served(&suite());
    world.fetch(&lock).unwrap();
    let package = &lock.packages[1];
    let path = world.store.path(&package.sha256);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"short").unwrap();
    assert_eq!(baker_fetch::check(&lock, &world.store).len(), 1);
    let presence = world.store.presence(&package.sha256, package.size).unwrap();
    assert_eq!(presence, Presence::WrongSize { found: 5 });
    world.fetch(&lock).unwrap();
    assert_complete(&world, &lock);
    assert!(world.recorder.heard("damaged in the store"));
}

#[test]
fn packages_that_stay_wrong_are_named_with_what_was_expected() {
    for defect in [
        Defect::AlteredDeb("libhello".into()),
        Defect::TruncatedDeb("libhello".into()),
    ] {
        let (world, mirror, lock) = served(&suite().defect(defect));
        let error = world.fetch(&lock).unwrap_err();
        assert!(
            matches!(error, FetchError::Download(DownloadError::Altered(_))),
            "{error}"
        );
        let package = lock
            .packages
            .iter()
            .find(|package| package.name == "libhello")
            .unwrap();
        let text = error.to_string();
        for words in [
            "package libhello 1.2",
            DEB,
            &package.sha256.to_string(),
            "found",
        ] {
            assert!(text.contains(words), "{words} is not in: {text}");
        }
        assert!(requests(&mirror).len() >= 2, "a second chance is given");
        assert_eq!(
            world.store.presence(&package.sha256, package.size).unwrap(),
            Presence::Missing
        );
    }
}

#[test]
fn packages_gone_from_the_archive_ask_for_a_new_lock() {
    let (world, _mirror, lock) = served(&suite().defect(Defect::MissingDeb("libhello".into())));
    let error = world.fetch(&lock).unwrap_err();
    assert!(matches!(error, FetchError::Gone { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("gone from the archive: run `baker lock`"),
        "{error}"
    );
}

#[test]
fn the_next_mirror_helps_out() {
    let (mut world, good, lock) = served(&suite());
    let empty = tempfile::tempdir().unwrap();
    let poor = Mirror::serve(empty.path()).unwrap();
    let keyring = world.keyring();
    world.sources = baker_tests::world::patient(&poor.url(), &keyring)
        .unwrap()
        .with_mirror(&good.url())
        .unwrap();
    world.fetch(&lock).unwrap();
    assert_complete(&world, &lock);
    assert!(!poor.log().is_empty());
}

#[test]
fn no_mirror_and_dead_mirrors_are_told_apart() {
    let (mut world, _mirror, lock) = served(&suite());
    world.use_mirror("http://127.0.0.1:1").unwrap();
    let error = world.fetch(&lock).unwrap_err().to_string();
    assert!(error.contains("cannot fetch pool/main/"), "{error}");
    world.sources = baker_fetch::Sources::default();
    let error = world.fetch(&lock).unwrap_err().to_string();
    assert!(error.contains("--mirror debian=URL"), "{error}");
}

#[test]
fn an_interrupt_ends_a_silent_download() {
    let (world, mirror, lock) = served(&suite());
    mirror.plan("", Fault::Silent(Duration::from_secs(3)), 10);
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            while mirror.log().len() < 3 {
                std::thread::sleep(Duration::from_millis(5));
            }
            world.interrupt.raise();
        });
        world.fetch(&lock).unwrap_err()
    });
    assert!(
        matches!(error, FetchError::Download(DownloadError::Interrupted)),
        "{error}"
    );
}
