//! `[disk]`: partitions and the forms of the disk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Format;

/// `[disk]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Disk {
    /// Root slots: 1, or 2 for A/B with systemd-boot and boot counting.
    pub slots: u8,
    /// Forms of disk and root to make beside the raw disk, which is always made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<Format>,
    /// Size of the EFI system partition in MiB; room for three UKIs when not given.
    pub esp_mib: Option<u32>,
    /// Size of one root slot in MiB; as large as needed when not given (`slots = 2`: half as much again).
    pub slot_mib: Option<u32>,
    /// Size of an empty data partition in MiB; none when not given.
    pub data_mib: Option<u32>,
    /// `slots = 2`: boots that a new version has to prove itself in, 1 to 9; 3 when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries: Option<u8>,
    /// `slots = 2`: units that must be active for a boot to count as good. That no unit at all has
    /// failed is asked in any case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub health: Vec<String>,
    /// `slots = 2`: seconds after which a boot that is not known to be good counts as bad; 300
    /// when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_seconds: Option<u32>,
}

impl Disk {
    /// Boots that a new version has to prove itself in.
    #[must_use]
    pub fn tries(&self) -> u8 {
        self.tries.unwrap_or(3)
    }

    /// Seconds after which a boot that is not known to be good counts as bad.
    #[must_use]
    pub fn health_seconds(&self) -> u32 {
        self.health_seconds.unwrap_or(300)
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            slots: 1,
            formats: Vec::new(),
            esp_mib: None,
            slot_mib: None,
            data_mib: None,
            tries: None,
            health: Vec::new(),
            health_seconds: None,
        }
    }
}
