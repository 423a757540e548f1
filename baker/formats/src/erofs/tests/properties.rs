//! Random trees, failing outputs, damaged images, refused requests.

use std::collections::HashMap;
use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use baker_model::tree::{Content, Kind, LinkGroup, Metadata};
use baker_model::{Digest, Interrupt};
use proptest::prelude::*;

use super::super::read::Image;
use super::super::{Compression, Error, Options, Parcels, Request, dump, read, write};
use super::fixtures::{
    Builder, COMPRESSIONS, image, image_with, noise, normal, options, plain, prose, xattrs, zoo,
};

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![0..200_usize, 4000..4200_usize, 0..200_000_usize];
    (size, any::<u64>(), 0..4_u8).prop_map(|(size, seed, kind)| match kind {
        0 => noise(size, seed),
        1 => vec![0; size],
        2 => [prose(size / 2, seed), noise(size - size / 2, seed)].concat(),
        _ => prose(size, seed),
    })
}

fn any_tree() -> impl Strategy<Value = Builder> {
    let file = (
        "[ab]{1,2}/[a-c.-]{1,3}x",
        any_bytes(),
        0..0o10000_u16,
        any::<u32>(),
        -9..9_i64,
        0..9_u8,
    );
    proptest::collection::vec(file, 0..24).prop_map(|files| {
        let mut built = Builder::new();
        for (path, bytes, mode, uid, mtime, value) in files {
            let content = built.content(bytes);
            let kind = match value {
                0 => Kind::Symlink {
                    target: path.clone().into_bytes(),
                },
                1 => Kind::Fifo,
                _ => Kind::file(content),
            };
            let text = [value; 30];
            let xattrs = if value > 4 {
                xattrs(&[("user.v", &text)])
            } else {
                xattrs(&[])
            };
            let metadata = Metadata {
                mode,
                uid,
                gid: uid % 70_000,
                mtime: 1_700_000_000 + mtime / 5,
                xattrs,
            };
            built.add(&path, metadata, kind);
        }
        built
    })
}

/// Parcels in memory.
#[derive(Default)]
struct Shelf {
    parcels: Mutex<HashMap<(Digest, u64), Vec<u8>>>,
    /// Nothing new may be put down: all that is asked for is there.
    closed: AtomicBool,
}

impl Shelf {
    fn damage(&self) {
        for parcel in self.parcels.lock().unwrap().values_mut() {
            parcel.pop();
        }
    }

    fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }
}

impl Parcels for Shelf {
    fn take(&self, content: &Digest, offset: u64) -> Option<Vec<u8>> {
        self.parcels
            .lock()
            .unwrap()
            .get(&(*content, offset))
            .cloned()
    }

    fn give(&self, content: &Digest, offset: u64, parcel: &[u8]) {
        assert!(
            !self.closed.load(Ordering::Relaxed),
            "{content} was made again"
        );
        let mut parcels = self.parcels.lock().unwrap();
        parcels.insert((*content, offset), parcel.to_vec());
    }
}

/// An output that is full after some bytes and writes a few bytes at a time.
struct Small(Cursor<Vec<u8>>, usize);

impl Write for Small {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self
            .1
            .saturating_sub(usize::try_from(self.0.position()).unwrap());
        if left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write(&bytes[..bytes.len().min(left).min(777)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Small {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back(built in any_tree().prop_map(std::sync::Arc::new), at in 0..3_usize, cluster in 0..5_u32) {
        let options = Options { cluster_size: 4096 << cluster, ..options(COMPRESSIONS[at], 2) };
        let (bytes, _) = image(&built, &options).unwrap();
        let (tree, _) = read(&bytes).unwrap();
        prop_assert!(tree == normal(&built.tree), "{}", dump(&bytes).unwrap());
    }

    #[test]
    fn parcels_change_no_byte(
        built in any_tree().prop_map(std::sync::Arc::new),
        more in any_bytes(),
        damaged in any::<bool>(),
        at in 0..3_usize,
    ) {
        let options = Options { cluster_size: 16 << 10, ..options(COMPRESSIONS[at], 2) };
        let shelf = Shelf::default();
        let (expected, _) = image(&built, &options).unwrap();
        prop_assert_eq!(&image_with(&built, &options, Some(&shelf)).unwrap().0, &expected);
        if damaged {
            shelf.damage();
        } else {
            shelf.close(true);
        }
        prop_assert_eq!(&image_with(&built, &options, Some(&shelf)).unwrap().0, &expected);
        shelf.close(false);
        let mut other = Builder::clone(&built);
        other.file("new", more);
        let (expected, _) = image(&other, &options).unwrap();
        prop_assert_eq!(&image_with(&other, &options, Some(&shelf)).unwrap().0, &expected);
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_no_image(room in 0..1_000_000_usize) {
        let zoo = zoo();
        let options = options(Compression::None, 2);
        let (interrupt, progress) = (Interrupt::new(), |_: u64| {});
        let request = Request { tree: &zoo.tree, contents: &zoo.contents, parcels: None, first: &[], options: &options, interrupt: &interrupt, progress: &progress };
        let mut out = Small(Cursor::new(Vec::new()), room);
        let full = write(&request, &mut out);
        let is_output = matches!(full, Err(Error::Output { .. }));
        prop_assert!(is_output);
        prop_assert!(read(&out.0.into_inner()).is_err());
    }

    #[test]
    fn a_damaged_image_never_panics(flips in proptest::collection::vec((any::<proptest::sample::Index>(), 1..=255_u8), 1..40)) {
        let mut built = Builder::new();
        built.file("a/text", prose(200_000, 1));
        built.file("b", noise(5000, 1));
        let (mut bytes, _) = image(&built, &options(Compression::Lz4hc { level: 1 }, 1)).unwrap();
        let meta = bytes.len() - 4096;
        for (index, flip) in flips {
            let at = meta + index.index(4096);
            bytes[at] ^= flip;
        }
        // Any answer will do.
        drop(read(&bytes));
        drop(dump(&bytes));
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.tree.walk().map(|(path, node)| (path, &node.metadata)))
            .finish()
    }
}

#[test]
fn directories_inside_of_themselves_are_told_once() {
    let mut built = Builder::new();
    for name in ["a/x", "b/x", "c/x"] {
        built.file(name, prose(10, 1));
    }
    let (mut bytes, _) = image(&built, &options(Compression::None, 1)).unwrap();
    let (root, mut children) = (Image::open(&bytes).unwrap().root(), Vec::new());
    let found = Image::open(&bytes)
        .unwrap()
        .entries(root, &mut |name, child| {
            children.extend((name.len() == 1 && name != b".").then_some(child));
        });
    found.unwrap();
    assert_eq!(children.len(), 3);
    for child in children {
        let entry = child.to_le_bytes();
        while let Some(at) = bytes.windows(8).rposition(|bytes| bytes == entry) {
            bytes[at..at + 8].copy_from_slice(&root.to_le_bytes());
        }
    }
    assert!(read(&bytes).is_err());
    let text = dump(&bytes).unwrap();
    assert!(text.lines().count() < 20, "{text}");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let mut built = Builder::new();
    let metadata = Metadata {
        xattrs: xattrs(&[("btrfs.compression", b"zstd")]),
        ..plain(0o644)
    };
    built.add("odd", metadata, Kind::file(Content::inline("")));
    let error = image(&built, &Options::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("/odd has the extended attribute `btrfs.compression`"),
        "{error}"
    );

    let mut built = Builder::new();
    for (path, mode) in [("one", 0o644), ("two", 0o600)] {
        let kind = Kind::File {
            content: Content::inline("x"),
            link: Some(LinkGroup(1)),
        };
        built.add(path, plain(mode), kind);
    }
    assert!(matches!(
        image(&built, &Options::default()),
        Err(Error::LinkMismatch { .. })
    ));

    let odd = Options {
        cluster_size: 5000,
        ..Options::default()
    };
    assert!(matches!(
        image(&built, &odd),
        Err(Error::Setting { found: 5000, .. })
    ));
    let odd = options(Compression::Zstd { level: 23 }, 1);
    assert!(matches!(
        image(&built, &odd),
        Err(Error::Setting { found: 23, .. })
    ));
}

#[test]
fn missing_content_is_named_and_an_interrupt_ends_the_work() {
    let mut built = zoo();
    let interrupt = Interrupt::new();
    interrupt.raise();
    let options = options(Compression::Zstd { level: 1 }, 2);
    let request = Request {
        tree: &built.tree,
        contents: &built.contents,
        parcels: None,
        first: &[],
        options: &options,
        interrupt: &interrupt,
        progress: &|_| {},
    };
    let stopped = write(&request, &mut Cursor::new(Vec::new()));
    assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    built.contents.0.clear();
    let error = image(&built, &options).unwrap_err().to_string();
    assert!(error.starts_with("reading /"), "{error}");
}
