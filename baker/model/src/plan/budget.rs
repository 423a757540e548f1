//! Limits of time, memory and size.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[test.budget]`: a limit that is exceeded fails the test with `budget-exceeded`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Budget {
    /// The unit that the two times run to; `multi-user.target` when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Seconds from the kernel's start to `target`, by the guest's own clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_seconds: Option<u32>,
    /// Seconds from QEMU's start to the probe's last word (to the last check when judged from
    /// outside), by the host's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_seconds: Option<u32>,
    /// Memory in use once the system has settled, in MiB (`MemTotal - MemAvailable`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Data of the disk image in MiB, holes not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_mib: Option<u32>,
    /// Size of the initrd in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd_kib: Option<u32>,
    /// Size of the UKI in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uki_kib: Option<u32>,
    /// Number of packages in the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<u32>,
}

impl Budget {
    /// The unit that the times run to.
    #[must_use]
    pub fn target(&self) -> &str {
        self.target.as_deref().unwrap_or("multi-user.target")
    }
}
