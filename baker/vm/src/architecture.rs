//! What differs between guests of different CPUs: one table, one row each.

use std::fmt;

use baker_model::recipe;

use crate::accelerator::Accelerator;

/// The CPU family of a guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// x86-64.
    #[default]
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    /// Debian's name.
    pub name: &'static str,
    /// What `uname -m` and QEMU call it.
    pub machine_name: &'static str,
    /// QEMU's program.
    pub program: &'static str,
    /// How distributions bring that program.
    pub install: &'static str,
    /// The board.
    pub board: &'static str,
    /// What the board needs to keep the variable store from a guest that is not in firmware:
    /// option of the board, and a global property. x86 only; Arm firmware runs in another world.
    pub guarded_store: Option<(&'static str, &'static str)>,
    /// Name of the first serial port in Linux.
    pub serial: &'static str,
    /// A display that firmware and kernel draw on.
    pub display: &'static str,
    /// A TPM, as a device of the board.
    pub tpm: &'static str,
    /// A word for the kernel that makes emulated boots dependable.
    emulation_word: Option<&'static str>,
}

impl Row {
    /// The word for the kernel that this accelerator asks for.
    pub(crate) fn emulation_word(&self, accelerator: Accelerator) -> Option<&'static str> {
        self.emulation_word
            .filter(|_| accelerator == Accelerator::Tcg)
    }
}

/// Skips the kernel's check of the 8254 timer, which fails (a panic, "IO-APIC + timer doesn't
/// work") when an emulated CPU is starved at the wrong moment.
const NO_TIMER_CHECK: &str = "no_timer_check";

const AMD64: Row = Row {
    name: "amd64",
    machine_name: "x86_64",
    program: "qemu-system-x86_64",
    install: "Debian, Ubuntu: `apt-get install qemu-system-x86`; Fedora: `dnf install \
              qemu-system-x86-core`; Arch: `pacman -S qemu-system-x86`; openSUSE: `zypper install \
              qemu-x86`",
    board: "q35",
    guarded_store: Some(("smm=on", "driver=cfi.pflash01,property=secure,value=on")),
    serial: "ttyS0",
    display: "VGA",
    tpm: "tpm-tis",
    emulation_word: Some(NO_TIMER_CHECK),
};

const ARM64: Row = Row {
    name: "arm64",
    machine_name: "aarch64",
    program: "qemu-system-aarch64",
    install: "Debian, Ubuntu: `apt-get install qemu-system-arm`; Fedora: `dnf install \
              qemu-system-aarch64-core`; Arch: `pacman -S qemu-system-aarch64`; openSUSE: `zypper \
              install qemu-arm`",
    board: "virt",
    guarded_store: None,
    serial: "ttyAMA0",
    display: "virtio-gpu-pci",
    tpm: "tpm-tis-device",
    emulation_word: None,
};

impl Architecture {
    /// The row of the table.
    pub(crate) const fn row(self) -> &'static Row {
        match self {
            Self::Amd64 => &AMD64,
            Self::Arm64 => &ARM64,
        }
    }

    /// Debian's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Name of the first serial port in Linux: the console that is read.
    #[must_use]
    pub const fn serial(self) -> &'static str {
        self.row().serial
    }

    /// True when the host's CPU could run such a guest itself.
    #[must_use]
    pub(crate) fn is_host(self) -> bool {
        self.row().machine_name == std::env::consts::ARCH
    }
}

impl From<recipe::Architecture> for Architecture {
    fn from(target: recipe::Architecture) -> Self {
        match target {
            recipe::Architecture::Amd64 => Self::Amd64,
            recipe::Architecture::Arm64 => Self::Arm64,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
