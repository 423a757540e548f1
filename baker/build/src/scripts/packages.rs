//! The packages on their way into the sandbox: each as a file of an archive, with nothing
//! compressed.
//!
//! Several threads decompress, one writes, in the order of the packages. What is large goes from
//! its decompressor straight into the file, so memory does not grow with packages.

use std::io::{self, BufReader, Cursor, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, sync_channel};

use baker_contract::sandbox::SANDBOX_FILES;
use baker_formats::deb::{self, PlainError};
use baker_formats::tar::{self, BLOCK};
use baker_model::lock::PackageLock;
use baker_model::{Interrupt, Objects};

use super::ScriptsError;
use super::input::header;
use super::plan::PACKAGES;
use crate::assemble::{AssembleError, Limits};

/// Bytes read of the store at a time.
const BUFFER: usize = 256 << 10;

/// Packages of more bytes than this are not held in memory.
const LARGE: u64 = 2 << 20;

/// Nor are those that were thought to be small, past so many bytes of files.
const HELD: u64 = 32 << 20;

/// A package that a thread has decompressed; none of one that is too large for that.
type Made = Result<Option<Vec<u8>>, ScriptsError>;

/// Appends the packages to an archive, numbered by their order.
pub(super) fn append(
    packages: &[PackageLock],
    (inputs, threads): (&dyn Objects, NonZeroUsize),
    out: &mut (impl Write + Seek),
    interrupt: &Interrupt,
) -> Result<(), ScriptsError> {
    let threads = threads.get();
    std::thread::scope(|scope| {
        let made: Vec<Receiver<Made>> = (0..threads)
            .map(|first| {
                // One lies ready while the next is worked at.
                let (ready, made) = sync_channel(1);
                scope.spawn(move || {
                    for package in packages.iter().skip(first).step_by(threads) {
                        let stops = ready.send(small(package, inputs)).is_err();
                        if stops || interrupt.is_raised() {
                            return;
                        }
                    }
                });
                made
            })
            .collect();
        for (number, package) in packages.iter().enumerate() {
            let bytes = match made[number % threads].recv() {
                Ok(bytes) => bytes?,
                // Its thread goes on until somebody asks to stop.
                Err(_) => return Err(ScriptsError::Interrupted),
            };
            let path = format!("{SANDBOX_FILES}/{PACKAGES}/{number:04}.deb");
            match bytes {
                Some(bytes) => append_small(path, &bytes, out).map_err(ScriptsError::Write)?,
                None => append_large(path, package, inputs, out)?,
            }
        }
        Ok(())
    })
}

fn small(package: &PackageLock, inputs: &dyn Objects) -> Made {
    if package.size > LARGE {
        return Ok(None);
    }
    let mut limits = Limits::default().of_package(1);
    limits.data.bytes = HELD;
    let mut bytes = Cursor::new(Vec::new());
    match deb::write_plain(open(package, inputs)?, &mut bytes, &limits) {
        Ok(_) => Ok(Some(bytes.into_inner())),
        // Whatever is wrong with it: the second try says so, or holds nothing.
        Err(_) => Ok(None),
    }
}

fn append_small(path: String, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    out.write_all(&tar::encode(&header(path, 0o644, bytes.len() as u64)))?;
    out.write_all(bytes)?;
    out.write_all(&padding(bytes.len() as u64))
}

fn append_large(
    path: String,
    package: &PackageLock,
    inputs: &dyn Objects,
    out: &mut (impl Write + Seek),
) -> Result<(), ScriptsError> {
    let from = open(package, inputs)?;
    let limits = Limits::default().of_package(1);
    let place = out.stream_position().map_err(ScriptsError::Write)?;
    let before = tar::encode(&header(path.clone(), 0o644, 0));
    out.write_all(&before).map_err(ScriptsError::Write)?;
    let size = deb::write_plain(from, out, &limits).map_err(|error| match error {
        PlainError::Write(source) => ScriptsError::Write(source),
        source => ScriptsError::Decompress {
            package: package.name.clone(),
            file: package.path.clone(),
            source: Box::new(source),
        },
    })?;
    let header = tar::encode(&header(path, 0o644, size));
    if header.len() != before.len() {
        // Past 8 GiB a header grows; nothing else of such a package would work either.
        return Err(ScriptsError::Write(io::ErrorKind::FileTooLarge.into()));
    }
    let mut finish = || -> io::Result<()> {
        out.write_all(&padding(size))?;
        let end = out.stream_position()?;
        out.seek(SeekFrom::Start(place))?;
        out.write_all(&header)?;
        out.seek(SeekFrom::Start(end)).map(drop)
    };
    finish().map_err(ScriptsError::Write)
}

fn open(package: &PackageLock, inputs: &dyn Objects) -> Result<impl io::BufRead, ScriptsError> {
    let opened = inputs.open(&package.sha256);
    let opened = opened.map_err(|source| AssembleError::Input {
        package: package.name.clone(),
        file: package.path.clone(),
        source,
    })?;
    Ok(BufReader::with_capacity(BUFFER, opened))
}

fn padding(size: u64) -> Vec<u8> {
    let block = BLOCK as u64;
    vec![0; usize::try_from(size.next_multiple_of(block) - size).unwrap_or_default()]
}
