//! The few calls into liblz4 that EROFS needs and no safe crate offers: filling an output buffer
//! of a fixed size with as much input as fits.
#![expect(
    unsafe_code,
    reason = "the C library is the only encoder with a fixed-size output"
)]

use std::ffi::{c_char, c_int, c_void};
use std::io;

// Links the bundled library; its own declarations lack the two below (lz4hc.h, LZ4 1.9 and on).
use lz4_sys::LZ4_decompress_safe;

unsafe extern "C" {
    fn LZ4_sizeofStateHC() -> c_int;
    fn LZ4_compress_HC_destSize(
        state: *mut c_void,
        source: *const c_char,
        destination: *mut c_char,
        source_size: *mut c_int,
        target_size: c_int,
        level: c_int,
    ) -> c_int;
}

/// A reusable high-compression encoder.
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
        let mut taken = c_int::try_from(source.len()).map_err(io::Error::other)?;
        let room = c_int::try_from(target.len()).map_err(io::Error::other)?;
        // SAFETY: the state is as large as the library says and aligned to 8; `source` is read
        // up to `taken` bytes and `target` written up to `room` bytes, which are their lengths;
        // none of them overlap.
        let made = unsafe {
            LZ4_compress_HC_destSize(
                self.state.as_mut_ptr().cast(),
                source.as_ptr().cast(),
                target.as_mut_ptr().cast(),
                &raw mut taken,
                room,
                self.level,
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
