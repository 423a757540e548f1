//! Results of earlier work, by the key of everything that went into them.
//!
//! ```text
//! <kind>-<key>    contents one after the other | index | footer
//! footer          bytes of the index (u64 LE) | SHA-256 of the index | magic
//! ```
//! A book is written to a nameless file and gets its name when it is whole, so nobody sees half of
//! one. Its index is checked when it is opened; its contents are checked by those who read them,
//! since the index names their digests. A book that is damaged counts as not there, and so does one
//! that another user could have written: nobody has signed it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::SystemTime;

use baker_model::{Digest, Digester};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

/// Ends every book; another one belongs to another layout.
const MAGIC: &[u8; 8] = b"bakebk01";

/// Bytes of the footer.
const FOOTER: usize = 8 + 32 + 8;

/// An index larger than this is no index of ours.
const INDEX_LIMIT: u64 = 1 << 30;

/// Bytes copied or hashed at a time.
const BUFFER: usize = 128 * 1024;

/// The folder of such results.
#[derive(Debug, Clone)]
pub struct Keep {
    folder: PathBuf,
    scratch: PathBuf,
    /// Nothing kept is used; what is made takes its place.
    renews: bool,
}

/// Bytes in a book that are read in one go, and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    start: u64,
    size: u32,
    sha256: [u8; 32],
}

impl Piece {
    /// Number of its bytes.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }
}

/// A book that was there.
#[derive(Debug)]
pub struct Book<I> {
    /// What is in it.
    pub index: I,
    /// The file; the index says where in it contents lie.
    pub file: File,
    /// Where it lies.
    pub path: PathBuf,
}

/// A book that is being written.
#[derive(Debug)]
pub struct Writer<'a> {
    keep: &'a Keep,
    file: NamedTempFile,
    end: u64,
}

impl<I> Book<I> {
    /// The bytes of a piece; none when they are not those that were put there.
    #[must_use]
    pub fn piece(&self, piece: &Piece) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(piece.size).ok()?];
        self.file.read_exact_at(&mut bytes, piece.start).ok()?;
        (*Digest::of(&bytes).as_bytes() == piece.sha256).then_some(bytes)
    }
}

impl Keep {
    /// Results in `folder`, written in `scratch` first; both are there, on one file system. Files in
    /// `scratch` are locked (flock) while they are written. With `renews` nothing that is there is
    /// used.
    #[must_use]
    pub const fn new(folder: PathBuf, scratch: PathBuf, renews: bool) -> Self {
        Self {
            folder,
            scratch,
            renews,
        }
    }

    /// The book of this kind and key; none when there is none that can be used.
    #[must_use]
    pub fn open<I: DeserializeOwned>(&self, kind: &str, key: &Digest) -> Option<Book<I>> {
        let (file, path, index) = self.whole(kind, key)?;
        let index = postcard::from_bytes(&index).ok()?;
        Some(Book { index, file, path })
    }

    /// Where the book of this kind and key lies; none when there is none that can be used. Its index is
    /// checked, its contents are not.
    #[must_use]
    pub fn find(&self, kind: &str, key: &Digest) -> Option<PathBuf> {
        self.whole(kind, key).map(|(_, path, _)| path)
    }

    /// A book as a file, and its index as bytes.
    fn whole(&self, kind: &str, key: &Digest) -> Option<(File, PathBuf, Vec<u8>)> {
        if self.renews {
            return None;
        }
        let path = self.path(kind, key);
        let mut file = File::open(&path).ok()?;
        if !is_own(&file) {
            return None;
        }
        let index = index(&mut file).ok()??;
        // Whoever clears up goes by the time of the last use.
        file.set_modified(SystemTime::now()).ok()?;
        Some((file, path, index))
    }

    /// Begins a book.
    ///
    /// # Errors
    /// No file can be made.
    pub fn create(&self) -> io::Result<Writer<'_>> {
        loop {
            // A store may be shared by several people.
            let readable = Permissions::from_mode(0o644);
            let file = tempfile::Builder::new()
                .permissions(readable)
                .tempfile_in(&self.scratch)?;
            // Before the lock, whoever clears up may take it for abandoned.
            if file.as_file().try_lock().is_ok() && file.as_file().metadata()?.nlink() > 0 {
                return Ok(Writer {
                    keep: self,
                    file,
                    end: 0,
                });
            }
        }
    }

    fn path(&self, kind: &str, key: &Digest) -> PathBuf {
        self.folder.join(format!("{kind}-{key}"))
    }
}

/// True for a file that no other user could have written.
#[must_use]
pub fn is_own(file: &File) -> bool {
    let metadata = file.metadata().ok();
    metadata.is_some_and(|it| Some(it.uid()) == own_user() && it.mode() & 0o022 == 0)
}

/// The user whom files that we make belong to; none where the system does not say so.
fn own_user() -> Option<u32> {
    static USER: OnceLock<Option<u32>> = OnceLock::new();
    *USER.get_or_init(|| Some(fs::metadata("/proc/self").ok()?.uid()))
}

/// The index of a book as bytes; none when the file is no whole book.
fn index(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let size = file.metadata()?.len();
    let Some(end) = size.checked_sub(FOOTER as u64) else {
        return Ok(None);
    };
    let mut footer = [0; FOOTER];
    file.read_exact_at(&mut footer, end)?;
    let (length, rest) = footer.split_at(8);
    let (sum, magic) = rest.split_at(32);
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
    let Some(start) = end.checked_sub(length) else {
        return Ok(None);
    };
    if magic != MAGIC || length > INDEX_LIMIT {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(length).read_to_end(&mut bytes)?;
    let is_whole = Digest::of(&bytes).as_bytes() == sum;
    Ok(is_whole.then_some(bytes))
}

impl Writer<'_> {
    /// Takes exactly `size` bytes from `reader`; gives where they lie, and their digest.
    ///
    /// # Errors
    /// The reader ends early (`UnexpectedEof`) or fails; or the file cannot be written, then the
    /// error holds a [`crate::spool::SpoolFull`].
    pub fn add(&mut self, reader: &mut dyn io::Read, size: u64) -> io::Result<(u64, Digest)> {
        let start = self.end;
        let digest = copy(reader, size, |bytes, at| {
            self.file.as_file().write_all_at(bytes, start + at)
        })?;
        self.end += size;
        Ok((start, digest))
    }

    /// Takes bytes, fewer than 4 GiB; gives what reads them again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<Piece> {
        let start = self.end;
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.file.as_file().write_all_at(bytes, start)?;
        self.end += bytes.len() as u64;
        Ok(Piece {
            start,
            size,
            sha256: *Digest::of(bytes).as_bytes(),
        })
    }

    /// Ends the book and gives it its name; one that was there is replaced.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(
        mut self,
        kind: &str,
        key: &Digest,
        index: &impl Serialize,
    ) -> io::Result<(File, PathBuf)> {
        let bytes = postcard::to_stdvec(index).map_err(io::Error::other)?;
        let mut footer = Vec::with_capacity(FOOTER);
        footer.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        footer.extend_from_slice(Digest::of(&bytes).as_bytes());
        footer.extend_from_slice(MAGIC);
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&bytes)?;
        self.file.write_all(&footer)?;
        let path = self.keep.path(kind, key);
        let file = self.file.persist(&path)?;
        file.unlock()?;
        Ok((file, path))
    }
}

/// Hands exactly `size` bytes of `reader` to `write`, with their offset; gives their digest.
///
/// # Errors
/// The reader ends early or fails; or `write` fails, then the error holds a
/// [`crate::spool::SpoolFull`].
pub(crate) fn copy(
    reader: &mut dyn io::Read,
    size: u64,
    mut write: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<Digest> {
    let mut digester = Digester::new();
    let length = usize::try_from(size).unwrap_or(BUFFER).min(BUFFER);
    let mut buffer = vec![0; length];
    let mut done = 0;
    while done < size {
        let want = usize::try_from(size - done).unwrap_or(length).min(length);
        reader.read_exact(&mut buffer[..want])?;
        digester.update(&buffer[..want]);
        write(&buffer[..want], done).map_err(crate::spool::SpoolFull::wrap)?;
        done += want as u64;
    }
    Ok(digester.finish())
}

/// Names work by everything that goes into it: each part with its length, so that none runs into
/// the next.
#[derive(Debug)]
pub struct Key(Digester);

impl Key {
    /// A key of this version of the work.
    #[must_use]
    pub fn new(version: &str) -> Self {
        let mut key = Self(Digester::new());
        key.add(version.as_bytes());
        key
    }

    /// One more part.
    pub fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// The key.
    #[must_use]
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn in_folder(folder: &Path, renews: bool) -> Keep {
        Keep::new(folder.to_owned(), folder.to_owned(), renews)
    }

    fn keep(renews: bool) -> (tempfile::TempDir, Keep) {
        let folder = tempfile::tempdir().unwrap();
        let keep = in_folder(folder.path(), renews);
        (folder, keep)
    }

    #[test]
    fn a_book_comes_back_by_its_key() {
        let (folder, keep) = keep(false);
        let key = Digest::of(b"key");
        let mut writer = keep.create().unwrap();
        let (one, digest) = writer.add(&mut &[7; 300_000][..], 300_000).unwrap();
        let two = writer.append(b"two").unwrap();
        assert_eq!((one, digest), (0, Digest::of(&[7; 300_000])));
        let (_, path) = writer.finish("kind", &key, &vec![two]).unwrap();
        let book: Book<Vec<Piece>> = keep.open("kind", &key).unwrap();
        assert_eq!((&book.index, &book.path), (&vec![two], &path));
        assert_eq!(book.piece(&two).unwrap(), b"two");
        let altered = fs::OpenOptions::new().write(true).open(&path).unwrap();
        altered.write_all_at(b"too", 300_000).unwrap();
        assert!(book.piece(&two).is_none());
        assert!(keep.open::<Vec<Piece>>("other", &key).is_none());
        let renewing = in_folder(folder.path(), true);
        assert!(renewing.open::<Vec<Piece>>("kind", &key).is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_book_is_not_there() {
        let (_folder, keep) = keep(false);
        let key = Digest::of(b"key");
        let mut writer = keep.create().unwrap();
        writer.append(b"contents").unwrap();
        let names = vec!["one".to_owned(), "two".to_owned()];
        let (_, path) = writer.finish("kind", &key, &names).unwrap();
        let whole = fs::read(&path).unwrap();
        let opens = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            keep.open::<Vec<String>>("kind", &key).is_some()
        };
        assert!(opens(&whole));
        assert_eq!(keep.find("kind", &key).unwrap(), path);
        assert!(keep.find("kind", &Digest::of(b"other")).is_none());
        for length in 0..whole.len() {
            assert!(!opens(&whole[..length]), "cut to {length} bytes");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert!(!opens(&whole), "anybody may have written it");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        for at in "contents".len()..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(!opens(&bytes), "byte {at} changed");
        }
    }

    #[test]
    fn a_book_that_is_not_finished_leaves_nothing() {
        let (folder, keep) = keep(false);
        let mut writer = keep.create().unwrap();
        assert!(writer.add(&mut &b"abc"[..], 4).is_err());
        drop(writer);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
