//! A stored package being read, its size and digest checked on the way.

use std::io::{self, BufReader, Read};

use baker_formats::deb::{Deb, Limits};
use baker_formats::tar::Header;
use baker_model::lock::PackageLock;
use baker_model::object::ReadSeek;
use baker_model::{Digest, Digester, Objects};

use super::error::{AssembleError, Difference, Fingerprint, Refusal};
use crate::spool::SpoolFull;

/// Bytes read from the store at a time.
const BUFFER: usize = 128 * 1024;

/// What a stored package is read through.
pub(crate) type Source<'a> = BufReader<&'a mut Hashing>;

/// Lets `take` read the package `lock` from the store, then checks that the whole file is what the lock names.
///
/// What `take` gives is handed on only when it is. When it failed, an altered file is the better
/// explanation and is reported instead: the file is read to its end for that.
pub(crate) fn read<T>(
    lock: &PackageLock,
    inputs: &dyn Objects,
    limits: &Limits,
    take: impl FnOnce(&mut Deb<Source<'_>>) -> Result<T, AssembleError>,
) -> Result<T, AssembleError> {
    let inner = inputs
        .open(&lock.sha256)
        .map_err(|source| AssembleError::Input {
            package: lock.name.clone(),
            file: lock.path.clone(),
            source,
        })?;
    let mut hashing = Hashing {
        inner,
        digester: Digester::new(),
        size: 0,
    };
    let taken = match Deb::open(BufReader::with_capacity(BUFFER, &mut hashing), limits) {
        Ok(mut deb) => take(&mut deb),
        Err(source) => Err(broken(lock, source)),
    };
    if let Err(AssembleError::Interrupted | AssembleError::Spool { .. }) = taken {
        return taken;
    }
    let expected = Fingerprint {
        size: lock.size,
        sha256: lock.sha256,
    };
    let found = hashing.drain().map_err(|source| AssembleError::Read {
        package: lock.name.clone(),
        file: lock.path.clone(),
        source,
    })?;
    if found != expected {
        return Err(AssembleError::Altered {
            package: lock.name.clone(),
            file: lock.path.clone(),
            difference: Box::new(Difference { expected, found }),
        });
    }
    taken
}

/// The error of a package that is what the lock names, but cannot be read.
pub(crate) fn broken(lock: &PackageLock, source: baker_formats::deb::DebError) -> AssembleError {
    AssembleError::Broken {
        package: lock.name.clone(),
        file: lock.path.clone(),
        source: Box::new(source),
    }
}

/// The error of an entry that cannot be part of an image.
pub(crate) fn refused(lock: &PackageLock, header: &Header, refusal: Refusal) -> AssembleError {
    AssembleError::Refused {
        package: lock.name.clone(),
        entry: String::from_utf8_lossy(&header.path).into_owned(),
        offset: header.offset,
        refusal,
    }
}

/// The error of an entry whose bytes could not be carried over: tells a work folder that cannot
/// take them from a package that cannot give them.
pub(crate) fn damaged(lock: &PackageLock, header: &Header, source: io::Error) -> AssembleError {
    let package = lock.name.clone();
    if source
        .get_ref()
        .is_some_and(|inner| inner.is::<SpoolFull>())
    {
        return AssembleError::Spool { package, source };
    }
    AssembleError::Content {
        package,
        entry: String::from_utf8_lossy(&header.path).into_owned(),
        offset: header.offset,
        source,
    }
}

/// Counts and hashes what is read through it.
pub(crate) struct Hashing {
    inner: Box<dyn ReadSeek>,
    digester: Digester,
    size: u64,
}

impl Hashing {
    /// Reads what is left and says what the whole was.
    fn drain(mut self) -> io::Result<Fingerprint> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let sha256: Digest = self.digester.finish();
        Ok(Fingerprint {
            size: self.size,
            sha256,
        })
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digester.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}
