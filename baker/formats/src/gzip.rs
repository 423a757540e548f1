//! gzip by several threads, as one stream with one checksum (RFC 1952, RFC 1951).
//!
//! Takes bytes at any place, gives the compressed stream. Parts of 1 MiB are compressed by
//! themselves and end at a byte ("sync flush"), so their number and order, and with them every
//! byte, do not depend on the threads. The header names no file and no time.

use std::io::{self, Write};
use std::num::NonZeroUsize;

use baker_model::Interrupt;
use flate2::Crc;
use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};

use crate::io::Source;
use crate::pipeline::{self, Stop};

/// Bytes that are compressed by themselves: matches do not reach across, which costs about a
/// hundredth.
const PART: u64 = 1 << 20;

/// The default of gzip.
const LEVEL: i32 = 6;

/// Magic, Deflate, no flags, no time, no hint, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// What is compressed, and by whom.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The bytes.
    pub source: &'a dyn Source,
    /// Their number.
    pub size: u64,
    /// Threads that compress; never changes the result.
    pub threads: NonZeroUsize,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

/// The stream cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GzipError {
    /// The bytes cannot be read.
    #[error("cannot read what is to be compressed at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// The stream cannot be written.
    #[error("cannot write the compressed stream")]
    Write(#[source] io::Error),
    /// A thread that compresses died.
    #[error("a thread that compresses died")]
    Worker,
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Writes the compressed stream; `plain` hears the bytes that went in, in order.
///
/// # Errors
/// See [`GzipError`].
pub fn write(
    request: &Request<'_>,
    plain: &mut dyn FnMut(&[u8]),
    out: &mut impl Write,
) -> Result<(), GzipError> {
    // An empty stream still has its last, empty part.
    let parts = request.size.div_ceil(PART).max(1);
    let units = usize::try_from(parts).map_err(|_| GzipError::Worker)?;
    let work = |(): &mut (), unit: usize| part(request, unit as u64, parts);
    out.write_all(&HEADER).map_err(GzipError::Write)?;
    let mut crc = Crc::new();
    let receive = |(bytes, packed): (Vec<u8>, Vec<u8>)| {
        crc.update(&bytes);
        plain(&bytes);
        out.write_all(&packed).map_err(GzipError::Write)
    };
    pipeline::run(units, request.threads, || (), work, receive).map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::Lost => GzipError::Worker,
    })?;
    // The length counts modulo 2^32, as `amount` does.
    let trailer = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
    out.write_all(&trailer)
        .and_then(|()| out.flush())
        .map_err(GzipError::Write)
}

/// The bytes of a part, and the same compressed.
fn part(request: &Request<'_>, number: u64, parts: u64) -> Result<(Vec<u8>, Vec<u8>), GzipError> {
    if request.interrupt.is_raised() {
        return Err(GzipError::Interrupted);
    }
    let offset = number * PART;
    let length = PART.min(request.size - offset);
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| GzipError::Worker)?];
    request
        .source
        .read_exact_at(offset, &mut bytes)
        .map_err(|source| GzipError::Read { offset, source })?;
    let flush = if number + 1 == parts {
        TDEFLFlush::Finish
    } else {
        TDEFLFlush::Sync
    };
    let packed = deflate(&bytes, flush).ok_or(GzipError::Worker)?;
    Ok((bytes, packed))
}

/// One run of Deflate. None when the compressor does not do what it says.
fn deflate(bytes: &[u8], flush: TDEFLFlush) -> Option<Vec<u8>> {
    let flags = create_comp_flags_from_zip_params(LEVEL, 0, 0);
    let mut compressor = CompressorOxide::new(flags);
    // Stored blocks cost 5 bytes for each 32 KiB; with room for all a flush happens only once.
    let mut packed = vec![0; bytes.len() + bytes.len() / 1024 + 1024];
    let (status, read, written) = compress(&mut compressor, bytes, &mut packed, flush);
    let whole = match flush {
        TDEFLFlush::Finish => status == TDEFLStatus::Done,
        _ => status == TDEFLStatus::Okay,
    };
    packed.truncate(written);
    (whole && read == bytes.len()).then_some(packed)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::judge::{judge, run};

    fn packed(bytes: &Vec<u8>, threads: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut heard = Vec::new();
        let request = Request {
            source: bytes,
            size: bytes.len() as u64,
            threads: NonZeroUsize::new(threads).unwrap(),
            interrupt: &Interrupt::new(),
        };
        write(
            &request,
            &mut |part| heard.extend_from_slice(part),
            &mut out,
        )
        .unwrap();
        assert!(heard == *bytes);
        out
    }

    #[test]
    fn others_unpack_what_any_number_of_threads_packed() {
        let folder = tempfile::tempdir().unwrap();
        let numbers = (0..600_000_u32).map(|number| number.to_string());
        let text: Vec<u8> = numbers.flat_map(String::into_bytes).collect();
        for size in [0, 1, 1 << 20, (1 << 20) + 1, text.len()] {
            let bytes = text[..size].to_vec();
            let one = packed(&bytes, 1);
            assert!(packed(&bytes, 4) == one);
            let mut unpacked = Vec::new();
            flate2::bufread::GzDecoder::new(&one[..])
                .read_to_end(&mut unpacked)
                .unwrap();
            assert!(unpacked == bytes, "{size}");
            let path = folder.path().join("a.gz");
            std::fs::write(&path, &one).unwrap();
            let Some(mut gzip) = judge("gzip") else {
                continue;
            };
            let (good, said) = run(gzip.arg("-t").arg(&path));
            assert!(good, "{size}: {said}");
        }
        assert!(packed(&text, 2).len() < text.len() / 2);
    }

    #[test]
    fn what_fails_is_said() {
        let request = |size| Request {
            source: &EMPTY,
            size,
            threads: NonZeroUsize::MIN,
            interrupt: &STEADY,
        };
        static EMPTY: Vec<u8> = Vec::new();
        static STEADY: std::sync::LazyLock<Interrupt> = std::sync::LazyLock::new(Interrupt::new);
        let early = write(&request(9), &mut |_| (), &mut Vec::new()).unwrap_err();
        assert!(
            matches!(early, GzipError::Read { offset: 0, .. }),
            "{early}"
        );
        let full = write(&request(0), &mut |_| (), &mut &mut [0; 11][..]).unwrap_err();
        assert!(matches!(full, GzipError::Write(_)), "{full}");
        STEADY.raise();
        let stopped = write(&request(0), &mut |_| (), &mut Vec::new()).unwrap_err();
        assert!(matches!(stopped, GzipError::Interrupted), "{stopped}");
    }
}
