//! Compressing as much input as fits into whole blocks.
//!
//! EROFS clusters have a fixed size on the compressed side, so the question is always how long a
//! prefix of the input fits. LZ4 answers it in one call. Zstandard has no such call: the length is
//! estimated from the ratio seen so far and corrected a few times at most. Any whole number of
//! blocks up to the limit will do, so the estimate only has to land closely below *a* block
//! boundary, and two attempts do that most of the time (bisection, as in erofs-utils 1.8, takes
//! about ten).

use std::io;

use zstd::bulk::Compressor;
use zstd::zstd_safe;

use super::Compression;
use super::format::{ALGORITHM_LZ4, ALGORITHM_ZSTD, BLOCK, CLUSTER_LIMIT};
use super::{lz4, sequences};

/// Attempts per cluster for codecs that must guess.
const ATTEMPTS: usize = 4;

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
    /// The attempt at hand.
    scratch: Vec<u8>,
    /// Bytes of input per byte of output expected next, in 1/256.
    ratio: usize,
}

enum Engine {
    Lz4(lz4::Encoder),
    Zstd(Compressor<'static>),
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
            let window = u8::try_from(window_log(cluster) - 10).expect("at most 20 less 10");
            Some((ALGORITHM_ZSTD, vec![6, 0, 0, window, 0, 0, 0, 0]))
        }
    }
}

/// The window is eight clusters long, and at most 1 MiB, which is all that the kernel takes.
fn window_log(cluster: usize) -> u32 {
    (cluster * 8).min(CLUSTER_LIMIT).ilog2()
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
            Compression::Zstd { level } => {
                let mut compressor = Compressor::new(level)?;
                let window = zstd_safe::CParameter::WindowLog(window_log(cluster));
                compressor.set_parameter(window)?;
                Engine::Zstd(compressor)
            }
        };
        let room = zstd_safe::compress_bound(cluster).max(cluster + 8 * BLOCK);
        Ok(Some(Self {
            engine,
            output: vec![0; room],
            scratch: vec![0; room],
            ratio: 0,
        }))
    }

    /// Forgets what earlier input was like, so that the next result depends on its input alone.
    pub fn reset(&mut self) {
        self.ratio = 3 * 256;
    }

    /// The compressed bytes of the last successful call.
    #[must_use]
    pub fn output(&self, fit: Fit) -> &[u8] {
        &self.output[..fit.made]
    }

    /// Compresses a long prefix of `input` (not empty) into at most `room` bytes, a multiple of
    /// the block size; either all of `input` or so much that the last block is nearly full.
    ///
    /// Input that does not shrink gives a prefix of which nothing is gained.
    ///
    /// # Errors
    /// The C library fails.
    pub fn fit(&mut self, input: &[u8], room: usize) -> io::Result<Fit> {
        let fit = match &mut self.engine {
            Engine::Lz4(encoder) => {
                let (taken, made) = encoder.fill(input, &mut self.output[..room])?;
                Fit { taken, made }
            }
            Engine::Zstd(_) => self.search(input, room)?,
        };
        // Growth is bounded so that one blank page does not make the next guess absurd.
        let seen = fit.taken * 256 / fit.made.max(1);
        self.ratio = seen.clamp(256, self.ratio.max(512) * 2);
        Ok(fit)
    }

    /// Does what [`Self::fit`] does with less room, given the bytes that it made of all of `input`,
    /// of which there are more.
    ///
    /// # Errors
    /// The C library fails.
    pub fn shorten(&mut self, input: &[u8], packed: &[u8], room: usize) -> io::Result<Fit> {
        if let Engine::Zstd(_) = self.engine {
            return self.fit(input, room);
        }
        let (taken, shorter) = sequences::cut(packed, input, room).unwrap_or_default();
        let made = shorter.len();
        self.output[..made].copy_from_slice(&shorter);
        Ok(Fit { taken, made })
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
            Engine::Zstd(compressor) => attempt(compressor, input, &mut self.output),
        };
        Ok(made.filter(|made| *made < limit).map(|made| Fit {
            taken: input.len(),
            made,
        }))
    }

    fn search(&mut self, input: &[u8], room: usize) -> io::Result<Fit> {
        let Engine::Zstd(compressor) = &mut self.engine else {
            return Err(io::Error::other("only zstd has to search"));
        };
        let slack = 64 + room / 512;
        let capacity = self.scratch.len().min(room + 4 * BLOCK);
        let mut best: Option<Fit> = None;
        let mut length = (room * self.ratio / 256).min(input.len());
        for round in 0..ATTEMPTS {
            let made = attempt(compressor, &input[..length], &mut self.scratch[..capacity]);
            let target = match made {
                Some(made) if made <= room => {
                    let fit = Fit {
                        taken: length,
                        made,
                    };
                    if best.is_none_or(|best| density(fit) > density(best)) {
                        best = Some(fit);
                        std::mem::swap(&mut self.output, &mut self.scratch);
                    }
                    let pad = made.next_multiple_of(BLOCK) - made;
                    if length == input.len() || pad <= slack {
                        break;
                    }
                    nearest_boundary(made, room)
                }
                Some(_) => room,
                None => {
                    length = (length * 5 / 8).max(1);
                    continue;
                }
            };
            let made = made.unwrap_or(room);
            // Aim a little below the boundary, lower with every miss.
            let aim = target - 24 - (target.abs_diff(made) / 32 + 16) * (round + 1);
            let next = corrected(length, made, aim).clamp(1, input.len());
            if next == length {
                break;
            }
            length = next;
        }
        match best {
            Some(best) => Ok(best),
            None => self.surely(&input[..input.len().min(room - BLOCK / 2)]),
        }
    }

    /// The way out when no guess fitted: so little input that it fits even when it grows.
    fn surely(&mut self, input: &[u8]) -> io::Result<Fit> {
        let Engine::Zstd(compressor) = &mut self.engine else {
            return Err(io::Error::other("only zstd has to search"));
        };
        let made = compressor.compress_to_buffer(input, &mut self.output[..])?;
        Ok(Fit {
            taken: input.len(),
            made,
        })
    }
}

/// None when the output does not fit into the buffer.
fn attempt(compressor: &mut Compressor<'_>, input: &[u8], output: &mut [u8]) -> Option<usize> {
    compressor.compress_to_buffer(input, output).ok()
}

/// Bytes of input per block of output, times 256.
fn density(fit: Fit) -> usize {
    fit.taken * 256 / fit.made.div_ceil(BLOCK).max(1)
}

fn nearest_boundary(made: usize, room: usize) -> usize {
    let below = made / BLOCK * BLOCK;
    if below >= BLOCK && (made - below < BLOCK / 2 || below + BLOCK > room) {
        below
    } else {
        below + BLOCK
    }
}

/// The length expected to give `aim` bytes, when `length` gave `made`.
fn corrected(length: usize, made: usize, aim: usize) -> usize {
    let change = made.abs_diff(aim) * length / made.max(1);
    if aim > made {
        length + change
    } else {
        length.saturating_sub(change)
    }
}
