//! What codecs make of pieces of data, by itself.

use proptest::prelude::*;

use super::super::Compression;
use super::super::codec::Codec;
use super::super::lz4::{self, Encoder};
use super::super::sequences::cut;
use super::fixtures::{noise, prose};

/// Prose, noise and long runs, in pieces of any length.
fn mixed() -> impl Strategy<Value = Vec<u8>> {
    let piece = (0..3_u8, 0..9000_usize, any::<u64>()).prop_map(|(kind, size, seed)| match kind {
        0 => prose(size, seed),
        1 => noise(size / 4, seed),
        _ => vec![b'x'; size * 8],
    });
    proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

fn packed(encoder: &mut Encoder, data: &[u8], room: usize) -> (usize, Vec<u8>) {
    let mut target = vec![0; room];
    let (taken, made) = encoder.fill(data, &mut target).unwrap();
    target.truncate(made);
    (taken, target)
}

/// The library counts all input that it was ever given, and starts anew behind 1 GiB of it.
#[test]
fn an_encoder_is_as_good_after_much_input() {
    let data = prose(4 << 20, 1);
    let mut encoder = Encoder::new(1).unwrap();
    let first = packed(&mut encoder, &data, 300);
    for _ in 0..300 {
        assert_eq!(packed(&mut encoder, &data, 300), first);
    }
}

proptest! {
    #[test]
    fn a_block_that_is_cut_is_as_good_as_one_packed_anew(
        data in mixed(),
        level in 1..=12_u32,
        part in 1..1000_usize,
    ) {
        let mut encoder = Encoder::new(level).unwrap();
        let (all, block) = packed(&mut encoder, &data, data.len() + 1000);
        prop_assert_eq!(all, data.len());
        let room = block.len() * part / 1000;
        let (taken, _) = packed(&mut encoder, &data, room);
        let Some((kept, shorter)) = cut(&block, &data, room) else {
            prop_assert!(room < 1 + 5, "there is room for the literals that a block ends with");
            return Ok(());
        };
        prop_assert!(shorter.len() <= room, "{} bytes", shorter.len());
        prop_assert!(kept >= taken, "{kept} bytes, {taken} when packed anew");
        let mut unpacked = vec![0; kept];
        prop_assert_eq!(lz4::unpack(&shorter, &mut unpacked).unwrap(), kept);
        prop_assert!(unpacked == data[..kept]);
    }

    #[test]
    fn a_broken_block_is_cut_or_refused(
        block in proptest::collection::vec(any::<u8>(), 0..300),
        data in proptest::collection::vec(any::<u8>(), 0..300),
        room in 0..300_usize,
    ) {
        if let Some((taken, made)) = cut(&block, &data, room) {
            prop_assert!(taken <= data.len() && made.len() <= room);
        }
    }

    #[test]
    fn no_result_depends_on_earlier_ones(
        first in mixed(),
        second in mixed(),
        level in 1..=12_u32,
        zstd in any::<bool>(),
    ) {
        let compression = if zstd {
            Compression::Zstd { level: level.try_into().unwrap() }
        } else {
            Compression::Lz4hc { level }
        };
        let make = || Codec::new(compression, 4096).unwrap().unwrap();
        let (mut used, mut fresh) = (make(), make());
        for data in [&first, &second].into_iter().filter(|data| !data.is_empty()) {
            used.fit(data, 4096).unwrap();
        }
        used.reset();
        fresh.reset();
        if !second.is_empty() {
            let (again, expected) = (used.fit(&second, 4096).unwrap(), fresh.fit(&second, 4096).unwrap());
            prop_assert_eq!(again, expected);
            prop_assert_eq!(used.output(again), fresh.output(expected));
        }
    }
}
