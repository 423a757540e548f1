//! A package or the tree of a sandbox as it is kept once it is unpacked, so that nobody decompresses
//! it twice.
//!
//! What is kept is what the input says and holds, not what a lock makes of it: times are as
//! shipped, and whatever else depends on the recipe comes later.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use baker_model::Digest;
use baker_model::lock::PackageLock;
use baker_model::tree::{Content, INLINE_LIMIT, Kind, Metadata, TreePath};
use serde::{Deserialize, Serialize};

use super::error::AssembleError;
use super::merge::{Entry, Unpacked, What};
use super::unpack::{Members, Shared, unpacked};
use crate::keep::{Book, Key, Writer};
use crate::spool::Lender;
use crate::{Keep, Spool};

/// First word of the books' names.
const KIND: &str = "unpacked";

/// Version of what is kept.
const VERSION: &str = "baker-unpacked-1";

/// The index of an input's book; `members` are those of a package's `control.tar`.
#[derive(Serialize, Deserialize)]
struct Listing {
    members: Members,
    entries: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    path: Vec<u8>,
    offset: u64,
    mode: u16,
    uid: u32,
    gid: u32,
    mtime: i64,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    what: Shape,
}

#[derive(Serialize, Deserialize)]
enum Shape {
    Directory,
    Inline(Vec<u8>),
    Lent {
        digest: [u8; 32],
        start: u64,
        size: u64,
    },
    HardLink(usize),
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
    Socket,
}

fn key(source: &Digest) -> Digest {
    let mut key = Key::new(VERSION);
    key.add(source.as_bytes());
    key.finish()
}

/// What an earlier run unpacked of the input with this digest; none when none did. The spool has the
/// contents then.
pub(crate) fn open(keep: &Keep, source: Digest, spool: &Spool) -> Option<(Members, Vec<Entry>)> {
    let Book { index, file, path } = keep.open::<Listing>(KIND, &key(&source))?;
    let lent = index.entries.iter().filter_map(|record| match record.what {
        Shape::Lent {
            digest,
            start,
            size,
        } => Some((Digest::from_bytes(digest), start, size)),
        _ => None,
    });
    let lent: Vec<_> = lent.collect();
    let entries = index.entries.into_iter().map(entry);
    let entries = entries.collect::<Option<_>>()?;
    let lender = Arc::new(Lender { file, path, source });
    spool.lend(&lender, lent.into_iter());
    Some((index.members, entries))
}

/// The package as an earlier run unpacked it; none when none did.
pub(super) fn read(
    lock: &PackageLock,
    shared: &Shared<'_>,
) -> Result<Option<Unpacked>, AssembleError> {
    let kept = shared
        .keep
        .and_then(|keep| open(keep, lock.sha256, shared.spool));
    let Some((members, entries)) = kept else {
        return Ok(None);
    };
    for entry in &entries {
        if let What::Node(Kind::File { content, .. }) = &entry.what {
            shared
                .count(content.size())
                .map_err(|refusal| AssembleError::Refused {
                    package: lock.name.clone(),
                    entry: entry.path.to_string(),
                    offset: entry.offset,
                    refusal,
                })?;
        }
    }
    unpacked(lock, members, entries).map(Some)
}

fn entry(record: Record) -> Option<Entry> {
    Some(Entry {
        path: TreePath::new(&record.path).ok()?,
        offset: record.offset,
        metadata: Metadata {
            mode: record.mode,
            uid: record.uid,
            gid: record.gid,
            mtime: record.mtime,
            xattrs: record.xattrs,
        },
        what: match record.what {
            Shape::HardLink(index) => What::HardLink(index),
            Shape::Directory => What::Node(Kind::Directory),
            Shape::Inline(bytes) => What::Node(Kind::file(Content::inline(bytes))),
            Shape::Lent { digest, size, .. } => {
                let digest = Digest::from_bytes(digest);
                What::Node(Kind::file(Content::Extern { digest, size }))
            }
            Shape::Symlink(target) => What::Node(Kind::Symlink { target }),
            Shape::CharDevice(major, minor) => What::Node(Kind::CharDevice { major, minor }),
            Shape::BlockDevice(major, minor) => What::Node(Kind::BlockDevice { major, minor }),
            Shape::Fifo => What::Node(Kind::Fifo),
            Shape::Socket => What::Node(Kind::Socket),
        },
    })
}

/// Where the contents of an input go while it is unpacked: into its book, or the spool when nothing
/// is kept.
pub(crate) enum Shelf<'a> {
    Spool(&'a Spool),
    Book {
        writer: Writer<'a>,
        /// Where contents lie, by digest.
        places: BTreeMap<Digest, (u64, u64)>,
    },
}

impl<'a> Shelf<'a> {
    pub(crate) fn new(keep: Option<&'a Keep>, spool: &'a Spool) -> io::Result<Self> {
        Ok(match keep {
            None => Self::Spool(spool),
            Some(keep) => Self::Book {
                writer: keep.create()?,
                places: BTreeMap::new(),
            },
        })
    }

    /// Like [`Spool::add`].
    pub(crate) fn add(&mut self, reader: &mut dyn io::Read, size: u64) -> io::Result<Content> {
        match self {
            Self::Spool(spool) => spool.add(reader, size),
            Self::Book { .. } if size <= INLINE_LIMIT => {
                let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
                reader.read_exact(&mut bytes)?;
                Ok(Content::inline(bytes))
            }
            Self::Book { writer, places } => {
                let (start, digest) = writer.add(reader, size)?;
                places.insert(digest, (start, size));
                Ok(Content::Extern { digest, size })
            }
        }
    }

    /// Ends the book; the spool has the contents then.
    pub(crate) fn finish(
        self,
        source: Digest,
        members: &Members,
        entries: &[Entry],
        spool: &Spool,
    ) -> io::Result<()> {
        let Self::Book { writer, places } = self else {
            return Ok(());
        };
        let index = Listing {
            members: members.clone(),
            entries: entries.iter().map(|entry| record(entry, &places)).collect(),
        };
        let (file, path) = writer.finish(KIND, &key(&source), &index)?;
        let lender = Arc::new(Lender { file, path, source });
        let lent = places.iter();
        spool.lend(
            &lender,
            lent.map(|(digest, (start, size))| (*digest, *start, *size)),
        );
        Ok(())
    }
}

fn record(entry: &Entry, places: &BTreeMap<Digest, (u64, u64)>) -> Record {
    let Metadata {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
    } = entry.metadata.clone();
    Record {
        path: entry.path.as_bytes().to_vec(),
        offset: entry.offset,
        mode,
        uid,
        gid,
        mtime,
        xattrs,
        what: match &entry.what {
            What::HardLink(index) => Shape::HardLink(*index),
            What::Node(Kind::Directory) => Shape::Directory,
            What::Node(Kind::File { content, .. }) => match content {
                Content::Inline(bytes) => Shape::Inline(bytes.to_vec()),
                Content::Extern { digest, size } => Shape::Lent {
                    digest: *digest.as_bytes(),
                    start: places.get(digest).map_or(0, |(start, _)| *start),
                    size: *size,
                },
            },
            What::Node(Kind::Symlink { target }) => Shape::Symlink(target.clone()),
            What::Node(Kind::CharDevice { major, minor }) => Shape::CharDevice(*major, *minor),
            What::Node(Kind::BlockDevice { major, minor }) => Shape::BlockDevice(*major, *minor),
            What::Node(Kind::Fifo) => Shape::Fifo,
            What::Node(Kind::Socket) => Shape::Socket,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroUsize;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use baker_model::tree::TreePath;
    use baker_model::{Interrupt, Lock, Silent};

    use super::super::fixture::{EPOCH, Fixture, Store, store, tar_entry};
    use super::super::{AssembleError, Clashes, Limits, Request, assemble};
    use super::*;
    use crate::Assembled;

    fn zoo() -> [Fixture; 2] {
        let xattr = b"33 SCHILY.xattr.security.capab=x\n";
        let all = Fixture::new("all")
            .member("postinst", "#!/bin/sh\n")
            .member("conffiles", "/etc/x\n")
            .entry("./setuid-new", b'0', 0o4755, "", b"su")
            .raw(&tar_entry("./pax", b'x', 0, "", xattr))
            .file("./capable", "c")
            .file("./big", [7; 10_000])
            .hard_link("./bigger", "./big")
            .symlink("./link", "big")
            .entry("./null", b'3', 0o666, "", b"")
            .entry("./pipe", b'6', 0o600, "", b"");
        [all, Fixture::new("other").file("./same", [7; 10_000])]
    }

    fn run(
        lock: &Lock,
        inputs: &Store,
        keep: Option<&Keep>,
        limits: Limits,
    ) -> Result<(Assembled, Spool), AssembleError> {
        let spool = Spool::new(&std::env::temp_dir()).unwrap();
        let assembled = assemble(Request {
            lock,
            inputs,
            keep,
            spool: &spool,
            threads: NonZeroUsize::MIN,
            limits,
            clashes: Clashes::Refused,
            listener: &Silent,
            interrupt: &Interrupt::new(),
        });
        assembled.map(|assembled| (assembled, spool))
    }

    fn keep(folder: &Path) -> Keep {
        Keep::new(folder.to_owned(), folder.to_owned(), false)
    }

    #[test]
    fn what_was_unpacked_once_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let keep = keep(folder.path());
        let (mut lock, inputs) = store(&zoo());
        let (plain, _) = run(&lock, &inputs, None, Limits::default()).unwrap();
        let (first, spool) = run(&lock, &inputs, Some(&keep), Limits::default()).unwrap();
        let (second, again) = run(&lock, &Store::default(), Some(&keep), Limits::default())
            .expect("no package is needed any more");
        for assembled in [&first, &second] {
            assert!(assembled.tree == plain.tree);
            assert_eq!(
                format!("{:?}", assembled.packages),
                format!("{:?}", plain.packages)
            );
        }
        let big = plain.tree.get(&TreePath::new("big").unwrap()).unwrap();
        let Kind::File { content, .. } = &big.kind else {
            panic!("{big:?}")
        };
        assert_eq!(spool.read(content).unwrap(), [7; 10_000]);
        assert_eq!(again.read(content).unwrap(), [7; 10_000]);
        // Another time is no other package.
        lock.epoch = EPOCH / 2;
        let (early, _) = run(&lock, &inputs, None, Limits::default()).unwrap();
        let (kept, _) = run(&lock, &Store::default(), Some(&keep), Limits::default()).unwrap();
        assert!(early.tree == kept.tree && early.tree != plain.tree);
    }

    #[test]
    fn what_is_kept_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let keep = keep(folder.path());
        let (mut lock, inputs) = store(&zoo());
        run(&lock, &inputs, Some(&keep), Limits::default()).unwrap();
        let little = Limits {
            total_bytes: 15_000,
            ..Limits::default()
        };
        let none = Store::default();
        let refused = run(&lock, &none, Some(&keep), little).err().unwrap();
        assert!(refused.to_string().contains("too large"), "{refused}");

        // Contents are compared when they are read.
        let (assembled, spool) = run(&lock, &none, Some(&keep), Limits::default()).unwrap();
        for book in fs::read_dir(folder.path()).unwrap() {
            let book = fs::OpenOptions::new()
                .write(true)
                .open(book.unwrap().path());
            book.unwrap().write_all_at(b"x", 100).unwrap();
        }
        let big = assembled.tree.get(&TreePath::new("big").unwrap()).unwrap();
        let Kind::File { content, .. } = &big.kind else {
            panic!("{big:?}")
        };
        let error = spool.read(content).unwrap_err().to_string();
        assert!(error.contains("is altered"), "{error}");

        // A lock that names another version does not get it.
        lock.packages[0].version = "2".to_owned();
        let misnamed = run(&lock, &none, Some(&keep), Limits::default());
        let misnamed = misnamed.err().unwrap();
        assert!(
            matches!(misnamed, AssembleError::Misnamed { .. }),
            "{misnamed}"
        );
    }
}
