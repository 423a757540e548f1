//! Packed file data, kept by the input that it comes from: a book of parcels per package, local
//! file or tree of a sandbox, for each way to compress.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use baker_formats::erofs::{Options, PARCEL_VERSION, Parcels};
use baker_model::tree::{Content, Kind};
use baker_model::{Digest, Tree};
use serde::{Deserialize, Serialize};

use crate::keep::{Book, Key, Piece};
use crate::{Keep, Spool};

/// First word of the books' names.
pub(super) const KIND: &str = "packed";

/// Version of what is kept.
const VERSION: &str = "baker-packed-1";

/// A parcel in its book.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    content: [u8; 32],
    offset: u64,
    parcel: Piece,
}

/// A parcel in the file of those that were made.
struct Made {
    content: Digest,
    offset: u64,
    start: u64,
    size: usize,
}

/// The parcels of the inputs of one image.
pub(super) struct Shelf<'a> {
    keep: &'a Keep,
    spool: &'a Spool,
    settings: Digest,
    books: BTreeMap<Digest, Book<Vec<Record>>>,
    /// Source and number of the record of each parcel that is there.
    places: HashMap<(Digest, u64), (Digest, usize)>,
    fresh: Fresh,
    taken: AtomicU64,
    made: AtomicU64,
}

/// Parcels that were made for this image, in a file without a name.
struct Fresh {
    file: File,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    end: u64,
    by_source: BTreeMap<Digest, Vec<Made>>,
    /// A parcel could not be put down: then none is kept.
    failed: bool,
}

impl<'a> Shelf<'a> {
    /// What is there for the files of `tree`; what is made on the way lies in `folder`.
    pub(super) fn open(
        keep: &'a Keep,
        spool: &'a Spool,
        tree: &Tree,
        options: &Options,
        folder: &Path,
    ) -> io::Result<Self> {
        let settings = settings(options);
        let digests = tree.walk().filter_map(|(_, node)| match &node.kind {
            Kind::File {
                content: Content::Extern { digest, .. },
                ..
            } => Some(digest),
            _ => None,
        });
        let sources: BTreeSet<Digest> = digests.filter_map(|it| spool.source(it)).collect();
        let mut shelf = Self {
            keep,
            spool,
            settings,
            books: BTreeMap::new(),
            places: HashMap::new(),
            fresh: Fresh {
                file: tempfile::tempfile_in(folder)?,
                state: Mutex::default(),
            },
            taken: AtomicU64::new(0),
            made: AtomicU64::new(0),
        };
        for source in sources {
            let Some(book) = keep.open::<Vec<Record>>(KIND, &key(&settings, &source)) else {
                continue;
            };
            for (number, record) in book.index.iter().enumerate() {
                let content = Digest::from_bytes(record.content);
                shelf
                    .places
                    .insert((content, record.offset), (source, number));
            }
            shelf.books.insert(source, book);
        }
        Ok(shelf)
    }

    /// Puts what was made into the books of its sources; gives the numbers of parcels that were
    /// taken over, and made.
    pub(super) fn close(self) -> io::Result<(u64, u64)> {
        let state = self.fresh.state.into_inner();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let counts = (self.taken.into_inner(), self.made.into_inner());
        if state.failed {
            return Ok(counts);
        }
        for (source, fresh) in state.by_source {
            let mut writer = self.keep.create()?;
            let mut records = Vec::new();
            if let Some(book) = self.books.get(&source) {
                // What was damaged has been made again.
                let again: BTreeSet<_> = fresh.iter().map(|it| (it.content, it.offset)).collect();
                for record in &book.index {
                    let place = (Digest::from_bytes(record.content), record.offset);
                    let bytes = || book.piece(&record.parcel);
                    if let (false, Some(bytes)) = (again.contains(&place), bytes()) {
                        let parcel = writer.append(&bytes)?;
                        records.push(Record {
                            parcel,
                            ..record.clone()
                        });
                    }
                }
            }
            for made in fresh {
                let mut bytes = vec![0; made.size];
                self.fresh.file.read_exact_at(&mut bytes, made.start)?;
                records.push(Record {
                    content: *made.content.as_bytes(),
                    offset: made.offset,
                    parcel: writer.append(&bytes)?,
                });
            }
            writer.finish(KIND, &key(&self.settings, &source), &records)?;
        }
        Ok(counts)
    }
}

impl Fresh {
    fn put(&self, source: Digest, content: &Digest, offset: u64, parcel: &[u8]) -> io::Result<()> {
        let start = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let start = state.end;
            state.end += parcel.len() as u64;
            start
        };
        self.file.write_all_at(parcel, start)?;
        let made = Made {
            content: *content,
            offset,
            start,
            size: parcel.len(),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.by_source.entry(source).or_default().push(made);
        Ok(())
    }
}

impl Parcels for Shelf<'_> {
    fn take(&self, content: &Digest, offset: u64) -> Option<Vec<u8>> {
        let (source, number) = self.places.get(&(*content, offset))?;
        let book = self.books.get(source)?;
        let record = book.index.get(*number)?;
        let bytes = book.piece(&record.parcel)?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(bytes)
    }

    fn give(&self, content: &Digest, offset: u64, parcel: &[u8]) {
        self.made.fetch_add(1, Ordering::Relaxed);
        let Some(source) = self.spool.source(content) else {
            return;
        };
        if self.fresh.put(source, content, offset, parcel).is_err() {
            let mut state = self.fresh.state.lock();
            let state = state.as_deref_mut();
            state.unwrap_or_else(|poisoned| poisoned.get_mut()).failed = true;
        }
    }
}

/// Names a way to compress.
pub(super) fn settings(options: &Options) -> Digest {
    let mut key = Key::new(VERSION);
    key.add(&PARCEL_VERSION.to_le_bytes());
    // The library decides over the bytes, too.
    key.add(&zstd::zstd_safe::version_number().to_le_bytes());
    key.add(format!("{:?}", options.compression).as_bytes());
    key.add(&options.cluster_size.to_le_bytes());
    key.finish()
}

/// Names the book of an input, packed in some way.
pub(super) fn key(settings: &Digest, source: &Digest) -> Digest {
    let mut key = Key::new(VERSION);
    key.add(settings.as_bytes());
    key.add(source.as_bytes());
    key.finish()
}
