//! Neighbours: other machines that a test has beside the one under test.
//!
//! Each is alone with the machine under test on a link of its own, and takes orders on its serial
//! console (`baker_contract::neighbour`). What they see are answers to checks from outside; the
//! judge knows no difference.

mod check;
mod desk;
mod machine;

use std::path::PathBuf;

pub(crate) use check::{NeighbourCheck, checks};
pub(crate) use desk::{Neighbours, Start, log_name};

/// What neighbours boot: they are all alike, and told who they are when they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourFiles {
    /// A kernel image; that of the image under test will do.
    pub kernel: PathBuf,
    /// An initramfs with baker's neighbour as `/init`, and [`NEIGHBOUR_MODULES`].
    pub initrd: PathBuf,
}

/// Modules that a neighbour's initramfs must bring: those of its card.
pub const NEIGHBOUR_MODULES: [&str; 2] = ["virtio_pci", "virtio_net"];

/// Memory of a neighbour in MiB: kernel, initramfs and one small program.
pub(crate) const MEMORY_MIB: u32 = 128;

/// The first QEMU that can put a link between two machines on sockets without an order of
/// starting (`-netdev dgram`).
pub(crate) const OLDEST_QEMU: (u32, u32) = (7, 2);
