//! Compressing as much input as fits into whole blocks.
//!
//! EROFS clusters have a fixed size on the compressed side, so the question is always how long a
//! prefix of the input fits. LZ4 answers it in one call; for Zstandard it is searched.

use std::io;

use super::Compression;
use super::format::{ALGORITHM_LZ4, ALGORITHM_ZSTD, BLOCK};
use super::{lz4, sequences, zstandard};

/// What [`Codec::fit`] found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Bytes of input that the cluster holds.
    pub taken: usize,
    /// Bytes of [`Codec::output`] that it is.
    pub made: usize,
}

/// A codec with its buffers, one per worker.
pub struct Codec {
    engine: Engine,
    /// The last accepted output.
    output: Vec<u8>,
}

enum Engine {
    Lz4(lz4::Encoder),
    Zstd(zstandard::Encoder),
}

/// The algorithm number and the configuration record that follows the superblock.
pub fn configuration(compression: Compression, cluster: usize) -> Option<(u8, Vec<u8>)> {
    let blocks = u16::try_from(cluster / BLOCK).expect("a cluster is at most 1 MiB");
    match compression {
        Compression::None => None,
        Compression::Lz4hc { .. } => {
            // Size, greatest match distance, blocks of the largest cluster, reserved.
            let mut record = vec![14, 0, 0xff, 0xff];
            record.extend_from_slice(&blocks.to_le_bytes());
            record.resize(16, 0);
            Some((ALGORITHM_LZ4, record))
        }
        Compression::Zstd { .. } => {
            // Size, format, window exponent less 10, reserved.
            let window =
                u8::try_from(zstandard::window_log(cluster) - 10).expect("at most 20 less 10");
            Some((ALGORITHM_ZSTD, vec![6, 0, 0, window, 0, 0, 0, 0]))
        }
    }
}

impl Codec {
    /// The codec for these settings; none for [`Compression::None`].
    ///
    /// # Errors
    /// The C library refuses them or has no memory.
    pub fn new(compression: Compression, cluster: usize) -> io::Result<Option<Self>> {
        let engine = match compression {
            Compression::None => return Ok(None),
            Compression::Lz4hc { level } => Engine::Lz4(lz4::Encoder::new(level)?),
            Compression::Zstd { level } => Engine::Zstd(zstandard::Encoder::new(level, cluster)?),
        };
        Ok(Some(Self {
            engine,
            output: vec![0; zstandard::room(cluster)],
        }))
    }

    /// Forgets what earlier input was like, so that the next result depends on its input alone.
    pub const fn reset(&mut self) {
        if let Engine::Zstd(encoder) = &mut self.engine {
            encoder.reset();
        }
    }

    /// The compressed bytes of the last successful call.
    #[must_use]
    pub fn output(&self, fit: Fit) -> &[u8] {
        &self.output[..fit.made]
    }

    /// Compresses a long prefix of `input` (not empty) into at most `room` bytes, a multiple of
    /// the block size; either all of `input` or so much that `room` is nearly full.
    ///
    /// Input that does not shrink gives a prefix of which nothing is gained, or none.
    ///
    /// # Errors
    /// The C library fails.
    pub fn fit(&mut self, input: &[u8], room: usize) -> io::Result<Fit> {
        Ok(match &mut self.engine {
            Engine::Lz4(encoder) => {
                let (taken, made) = encoder.fill(input, &mut self.output[..room])?;
                Fit { taken, made }
            }
            Engine::Zstd(encoder) => encoder.fill(input, room, None, &mut self.output),
        })
    }

    /// Does what [`Self::fit`] does with less room, given the bytes that it made of all of `input`,
    /// of which there are more.
    pub fn shorten(&mut self, input: &[u8], packed: &[u8], room: usize) -> Fit {
        match &mut self.engine {
            Engine::Lz4(_) => {
                let (taken, shorter) = sequences::cut(packed, input, room).unwrap_or_default();
                let made = shorter.len();
                self.output[..made].copy_from_slice(&shorter);
                Fit { taken, made }
            }
            Engine::Zstd(encoder) => {
                encoder.fill(input, room, Some(packed.len()), &mut self.output)
            }
        }
    }

    /// Compresses all of `input`, but only into fewer than `limit` bytes.
    ///
    /// # Errors
    /// The C library fails.
    pub fn whole(&mut self, input: &[u8], limit: usize) -> io::Result<Option<Fit>> {
        let made = match &mut self.engine {
            Engine::Lz4(encoder) => {
                let (taken, made) = encoder.fill(input, &mut self.output[..limit])?;
                (taken == input.len() && made > 0).then_some(made)
            }
            Engine::Zstd(encoder) => encoder.all(input, &mut self.output),
        };
        Ok(made.filter(|made| *made < limit).map(|made| Fit {
            taken: input.len(),
            made,
        }))
    }
}
