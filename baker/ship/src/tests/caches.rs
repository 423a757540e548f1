//! What every shelf of a cache must do, whatever it is; and what is refused of it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use baker_model::{Digest, Interrupt};

use super::fixture::key;
use super::servers::{
    BUCKET, CacheServer, Mood, PASSWORD, USER, bucket, bucket_access, registry, webdav,
};
use crate::cache::{
    Authorization, Blob, BucketShelf, CacheError, FolderShelf, HttpShelf, Kept, Offer, Present,
    RecordError, RegistryShelf, Shelf, Slot, bring, is_whole, look, share,
};
use crate::target::{Credentials, Secret, TargetError};
use crate::{Key, Purpose, Trust};

fn slot(text: &str) -> Slot {
    Slot {
        kind: "packed",
        key: Digest::of(text.as_bytes()),
    }
}

fn trust() -> Trust {
    Trust::of([key().public()])
}

/// An entry as files in `folder`: a result of some size, and an object.
fn entry(folder: &Path, size: usize) -> (Kept, [std::path::PathBuf; 2]) {
    let bytes: Vec<u8> = (0..=250_u8).cycle().take(size).collect();
    let files = [folder.join("result"), folder.join("object")];
    std::fs::write(&files[0], &bytes).unwrap();
    std::fs::write(&files[1], b"object").unwrap();
    let mut kept = Kept::new(Blob::of_file(&files[0]).unwrap());
    kept.objects.push(Blob::of_file(&files[1]).unwrap());
    (kept, files)
}

fn shared(shelf: &dyn Shelf, slot: &Slot, size: usize, key: &Key) -> (Kept, u64) {
    let folder = tempfile::tempdir().unwrap();
    let (kept, files) = entry(folder.path(), size);
    let files = [files[0].as_path(), files[1].as_path()];
    let sent = share(shelf, slot, offer(&kept, &files), key, &Interrupt::new()).unwrap();
    (kept, sent)
}

fn brought(shelf: &dyn Shelf, slot: &Slot, blob: &Blob) -> Result<Option<Vec<u8>>, CacheError> {
    let mut bytes = Vec::new();
    let there = bring(shelf, slot, blob, &mut bytes, &Interrupt::new())?;
    Ok(there.then_some(bytes))
}

/// These files of an entry, for a cache that lacks them.
const fn offer<'a>(kept: &'a Kept, files: &'a [&'a Path]) -> Offer<'a> {
    Offer {
        kept,
        files,
        present: Present::Left,
    }
}

/// The whole life of entries in an empty cache.
fn behaves(shelf: &dyn Shelf) {
    let (one, two) = (slot("one"), slot("two"));
    assert_eq!(look(shelf, &one, &trust()).unwrap(), None);
    // More than one part of a bucket's upload.
    let (kept, sent) = shared(shelf, &one, 9 << 20, &key());
    assert!(sent > 9 << 20, "{sent}");
    assert_eq!(look(shelf, &one, &trust()).unwrap().unwrap(), kept);
    assert!(is_whole(shelf, &one, &kept).unwrap());
    let bytes = brought(shelf, &one, &kept.result).unwrap().unwrap();
    assert_eq!(Digest::of(&bytes), kept.result.sha256);
    let object = brought(shelf, &one, &kept.objects[0]).unwrap();
    assert_eq!(object.unwrap(), b"object");
    let (_, sent) = shared(shelf, &one, 9 << 20, &key());
    assert!(
        sent < 4096,
        "blobs that are there are not sent again: {sent}"
    );
    assert_eq!(look(shelf, &two, &trust()).unwrap(), None);
    let gone = Blob::of(b"never put there");
    assert!(brought(shelf, &two, &gone).unwrap().is_none());
    // What a stranger put there is refused, and replaced by whoever may.
    let stranger = Key::from_seed("stranger", Purpose::Release, &[9; 32]);
    shared(shelf, &two, 5000, &stranger);
    let refused = look(shelf, &two, &trust()).unwrap_err();
    let id = stranger.public().id().to_string();
    let text = crate::report::chain(&refused);
    assert!(
        matches!(refused, CacheError::Refused { .. }) && refused.is_of_entry(),
        "{refused:?}"
    );
    assert!(
        text.contains(&two.to_string()) && text.contains(&id),
        "{text}"
    );
    let (kept, _) = shared(shelf, &two, 6000, &key());
    assert_eq!(look(shelf, &two, &trust()).unwrap().unwrap(), kept);
}

#[test]
fn a_folder_behaves() {
    let folder = tempfile::tempdir().unwrap();
    behaves(&FolderShelf::new(folder.path().join("cache")));
}

#[test]
fn a_server_of_http_behaves() {
    let server = CacheServer::start();
    let base = format!("{}/team", server.address());
    behaves(&HttpShelf::new(&base, None, None, &Arc::default()).unwrap());
    let mut paths: Vec<String> = server.files().keys().cloned().collect();
    paths.sort();
    let record = format!("/team/ac/{}", slot("one").address());
    assert!(paths.contains(&record), "{paths:?}");
    let is_blob = |path: &&String| path.starts_with("/team/cas/");
    assert_eq!(paths.iter().filter(is_blob).count(), 4, "{paths:?}");
    assert_eq!(paths.len(), 6, "{paths:?}");
}

#[test]
fn nginx_with_webdav_behaves() {
    let Some(server) = webdav() else {
        return;
    };
    let base = format!("http://127.0.0.1:{}/cache", server.port());
    behaves(&HttpShelf::new(&base, None, None, &Arc::default()).unwrap());
}

#[test]
fn a_registry_behaves() {
    let Some(server) = registry() else {
        return;
    };
    let host = format!("localhost:{}", server.port());
    let (place, authority) = (server.place(), server.authority());
    let credentials = Credentials::new(USER.to_owned(), PASSWORD.to_owned());
    let path = format!("{place}/cache");
    let open = |credentials| {
        RegistryShelf::new(&host, &path, credentials, Some(&authority), &Arc::default())
    };
    behaves(&open(Some(credentials)).unwrap());
    let nobody = open(None).unwrap();
    let refused = look(&nobody, &slot("one"), &trust()).unwrap_err();
    assert!(
        matches!(
            &refused,
            CacheError::Shelf(TargetError::Unauthorized { .. })
        ) && !refused.is_of_entry(),
        "{refused:?}"
    );
}

#[test]
fn a_bucket_behaves() {
    let Some(server) = bucket() else {
        return;
    };
    let access = bucket_access(server.port());
    for prefix in [server.place(), String::new()] {
        behaves(&BucketShelf::new(BUCKET, &prefix, &access, None, &Arc::default()).unwrap());
    }
}

#[test]
fn a_blob_that_is_another_one_is_named() {
    let server = CacheServer::start();
    let shelf = HttpShelf::new(&server.address(), None, None, &Arc::default()).unwrap();
    let slot = slot("one");
    let (kept, _) = shared(&shelf, &slot, 50_000, &key());
    let path = format!("/cas/{}", kept.result.sha256);
    let whole = server.files()[&path].clone();
    let mut altered = whole.clone();
    altered[40_000] ^= 1;
    let cut = whole[..49_999].to_vec();
    for bytes in [altered, cut, Vec::new()] {
        server.files().insert(path.clone(), bytes);
        let error = brought(&shelf, &slot, &kept.result).unwrap_err();
        assert!(error.is_of_entry(), "{error:?}");
        let text = error.to_string();
        let expected = kept.result.sha256.to_string();
        assert!(
            text.contains(&slot.to_string()) && text.contains(&expected),
            "{text}"
        );
    }
    // Whoever has the right one puts it there again, where its size alone looks right.
    let folder = tempfile::tempdir().unwrap();
    let (kept, files) = entry(folder.path(), 50_000);
    let files = [files[0].as_path(), files[1].as_path()];
    for present in [Present::Left, Present::Replaced] {
        let mut altered = whole.clone();
        altered[40_000] ^= 1;
        server.files().insert(path.clone(), altered);
        let offer = Offer {
            present,
            ..offer(&kept, &files)
        };
        share(&shelf, &slot, offer, &key(), &Interrupt::new()).unwrap();
        let is_mended = brought(&shelf, &slot, &kept.result).is_ok();
        assert_eq!(is_mended, present == Present::Replaced);
    }
    // More than was signed is never read: what came is what was signed.
    let longer = [&whole[..], &[0; 1 << 20]].concat();
    server.files().insert(path, longer);
    let bytes = brought(&shelf, &slot, &kept.result).unwrap().unwrap();
    assert_eq!(bytes.len(), 50_000);
    let record = format!("/ac/{}", slot.address());
    server.files().insert(record, vec![b'x'; 1 << 20]);
    let error = look(&shelf, &slot, &trust()).unwrap_err();
    assert!(error.is_of_entry(), "a record without end: {error:?}");
}

#[test]
fn a_record_at_another_address_is_refused_before_its_blob_is_asked_for() {
    let server = CacheServer::start();
    let shelf = HttpShelf::new(&server.address(), None, None, &Arc::default()).unwrap();
    let (one, two) = (slot("one"), slot("two"));
    shared(&shelf, &one, 5000, &key());
    let [here, there] = [&one, &two].map(|slot| format!("/ac/{}", slot.address()));
    let record = server.files()[&here].clone();
    server.files().insert(there.clone(), record);
    drop(server.take_log());
    let error = look(&shelf, &two, &trust()).unwrap_err();
    let source = match &error {
        CacheError::Refused { source, .. } => source,
        other => panic!("{other:?}"),
    };
    assert!(matches!(source, RecordError::Swapped { .. }), "{source:?}");
    assert_eq!(server.take_log(), [format!("GET {there}")]);
}

#[test]
fn a_person_who_asks_to_stop_does_not_wait_for_a_silent_cache() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let interrupt = Arc::new(Interrupt::new());
    let host = address.to_string();
    let shelves: [Box<dyn Shelf>; 3] = [
        Box::new(HttpShelf::new(&format!("http://{host}"), None, None, &interrupt).unwrap()),
        Box::new(RegistryShelf::new(&host, "cache", None, None, &interrupt).unwrap()),
        Box::new(
            BucketShelf::new(BUCKET, "", &bucket_access(address.port()), None, &interrupt).unwrap(),
        ),
    ];
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for shelf in &shelves {
            scope.spawn(|| {
                let error = look(shelf.as_ref(), &slot("one"), &trust()).unwrap_err();
                let is_stop = matches!(error, CacheError::Shelf(TargetError::Interrupted { .. }));
                assert!(is_stop, "{error:?}");
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        interrupt.raise();
    });
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn nobody_waits_long_for_a_cache_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // When nobody accepts, the system answers no more than so many, as of a host that is gone.
    let mut crowd = Vec::new();
    while let Ok(one) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        crowd.push(one);
    }
    let port = address.port();
    let shelves: [Box<dyn Shelf>; 3] = [
        Box::new(
            HttpShelf::new(&format!("http://{address}"), None, None, &Arc::default()).unwrap(),
        ),
        Box::new(
            RegistryShelf::new(
                &format!("127.0.0.1:{port}"),
                "cache",
                None,
                None,
                &Arc::default(),
            )
            .unwrap(),
        ),
        Box::new(
            BucketShelf::new(BUCKET, "", &bucket_access(port), None, &Arc::default()).unwrap(),
        ),
    ];
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for shelf in &shelves {
            scope.spawn(|| {
                let error = look(shelf.as_ref(), &slot("one"), &trust()).unwrap_err();
                assert!(!error.is_of_entry(), "{error:?}");
            });
        }
    });
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn those_who_share_at_once_leave_whole_entries() {
    let folder = tempfile::tempdir().unwrap();
    let server = CacheServer::start();
    let shelves: [Box<dyn Shelf>; 2] = [
        Box::new(FolderShelf::new(folder.path().join("cache"))),
        Box::new(HttpShelf::new(&server.address(), None, None, &Arc::default()).unwrap()),
    ];
    for shelf in &shelves {
        let (shelf, one) = (shelf.as_ref(), slot("one"));
        let some = std::thread::scope(|scope| {
            let sharing = |number: usize| {
                let one = &one;
                move || shared(shelf, one, 1_000_000 + number, &key()).0
            };
            let threads = [0, 0, 1, 2].map(|number| scope.spawn(sharing(number)));
            threads.map(|thread| thread.join().unwrap())
        });
        let kept = look(shelf, &one, &trust()).unwrap().unwrap();
        assert!(some.contains(&kept));
        for blob in some.iter().flat_map(Kept::blobs) {
            assert!(brought(shelf, &one, blob).unwrap().is_some());
        }
    }
    let left = std::fs::read_dir(folder.path().join("cache/cas")).unwrap();
    assert_eq!(left.count(), 4, "three results and an object");
}

#[test]
fn an_interrupt_leaves_nothing_half_written_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = FolderShelf::new(folder.path().join("cache"));
    let (kept, files) = entry(folder.path(), 5000);
    let files = [files[0].as_path(), files[1].as_path()];
    let raised = Interrupt::new();
    raised.raise();
    let error = share(&shelf, &slot("one"), offer(&kept, &files), &key(), &raised).unwrap_err();
    let is_stop = matches!(error, CacheError::Shelf(TargetError::Interrupted { .. }));
    assert!(is_stop, "{error:?}");
    let left = std::fs::read_dir(folder.path().join("cache/cas")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn a_server_that_is_in_trouble_is_told_from_an_empty_one() {
    let server = CacheServer::start();
    let shelf = HttpShelf::new(&server.address(), None, None, &Arc::default()).unwrap();
    let slot = slot("one");
    server.become_(Mood::Broken(503));
    let error = look(&shelf, &slot, &trust()).unwrap_err();
    assert!(
        !error.is_of_entry() && error.to_string().contains("503"),
        "{error:?}"
    );
    server.become_(Mood::Broken(403));
    let error = look(&shelf, &slot, &trust()).unwrap_err();
    assert!(matches!(
        error,
        CacheError::Shelf(TargetError::Unauthorized { .. })
    ));
    // Reading may be sent on; a PUT that became a GET has kept nothing.
    server.become_(Mood::Elsewhere(303));
    assert_eq!(look(&shelf, &slot, &trust()).unwrap(), None);
    let folder = tempfile::tempdir().unwrap();
    let (kept, files) = entry(folder.path(), 10);
    server.become_(Mood::Kind);
    for name in [kept.result.sha256, kept.objects[0].sha256] {
        server
            .files()
            .insert(format!("/cas/{name}"), b"0123456789".to_vec());
    }
    let record = format!("/ac/{}", slot.address());
    server.files().insert(record.clone(), b"old".to_vec());
    server.become_(Mood::Elsewhere(303));
    let files = [files[0].as_path(), files[1].as_path()];
    let sent = share(
        &shelf,
        &slot,
        offer(&kept, &files),
        &key(),
        &Interrupt::new(),
    );
    assert!(
        sent.is_err(),
        "nothing was kept: {:?}",
        server.files().get(&record)
    );
    drop(server);
    let error = look(&shelf, &slot, &trust()).unwrap_err();
    assert!(!error.is_of_entry(), "{error:?}");
}

#[test]
fn credentials_are_sent_as_they_are_and_never_in_the_clear() {
    let server = CacheServer::start();
    let basic = Authorization::Basic(Credentials::new("ada".to_owned(), "x:y".to_owned()));
    let bearer = Authorization::Bearer(Secret::new("token".to_owned()));
    // base64 of ada:x:y
    for (who, header) in [(&basic, "Basic YWRhOng6eQ=="), (&bearer, "Bearer token")] {
        server.become_(Mood::Asks(header.to_owned()));
        let shelf = HttpShelf::new(&server.address(), Some(who), None, &Arc::default()).unwrap();
        assert_eq!(look(&shelf, &slot("one"), &trust()).unwrap(), None);
        assert!(!format!("{shelf:?}").contains("token"), "{shelf:?}");
        let clear =
            HttpShelf::new("http://cache.example", Some(who), None, &Arc::default()).unwrap_err();
        assert!(clear.to_string().contains("https://"), "{clear}");
    }
    let nobody = HttpShelf::new(&server.address(), None, None, &Arc::default()).unwrap();
    let error = look(&nobody, &slot("one"), &trust()).unwrap_err();
    assert!(matches!(
        error,
        CacheError::Shelf(TargetError::Unauthorized { .. })
    ));
}

#[test]
fn a_file_that_changes_on_the_way_is_not_vouched_for() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = FolderShelf::new(folder.path().join("cache"));
    let (kept, files) = entry(folder.path(), 5000);
    // As another baker does: a new file under the name.
    std::fs::write(&files[0], b"another book").unwrap();
    let files = [files[0].as_path(), files[1].as_path()];
    let one = slot("one");
    let error = share(
        &shelf,
        &one,
        offer(&kept, &files),
        &key(),
        &Interrupt::new(),
    )
    .unwrap_err();
    assert!(matches!(error, CacheError::Changed { .. }), "{error:?}");
    assert_eq!(look(&shelf, &one, &trust()).unwrap(), None);
}
