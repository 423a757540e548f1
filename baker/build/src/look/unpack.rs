//! Tar archives, plain and compressed.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::sync::Arc;

use baker_formats::io::Part;
use baker_formats::volume::{Content, Format, probe};

/// A decompressor of the bytes behind a magic.
type Open = fn(Box<dyn BufRead>) -> io::Result<Box<dyn Read>>;

/// Magic, the name of what it makes of an archive, and who unpacks it.
const PACKINGS: [(&[u8], &str, Open); 3] = [
    (b"\x1f\x8b", "tar.gz", |packed| {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(packed)))
    }),
    (b"\xfd7zXZ\0", "tar.xz", |packed| {
        Ok(Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(
            packed,
        )))
    }),
    (b"\x28\xb5\x2f\xfd", "tar.zst", |packed| {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(packed)?))
    }),
];

/// The archive in `file`, unpacked into a nameless temporary file when it is compressed, and what
/// the file is; none when it is no archive.
pub(super) fn archive(file: &Part) -> io::Result<Option<(Part, &'static str)>> {
    let head = file.up_to(0, 8)?;
    if probe(file)? == Content::Volume(Format::Tar) {
        return Ok(Some((file.clone(), "tar")));
    }
    let Some((_, name, open)) = PACKINGS.iter().find(|(magic, ..)| head.starts_with(magic)) else {
        return Ok(None);
    };
    let mut plain = open(Box::new(file.clone().buffered()))?;
    let mut out: File = tempfile::tempfile()?;
    let size = io::copy(&mut plain, &mut out)?;
    out.seek(SeekFrom::Start(0))?;
    let plain = Part::new(Arc::new(out), size);
    let is_archive = probe(&plain)? == Content::Volume(Format::Tar);
    Ok(is_archive.then_some((plain, *name)))
}
