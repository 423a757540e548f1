//! The guest program that travels inside baker.

use baker_model::Digest;
use baker_model::lock::GuestLock;

/// The static program: `/init` of every initrd, and the smoke probe.
pub const PROGRAM: &[u8] = include_bytes!(env!("BAKER_GUEST_PROGRAM"));

/// What a lock says of [`PROGRAM`].
pub fn lock() -> GuestLock {
    GuestLock {
        size: PROGRAM.len() as u64,
        sha256: Digest::of(PROGRAM),
    }
}
