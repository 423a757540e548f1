//! Filling clusters with Zstandard, which has no call for that.

use std::io;

use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::codec::Fit;
use super::format::{BLOCK, CLUSTER_LIMIT};
use super::relief::Relief;
use super::search::{Point, SCALE, Search};

/// The level that judges pieces.
const QUICK: i32 = 1;

/// Bytes of a frame that say nothing of how hard its input is.
const FRAME: usize = 10;

/// An encoder with its buffers.
pub struct Encoder {
    compressor: Compressor<'static>,
    /// Judges pieces of the input.
    quick: Compressor<'static>,
    /// What it makes of them, which nobody reads.
    judged: Vec<u8>,
    /// The attempt at hand.
    scratch: Vec<u8>,
    cluster: usize,
    /// What searches in the same segment came to ([`Search::scale`]).
    scale: usize,
}

impl Encoder {
    /// An encoder for a level from 1 to 22 and clusters of at most `cluster` bytes.
    pub fn new(level: i32, cluster: usize) -> io::Result<Self> {
        let mut compressor = Compressor::new(level)?;
        compressor.set_parameter(CParameter::WindowLog(window_log(cluster)))?;
        Ok(Self {
            compressor,
            quick: Compressor::new(QUICK)?,
            judged: vec![0; 2 * piece(cluster)],
            scratch: vec![0; room(cluster)],
            cluster,
            scale: SCALE,
        })
    }

    /// Forgets what earlier input was like, so that the next result depends on its input alone.
    pub const fn reset(&mut self) {
        self.scale = SCALE;
    }

    /// Compresses all of `input`; none when that is longer than `output`.
    pub fn all(&mut self, input: &[u8], output: &mut [u8]) -> Option<usize> {
        self.compressor.compress_to_buffer(input, output).ok()
    }

    /// Compresses a prefix of `input` into `output`, which has [`room`], so long that it makes
    /// `room` bytes or few fewer; all of `input` when that fits. With `over` bytes that all of
    /// `input` is known to make, which is more than `room`.
    ///
    /// Gives nothing when a prefix of that size does not shrink.
    pub fn fill(
        &mut self,
        input: &[u8],
        room: usize,
        over: Option<usize>,
        output: &mut Vec<u8>,
    ) -> Fit {
        let Self { quick, judged, .. } = self;
        let mut relief = Relief::new(input.len(), piece(self.cluster), |from, to| {
            let made = quick.compress_to_buffer(&input[from..to], &mut judged[..]);
            made.unwrap_or(to - from).saturating_sub(FRAME)
        });
        let mut search = Search::new(room, slack(self.cluster, room), self.scale);
        let mut next = match over {
            Some(made) => {
                let length = input.len();
                search.next(Point { length, made }, &mut relief)
            }
            // Most files are that short and fit: no use to judge them.
            None if input.len() <= room * 5 / 2 => Some(input.len()),
            None => Some(search.first(&mut relief)),
        };
        let mut best = Fit::default();
        while let Some(length) = next {
            let made = self
                .compressor
                .compress_to_buffer(&input[..length], &mut self.scratch[..])
                .unwrap_or(self.scratch.len());
            let fit = Fit {
                taken: length,
                made,
            };
            if made <= room && density(fit) > density(best) {
                best = fit;
                std::mem::swap(output, &mut self.scratch);
            }
            if made <= room && length == input.len() {
                break;
            }
            next = search.next(Point { length, made }, &mut relief);
        }
        if best.taken > 0 && best.taken < input.len() && over.is_none() {
            let best = Point {
                length: best.taken,
                made: best.made,
            };
            self.scale = search.scale(best, &mut relief);
        }
        best
    }
}

/// The window is eight clusters long, and at most 1 MiB, which is all that the kernel takes.
pub fn window_log(cluster: usize) -> u32 {
    (cluster * 8).min(CLUSTER_LIMIT).ilog2()
}

/// Bytes for an attempt: one that makes much too much shows by how much, too.
pub const fn room(cluster: usize) -> usize {
    2 * cluster + 4 * BLOCK
}

/// Bytes that are judged at once.
fn piece(cluster: usize) -> usize {
    (cluster / 16).max(BLOCK)
}

/// How many bytes of `room` may stay empty, for fewer attempts. Next to none when clusters are one
/// block: then they are many, and what they waste is all that can be saved.
const fn slack(cluster: usize, room: usize) -> usize {
    if cluster == BLOCK { 2 } else { 8 + room / 512 }
}

/// Bytes of input per block of output, times 256.
fn density(fit: Fit) -> usize {
    fit.taken * 256 / fit.made.div_ceil(BLOCK).max(1)
}
