//! qcow2, versions 2 and 3, after QEMU's `docs/interop/qcow2.txt`. All numbers are big-endian.

use std::io::{self, Read};

use super::clusters::{Clusters, Recent};
use super::damaged;
use crate::io::{Part, Source};
use crate::medium::{MediumError, field};

/// Incompatible features that change nothing for a reader: dirty and corrupt reference counts,
/// a compression type of its own.
const KNOWN: u64 = 0b1011;

/// Largest table of tables; it serves disks of 2 TiB with the smallest clusters.
const L1_LIMIT: u64 = 32 << 20;

/// Where a cluster lies, in an entry of an L2 table.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Tables and unpacked clusters that are kept.
const KEPT: usize = 16;

enum Codec {
    Deflate,
    Zstandard,
}

/// An opened image.
pub(super) struct Qcow2 {
    file: Part,
    size: u64,
    cluster_bits: u32,
    codec: Codec,
    l1: Vec<u64>,
    tables: Recent<Vec<u64>>,
    unpacked: Recent<Vec<u8>>,
}

/// Reads the header, which has been checked for references to other files.
pub(super) fn open(file: Part) -> Result<Qcow2, MediumError> {
    let header = file.up_to(0, 112)?;
    let number = |at| field(&header, at).map_or(0, u32::from_be_bytes);
    let long = |at| field(&header, at).map_or(0, u64::from_be_bytes);
    let (cluster_bits, size) = (number(20), long(24));
    let (entries, place) = (u64::from(number(36)), long(40));
    let features = if number(4) >= 3 { long(72) } else { 0 };
    if features & !KNOWN != 0 {
        return Err(MediumError::Unsupported {
            what: "a qcow2 image with features that are not known",
            mend: super::super::CONVERT,
        });
    }
    if !(9..=21).contains(&cluster_bits) {
        return Err(damaged("its clusters have an impossible size").into());
    }
    // One entry of the first table serves a cluster full of entries for a cluster each.
    let served = 1_u64 << (2 * cluster_bits - 3);
    if entries * 8 > L1_LIMIT || size.div_ceil(served) > entries {
        return Err(damaged("its first table has an impossible size").into());
    }
    let codec = match field(&header, 104) {
        Some([1]) if features & 0b1000 != 0 => Codec::Zstandard,
        _ => Codec::Deflate,
    };
    let l1 = words(&file, place, entries)?;
    Ok(Qcow2 {
        file,
        size,
        cluster_bits,
        codec,
        l1,
        tables: Recent::new(KEPT),
        unpacked: Recent::new(KEPT),
    })
}

fn words(file: &Part, place: u64, count: u64) -> io::Result<Vec<u64>> {
    let length = usize::try_from(count * 8).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(place, &mut bytes)?;
    let words = bytes.as_chunks::<8>().0;
    Ok(words.iter().map(|word| u64::from_be_bytes(*word)).collect())
}

impl Clusters for Qcow2 {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn fill(&self, cluster: u64, within: u64, buffer: &mut [u8]) -> io::Result<()> {
        let per_table = self.cluster_size() / 8;
        let index = usize::try_from(cluster / per_table).map_err(io::Error::other)?;
        let table = self.l1.get(index).copied().unwrap_or(0) & OFFSET;
        if table == 0 {
            buffer.fill(0);
            return Ok(());
        }
        let load = || words(&self.file, table, per_table);
        let entries = self.tables.get(table, load)?;
        let index = usize::try_from(cluster % per_table).map_err(io::Error::other)?;
        let entry = entries.get(index).copied().unwrap_or(0);
        if entry & 1 << 62 != 0 {
            let bytes = self.unpacked.get(entry, || self.unpack(entry))?;
            let from = usize::try_from(within).map_err(io::Error::other)?;
            let piece = bytes.get(from..from + buffer.len());
            buffer.copy_from_slice(piece.ok_or_else(|| damaged("a cluster is too short"))?);
            return Ok(());
        }
        // Bit 0 says that the cluster reads as zeros, whatever lies there.
        if entry & OFFSET == 0 || entry & 1 != 0 {
            buffer.fill(0);
            return Ok(());
        }
        self.file.read_exact_at((entry & OFFSET) + within, buffer)
    }
}

impl Qcow2 {
    fn unpack(&self, entry: u64) -> io::Result<Vec<u8>> {
        let bits = 62 - (self.cluster_bits - 8);
        let place = entry & ((1 << bits) - 1);
        let sectors = (entry & ((1 << 62) - 1)) >> bits;
        let length = (sectors + 1) * 512 - (place & 511);
        let packed = self
            .file
            .up_to(place, usize::try_from(length).map_err(io::Error::other)?)?;
        let size = usize::try_from(self.cluster_size()).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        match self.codec {
            Codec::Deflate => {
                flate2::read::DeflateDecoder::new(packed.as_slice()).read_exact(&mut bytes)?;
            }
            Codec::Zstandard => {
                zstd::stream::read::Decoder::with_buffer(packed.as_slice())?
                    .single_frame()
                    .read_exact(&mut bytes)?;
            }
        }
        Ok(bytes)
    }
}
