//! Reading a module's bytes out of its compressed file.

use std::io::{self, Read};

/// No module comes near this; a stream that does is broken or hostile.
const LIMIT: u64 = 256 << 20;

/// How a module file is compressed, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// `.ko`
    Plain,
    /// `.ko.xz`
    Xz,
    /// `.ko.zst`
    Zstd,
    /// `.ko.gz`
    Gzip,
}

impl Packing {
    /// The module's stem and packing; none when the file is no module.
    pub(super) fn of(file_name: &str) -> Option<(&str, Self)> {
        [
            (".ko", Self::Plain),
            (".ko.xz", Self::Xz),
            (".ko.zst", Self::Zstd),
            (".ko.gz", Self::Gzip),
        ]
        .into_iter()
        .find_map(|(ending, packing)| Some((file_name.strip_suffix(ending)?, packing)))
    }

    /// The module itself.
    pub(super) fn unpack(self, stored: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(stored),
            Self::Xz => read(liblzma::read::XzDecoder::new(&stored[..])),
            Self::Zstd => read(zstd::stream::read::Decoder::with_buffer(&stored[..])?),
            Self::Gzip => read(flate2::read::GzDecoder::new(&stored[..])),
        }
    }
}

fn read(stream: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::other("more than 256 MiB"));
    }
    Ok(bytes)
}
