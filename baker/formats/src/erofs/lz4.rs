//! The few calls into liblz4 that EROFS needs and no safe crate offers: filling an output buffer
//! of a fixed size with as much input as fits.
#![expect(
    unsafe_code,
    reason = "the C library is the only encoder with a fixed-size output"
)]

use std::ffi::{c_char, c_int, c_void};
use std::io;

// Links the bundled library; its own declarations lack those below (lz4hc.h, LZ4 1.9 and on).
use lz4_sys::LZ4_decompress_safe;

unsafe extern "C" {
    fn LZ4_sizeofStateHC() -> c_int;
    fn LZ4_resetStreamHC_fast(stream: *mut c_void, level: c_int);
    fn LZ4_compress_HC_continue_destSize(
        stream: *mut c_void,
        source: *const c_char,
        destination: *mut c_char,
        source_size: *mut c_int,
        target_size: c_int,
    ) -> c_int;
}

/// A reusable high-compression encoder.
///
/// `LZ4_compress_HC_destSize` would clear 256 KiB of tables for every cluster, which takes longer
/// than packing a small one. The stream interface puts each input behind the last in a space of
/// positions instead, out of reach of its matches, so that it needs no clean tables and the output
/// depends on the input alone.
pub struct Encoder {
    /// Working memory; 64-bit words for the alignment that the library checks.
    state: Vec<u64>,
    level: c_int,
}

impl Encoder {
    /// An encoder for a level from 1 to 12.
    pub fn new(level: u32) -> io::Result<Self> {
        let level = c_int::try_from(level).map_err(io::Error::other)?;
        // SAFETY: takes nothing and only returns a constant.
        let size = usize::try_from(unsafe { LZ4_sizeofStateHC() }).map_err(io::Error::other)?;
        Ok(Self {
            state: vec![0; size.div_ceil(8)],
            level,
        })
    }

    /// Compresses the longest possible prefix of `source` into `target`; gives the bytes taken
    /// and the bytes made (none when even the shortest prefix does not fit).
    pub fn fill(&mut self, source: &[u8], target: &mut [u8]) -> io::Result<(usize, usize)> {
        // At high levels the library looks for the end of the last match, 12 bytes before the end of
        // the source, which must not lie below address zero: an empty slice may be anywhere.
        if source.is_empty() {
            return Ok((0, 0));
        }
        let mut taken = c_int::try_from(source.len()).map_err(io::Error::other)?;
        let room = c_int::try_from(target.len()).map_err(io::Error::other)?;
        let state = self.state.as_mut_ptr().cast();
        // SAFETY: the state is as large as the library says and aligned to 8; zeros are one that
        // was never used (LZ4_initStreamHC writes nothing else but the level); `source` is read
        // up to `taken` bytes and `target` written up to `room` bytes, which are their lengths;
        // none of them overlap. The reset comes first, so nothing of an earlier source is read.
        let made = unsafe {
            LZ4_resetStreamHC_fast(state, self.level);
            LZ4_compress_HC_continue_destSize(
                state,
                source.as_ptr().cast(),
                target.as_mut_ptr().cast(),
                &raw mut taken,
                room,
            )
        };
        match (usize::try_from(taken), usize::try_from(made)) {
            (Ok(taken), Ok(made)) => Ok((taken, made)),
            _ => Err(io::Error::other("liblz4 could not compress")),
        }
    }
}

/// Decompresses all of `source` into `target`; gives the bytes made.
pub fn unpack(source: &[u8], target: &mut [u8]) -> io::Result<usize> {
    let length = c_int::try_from(source.len()).map_err(io::Error::other)?;
    let room = c_int::try_from(target.len()).map_err(io::Error::other)?;
    // SAFETY: the lengths are those of the slices, which do not overlap; the safe variant of the
    // decoder stays inside of both whatever the input is.
    let made = unsafe {
        LZ4_decompress_safe(
            source.as_ptr().cast(),
            target.as_mut_ptr().cast(),
            length,
            room,
        )
    };
    usize::try_from(made).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "broken LZ4 data"))
}
