//! What guest and host say to each other, line by line.
//!
//! Two one-way streets of a machine under test ([`sandbox`] and [`neighbour`] are for other ones):
//!
//! * **Console**: `/init` writes [`Init`] lines to the kernel console. Anyone can read them; they
//!   carry no authority, they only explain failures.
//! * **Probe port**: a virtio-serial port named [`PROBE_PORT`]. The host opens with
//!   [`Order`] lines (first [`Order::Begin`] with this run's nonce, last [`Order::End`]); the
//!   probe answers with [`Report`] lines, each of which carries the nonce. A line without this
//!   run's nonce is no evidence.
//!
//! A line is `baker1 WORD key=value key=value ...\n`. Values are percent-encoded, so a line never
//! holds spaces, control bytes or non-ASCII text inside a value. An unknown word or key is kept
//! or skipped, never an error: old hosts live with new guests.

mod check;
mod init;
mod line;
pub mod neighbour;
mod order;
pub mod pattern;
mod report;
pub mod sandbox;

pub use check::Check;
pub use init::{Init, InitFailure};
pub use line::Line;
pub use order::Order;
pub use report::Report;

/// First word of every line; the number is the version of the protocol.
pub const MAGIC: &str = "baker1";

/// Words that every guest program holds, so that a host can tell from its bytes alone, without
/// running it (it may be another machine's), that it is one and which protocol it speaks.
pub const GUEST_MARK: &str = "baker guest speaks baker1";

/// Name of the virtio-serial port between host and the probe that `/init` offers to its root.
pub const PROBE_PORT: &str = "baker.probe.1";

/// Name of the port when the probe comes on a disk of its own: `/init` of an image that baker made
/// does not take this for its own.
pub const DISK_PROBE_PORT: &str = "baker.disk-probe.1";

/// Serial number of the disk that brings the probe: `/dev/disk/by-id/virtio-baker-probe`. It holds
/// a FAT file system without partitions.
pub const PROBE_DISK_SERIAL: &str = "baker-probe";

/// Name of the guest program on that disk.
pub const PROBE_DISK_FILE: &str = "guest";

/// Word on the kernel command line that carries the root hash, as 64 hex digits.
///
/// Not plain `roothash=`: systemd's own verity generator would then wait for devices.
pub const ROOT_HASH_KEY: &str = "baker.roothash";

/// Word on the kernel command line that says what init does on failure: `reboot` or `poweroff`.
pub const ON_FAILURE_KEY: &str = "baker.on-failure";

/// Word on the kernel command line that says what the kernel does when a block of the root does
/// not match its hash: `panic` (the default), `restart`, or `eio` (the read fails).
pub const ON_CORRUPTION_KEY: &str = "baker.on-corruption";

/// Word on the kernel command line: seconds that init waits for the root's disk; 30 when absent.
pub const ROOT_WAIT_KEY: &str = "baker.root-wait";

/// Where init leaves the guest program for the probe unit when [`PROBE_PORT`] is there.
pub const PROBE_PROGRAM: &str = "/run/baker/guest";

/// Name of the device-mapper device that init makes for the root.
pub const ROOT_DEVICE: &str = "baker-root";

/// List of modules inside the initrd, one absolute path per line, in loading order. Those behind an
/// empty line only lead to disks; patterns of the hardware that one is for follow its path, each after
/// a tab, held against the `modalias` of devices by [`pattern`]. What has its hardware is loaded
/// until the root is found, the rest beside the boot: when its hardware shows up, or else later.
pub const MODULE_LIST: &str = "/lib/modules/load";

/// File inside the initrd that names the root file system: `erofs` or `squashfs`.
pub const ROOT_FORMAT_FILE: &str = "/etc/baker-root-format";

/// File inside the root: file systems in memory that init mounts before systemd starts, one
/// `WHAT WHERE TYPE OPTIONS` per line.
pub const EARLY_MOUNTS: &str = "/usr/lib/baker/mounts";

/// Types of systemd's units that can fail: init has them raise the alarm, and the host knows their
/// names on the console.
pub const FAILING_UNITS: [&str; 7] = [
    "automount",
    "mount",
    "path",
    "service",
    "socket",
    "swap",
    "timer",
];

/// The root image inside the initramfs, when there is no disk to find it on: netboot.
pub const CARRIED_ROOT: &str = "/lib/baker/root.image";

/// Its hash tree, beside it.
pub const CARRIED_TREE: &str = "/lib/baker/root.verity";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_names_the_protocol() {
        assert!(GUEST_MARK.ends_with(MAGIC));
    }
}
