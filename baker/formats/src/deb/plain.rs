//! Packages in which nothing is compressed.
//!
//! Takes a package; gives one that dpkg unpacks into the very same files, without spending time on
//! decompression where that is dear, or where only one core does it.

use std::io::{self, BufRead, Read as _, Seek, SeekFrom, Write};

use super::codec::Decoder;
use super::{DebError, Limits, check_version, find};
use crate::ar::{self, Archive};

/// Bytes copied at a time.
const BUFFER: usize = 256 << 10;

/// Content of `debian-binary`.
const VERSION: &[u8] = b"2.0\n";

/// A package could not be written again.
#[derive(Debug, thiserror::Error)]
pub enum PlainError {
    /// It cannot be read.
    #[error(transparent)]
    Package(#[from] DebError),
    /// A member cannot be decompressed, or is larger than it may be.
    #[error("cannot decompress member `{member}`")]
    Decompress {
        /// Its name.
        member: String,
        /// What the decompressor said.
        #[source]
        source: io::Error,
    },
    /// What comes out cannot be written.
    #[error("cannot write the package")]
    Write(#[source] io::Error),
}

/// Writes the package behind `reader` with uncompressed members at the place where `out` stands,
/// and leaves `out` behind its end; gives its size. Members that dpkg skips are left out.
///
/// # Errors
/// See [`PlainError`]; what was written until then is no package.
pub fn write_plain(
    reader: impl BufRead,
    out: &mut (impl Write + Seek),
    limits: &Limits,
) -> Result<u64, PlainError> {
    let start = out.stream_position().map_err(PlainError::Write)?;
    let mut archive = Archive::new(reader).map_err(DebError::from)?;
    check_version(&mut archive)?;
    out.write_all(ar::MAGIC).map_err(PlainError::Write)?;
    let header = header("debian-binary", VERSION.len() as u64)?;
    out.write_all(&header).map_err(PlainError::Write)?;
    out.write_all(VERSION).map_err(PlainError::Write)?;
    for (name, limit) in [
        ("control.tar", limits.control_bytes),
        ("data.tar", limits.data.bytes),
    ] {
        archive = write_member(name, archive, out, (limit, limits))?;
    }
    let end = out.stream_position().map_err(PlainError::Write)?;
    Ok(end - start)
}

/// Writes the next member of this name and gives the archive back.
fn write_member<R: BufRead>(
    name: &'static str,
    mut archive: Archive<R>,
    out: &mut (impl Write + Seek),
    (limit, limits): (u64, &Limits),
) -> Result<Archive<R>, PlainError> {
    let (member, codec) = find(&mut archive, name)?;
    let failed = |source| PlainError::Decompress {
        member: member.name.clone(),
        source,
    };
    let decoder = Decoder::new(codec, archive, limits.decoder_memory, limits.threads);
    let mut decoder = decoder.map_err(failed)?;
    // The size is known when all of it was seen.
    let place = out.stream_position().map_err(PlainError::Write)?;
    out.write_all(&[0; ar::HEADER]).map_err(PlainError::Write)?;
    let mut size = 0;
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match decoder.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(failed(source)),
        };
        size += count as u64;
        if size > limit {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        out.write_all(&buffer[..count]).map_err(PlainError::Write)?;
    }
    if size % 2 == 1 {
        out.write_all(b"\n").map_err(PlainError::Write)?;
    }
    let end = out.stream_position().map_err(PlainError::Write)?;
    let header = header(name, size)?;
    out.seek(SeekFrom::Start(place))
        .and_then(|_| out.write_all(&header))
        .and_then(|()| out.seek(SeekFrom::Start(end)))
        .map_err(PlainError::Write)?;
    Ok(decoder.into_inner())
}

fn header(name: &str, size: u64) -> Result<[u8; ar::HEADER], PlainError> {
    let header = ar::member_header(name, size);
    header.ok_or_else(|| PlainError::Write(io::ErrorKind::FileTooLarge.into()))
}
