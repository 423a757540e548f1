//! What a smoke test boots and what must hold.

use serde::{Deserialize, Serialize};

/// How the guest is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// QEMU loads kernel and initrd itself.
    Direct,
    /// OVMF boots the disk.
    #[default]
    Uefi,
}

impl Firmware {
    /// The name as written in a recipe.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Uefi => "uefi",
        }
    }
}

/// One smoke test: a machine, a deadline and what must hold (`[[test]]` of a recipe).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TestPlan {
    /// Name shown in reports; the firmware's name when not given.
    pub name: Option<String>,
    /// How the guest is started.
    pub firmware: Firmware,
    /// Memory of the machine in MiB.
    pub memory_mib: u32,
    /// Number of CPUs.
    pub cpus: u32,
    /// Deadline in seconds from QEMU start to the verdict on a quiet machine; doubled under TCG.
    pub boot_seconds: u32,
    /// Units that must be active at the end.
    pub units_active: Vec<String>,
    /// HTTP requests made from outside through user networking, once the guest is up.
    pub http: Vec<HttpCheck>,
}

impl Default for TestPlan {
    fn default() -> Self {
        Self {
            name: None,
            firmware: Firmware::Uefi,
            memory_mib: 512,
            cpus: 2,
            boot_seconds: 120,
            units_active: Vec::new(),
            http: Vec::new(),
        }
    }
}

impl TestPlan {
    /// The name for reports.
    #[must_use]
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(self.firmware.name())
    }
}

/// One HTTP request from the host to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpCheck {
    /// Port inside the guest.
    pub port: u16,
    /// Path with leading slash.
    #[serde(default = "slash")]
    pub path: String,
    /// Status that must be answered.
    #[serde(default = "ok_status")]
    pub status: u16,
    /// Text that the body must contain.
    #[serde(default)]
    pub contains: Option<String>,
}

fn slash() -> String {
    "/".to_owned()
}

const fn ok_status() -> u16 {
    200
}
