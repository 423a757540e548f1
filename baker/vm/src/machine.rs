//! A machine as plain data. [`Machine::argv`] gives the QEMU command line it stands for.

use std::path::PathBuf;

pub use baker_model::plan::DiskBus;

use crate::accelerator::Accelerator;
use crate::architecture::Architecture;
use crate::ovmf::Ovmf;
use crate::subject::Medium;

/// A machine: what it boots, how large it is, what it is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The CPU family.
    pub architecture: Architecture,
    /// What starts the guest.
    pub boot: Boot,
    /// Who runs its instructions.
    pub accelerator: Accelerator,
    /// The board, [`crate::Qemu::board`].
    pub board: String,
    /// CPU model, [`crate::Qemu::cpu_model`].
    pub cpu: String,
    /// Threads of the emulator, [`crate::Qemu::threads`].
    pub threads: Threads,
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The disk; none for a kernel and initrd by themselves.
    pub disk: Option<Disk>,
    /// How the disk is attached; a CD goes to SCSI or else to SATA.
    pub bus: DiskBus,
    /// How a probe is offered.
    pub probe: ProbeOffer,
    /// Number of network cards; forwarded ports lead to the first.
    pub networks: u32,
    /// What the guest reaches.
    pub network: Network,
    /// Further cards, each the end of a link to one other machine.
    pub links: Vec<Link>,
    /// TCP ports of the guest that are reachable on loopback ports of the host.
    pub forwards: Vec<Forward>,
    /// What a reset of the guest does.
    pub on_reset: OnReset,
    /// Whether there is a display that pictures can be taken of.
    pub display: Display,
    /// Whether there is a watchdog (i6300esb) that resets a guest which stops feeding it.
    pub watchdog: Watchdog,
    /// Whether there is a TPM.
    pub tpm: Tpm,
    /// System credentials, name and bytes. **Whoever sees QEMU's command line sees them.**
    pub credentials: Vec<(String, Vec<u8>)>,
    /// What a person hands to the guest.
    pub extras: Extras,
}

/// What a person hands to the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Files with one SMBIOS string each, [`crate::credential_string`]: a command line could be
    /// seen by everybody on the host.
    pub smbios: Vec<PathBuf>,
    /// Words that systemd-stub appends to the kernel command line; a direct boot has its own.
    pub append: Vec<String>,
    /// Sockets on which shared folders are served, [`crate::Sharing::socket`].
    pub shares: Vec<PathBuf>,
    /// File that gets QEMU's words on every read of a virtio disk, [`crate::reads`].
    pub reads: Option<PathBuf>,
}

/// Who emulates the guest's CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// One thread, in turn.
    One,
    /// A thread for each.
    Each,
}

/// What starts the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// QEMU loads kernel and initrd itself.
    Direct(DirectBoot),
    /// UEFI firmware boots the disk.
    Uefi(Ovmf),
    /// UEFI firmware that enforces Secure Boot boots the disk: the code must be a build that can,
    /// the variable store must hold the keys.
    UefiSecure(Ovmf),
    /// QEMU's own BIOS boots the disk.
    Bios,
}

impl Boot {
    /// True when UEFI firmware starts the guest.
    #[must_use]
    pub const fn is_uefi(&self) -> bool {
        matches!(self, Self::Uefi(_) | Self::UefiSecure(_))
    }
}

/// Kernel, initrd and command line of a direct boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectBoot {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The kernel command line.
    pub append: String,
}

/// A disk and what becomes of writes to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The image.
    pub medium: Medium,
    /// What becomes of writes.
    pub writes: Writes,
}

/// What becomes of what the guest writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writes {
    /// A throwaway overlay takes it; the image is never written.
    #[default]
    Discarded,
    /// It goes into the image: only ever a private copy.
    Kept,
}

/// How a probe is offered to the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProbeOffer {
    /// Not at all.
    #[default]
    None,
    /// A port that the image's own initrd knows.
    Port,
    /// This FAT image as a second, read-only disk, with credentials that make systemd start what
    /// is on it, and a port of another name.
    Disk(PathBuf),
}

/// What the guest reaches by user networking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Nothing; only forwarded ports reach it.
    Isolated,
    /// Whatever the host reaches.
    Open,
}

/// A guest port made reachable from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Port on 127.0.0.1; 0 lets the kernel choose, [`crate::run`] callers name one.
    pub host: u16,
    /// Port of the guest.
    pub guest: u16,
}

/// A card at the end of a link to one other machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// MAC address of the card.
    pub mac: String,
}

/// The ends of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The machine under test.
    Machine,
    /// The other one.
    Neighbour,
}

/// What a reset of the guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReset {
    /// QEMU ends and says so.
    Exit,
    /// The machine starts again.
    Restart,
}

/// Whether there is a display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Display {
    /// None at all.
    None,
    /// One that no window shows.
    Hidden,
}

/// Whether there is a watchdog.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Watchdog {
    /// None.
    #[default]
    None,
    /// It resets the guest.
    Resets,
}

/// Whether there is a TPM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tpm {
    /// None.
    #[default]
    None,
    /// One of version 2.0, emulated by swtpm. Only for observed machines: somebody has to start it.
    Emulated,
}

/// Who is at the other end of the machine's console and control lines.
#[derive(Debug, Clone, Copy)]
pub enum Attachment<'a> {
    /// baker: QEMU connects to these sockets and waits, stopped, for `cont`.
    Observed(&'a Sockets),
    /// A person: console and monitor share the terminal, Ctrl-A X quits.
    Terminal,
}

/// Unix sockets that baker listens on, and the console log that QEMU keeps.
///
/// QEMU is the client, so that nobody polls for a socket that is about to appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sockets {
    /// QMP.
    pub qmp: PathBuf,
    /// First serial port.
    pub serial: PathBuf,
    /// virtio-serial port of the probe; used when the machine offers one.
    pub probe: PathBuf,
    /// Socket of the emulated TPM, on which that listens; used when the machine has one.
    pub tpm: PathBuf,
    /// Folder of the sockets on which links lie; used when the machine has any.
    pub links: PathBuf,
    /// Copy of all console bytes, written by QEMU itself: complete whatever happens to baker.
    pub serial_log: PathBuf,
}
