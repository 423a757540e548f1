//! The blocks of a disk that are not zeros, packed by several threads, in order.

use std::ops::Range;

use super::{Conversion, ImageError};
use crate::io::is_zero;
use crate::pipeline::{self, Stop};

/// Bytes that a thread takes up at a time.
const UNIT: u64 = 1 << 20;

/// Packs every block of `block` bytes that is not zeros and gives it to `receive` with its number.
///
/// The last block is filled up with zeros. `block` divides [`UNIT`].
pub(super) fn pack<P: Send>(
    conversion: &Conversion<'_>,
    block: usize,
    work: impl Fn(&[u8], u64) -> Result<P, ImageError> + Sync,
    mut receive: impl FnMut(u64, P) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let units = conversion.size.div_ceil(UNIT);
    let units = usize::try_from(units).map_err(|_| ImageError::TooLarge {
        format: "this machine's memory",
        size: conversion.size,
        limit: usize::MAX as u64,
    })?;
    let per_unit = UNIT / block as u64;
    let work = |buffer: &mut Vec<u8>, unit: usize| {
        let start = unit as u64 * UNIT;
        read(conversion, start..start.saturating_add(UNIT), buffer)?;
        buffer.resize(buffer.len().next_multiple_of(block), 0);
        let numbered = (unit as u64 * per_unit..).zip(buffer.chunks(block));
        numbered
            .filter(|(_, bytes)| !is_zero(bytes))
            .map(|(number, bytes)| Ok((number, work(bytes, number * block as u64)?)))
            .collect::<Result<Vec<_>, ImageError>>()
    };
    let receive = |packed: Vec<(u64, P)>| {
        packed
            .into_iter()
            .try_for_each(|(number, block)| receive(number, block))
    };
    pipeline::run(units, conversion.threads, Vec::new, work, receive).map_err(|stop| match stop {
        Stop::Failed(error) => error,
        Stop::Lost => ImageError::Worker,
    })
}

/// Fills `buffer` with these bytes of the disk, or with what there is of them.
pub(super) fn read(
    conversion: &Conversion<'_>,
    range: Range<u64>,
    buffer: &mut Vec<u8>,
) -> Result<(), ImageError> {
    if conversion.interrupt.is_raised() {
        return Err(ImageError::Interrupted);
    }
    let offset = range.start;
    let failed = |source| ImageError::Read { offset, source };
    let length = range.end.min(conversion.size).saturating_sub(offset);
    let length = usize::try_from(length).map_err(|error| failed(std::io::Error::other(error)))?;
    buffer.resize(length, 0);
    conversion
        .disk
        .read_exact_at(offset, buffer)
        .map_err(failed)
}
