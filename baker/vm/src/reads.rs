//! What a guest reads of its disk, told by QEMU.
//!
//! Takes the words of QEMU's trace of requests to a virtio disk; gives byte ranges.

use std::ops::Range;

/// The event of QEMU that names each read of a virtio disk.
pub(crate) const EVENT: &str = "virtio_blk_handle_read";

/// Bytes of the sectors that the event counts in, whatever the disk's own are.
const SECTOR: u64 = 512;

/// The reads in a trace, in their order; lines of another kind are passed over.
#[must_use]
pub fn reads(trace: &str) -> Vec<Range<u64>> {
    trace.lines().filter_map(read).collect()
}

/// `virtio_blk_handle_read vdev 0x55 req 0x7f sector 83968 nsectors 8`, with the time before it in
/// some versions.
fn read(line: &str) -> Option<Range<u64>> {
    let (_, words) = line.split_once(EVENT)?;
    let mut words = words.split_ascii_whitespace();
    words.find(|word| *word == "sector")?;
    let start: u64 = words.next()?.parse().ok()?;
    words.find(|word| *word == "nsectors")?;
    let count: u64 = words.next()?.parse().ok()?;
    let end = start.checked_add(count)?.checked_mul(SECTOR)?;
    Some(start * SECTOR..end)
}

#[cfg(test)]
mod tests {
    use super::reads;

    #[test]
    fn a_trace_is_told_as_ranges() {
        let trace = "virtio_blk_handle_read vdev 0x55b req 0x55c sector 0 nsectors 1\n\
            4711@1700000000.25:virtio_blk_handle_read vdev 0x1 req 0x2 sector 83968 nsectors 8\n\
            virtio_blk_handle_write vdev 0x1 req 0x2 sector 8 nsectors 8\n\
            virtio_blk_handle_read vdev 0x1 req 0x2 sector 18446744073709551615 nsectors 8\n\
            virtio_blk_handle_read vdev 0x1 req 0x2 sector 16 nsec";
        assert_eq!(reads(trace), [0..512, 42_991_616..42_995_712]);
    }
}
