//! Decompression of the members.

use std::io::{self, BufRead, Read};

use liblzma::stream::{MtStreamBuilder, Stream};

/// How a member is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl Codec {
    /// By what follows `control.tar` or `data.tar` in the name.
    pub(super) fn from_suffix(suffix: &str) -> Option<Self> {
        match suffix {
            "" => Some(Self::None),
            ".gz" => Some(Self::Gzip),
            ".xz" => Some(Self::Xz),
            ".zst" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A reader of the uncompressed bytes that gives its source back.
pub(super) enum Decoder<R: BufRead> {
    None(R),
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    Xz(liblzma::bufread::XzDecoder<R>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn new(codec: Codec, reader: R, memory: u64, threads: u32) -> io::Result<Self> {
        Ok(match codec {
            Codec::None => Self::None(reader),
            Codec::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader))),
            Codec::Xz => {
                let stream = xz_stream(memory, threads)?;
                Self::Xz(liblzma::bufread::XzDecoder::new_stream(reader, stream))
            }
            Codec::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(reader)?;
                // The window is nearly all that a decoder needs.
                decoder.window_log_max(memory.max(1 << 20).ilog2().min(31))?;
                Self::Zstd(decoder)
            }
        })
    }

    pub(super) fn into_inner(self) -> R {
        match self {
            Self::None(reader) => reader,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Xz(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.into_inner(),
        }
    }
}

/// Blocks are decoded side by side as long as that fits into half the memory allowed; past it
/// liblzma goes on with one thread, and past all of it fails.
fn xz_stream(memory: u64, threads: u32) -> io::Result<Stream> {
    if threads <= 1 {
        return Ok(Stream::new_stream_decoder(memory, 0)?);
    }
    let mut builder = MtStreamBuilder::new();
    builder
        .threads(threads)
        .memlimit_threading(memory / 2)
        .memlimit_stop(memory);
    Ok(builder.decoder()?)
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(reader) => reader.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}
