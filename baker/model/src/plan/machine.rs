//! The machine that a test wants.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recipe::Format;

/// How the guest is started.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// QEMU loads kernel and initrd itself.
    Direct,
    /// OVMF boots the disk.
    #[default]
    Uefi,
    /// OVMF boots the disk and accepts only what the image's own Secure Boot key has signed.
    UefiSecure,
    /// QEMU's BIOS boots the disk; for images that have a boot sector.
    Bios,
}

impl Firmware {
    /// The name as written in a recipe.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Uefi => "uefi",
            Self::UefiSecure => "uefi-secure",
            Self::Bios => "bios",
        }
    }

    /// True when UEFI firmware starts the guest.
    #[must_use]
    pub const fn is_uefi(self) -> bool {
        matches!(self, Self::Uefi | Self::UefiSecure)
    }
}

/// How the disk is attached.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum DiskBus {
    /// virtio-blk.
    #[default]
    Virtio,
    /// NVMe.
    Nvme,
    /// SATA behind AHCI.
    Sata,
    /// SCSI behind virtio-scsi.
    Scsi,
}

/// How the probe gets into the guest.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeWay {
    /// `carried` for images that baker made, `disk` for others.
    #[default]
    Auto,
    /// The image's own initrd holds the guest program and starts it when the probe port is there.
    Carried,
    /// On a second, read-only disk; a system credential makes systemd (256 or newer) start it.
    Disk,
    /// Not at all: the image is judged by its console and its network.
    Outside,
}

impl ProbeWay {
    /// The name as written in a recipe.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Carried => "carried",
            Self::Disk => "disk",
            Self::Outside => "outside",
        }
    }
}

/// What makes two machines the same: plans with equal shapes can be answered by one boot.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub struct MachineShape {
    /// How the guest is started.
    pub firmware: Firmware,
    /// The form of the disk.
    #[serde(default)]
    pub format: Format,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Number of CPUs.
    pub cpus: u32,
    /// How the disk is attached.
    pub disk_bus: DiskBus,
    /// Number of network cards.
    pub networks: u32,
    /// True when there is a TPM.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tpm: bool,
    /// How the probe gets in.
    pub probe: ProbeWay,
    /// True when the guest is restarted during the test.
    pub restarts: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out references"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}
