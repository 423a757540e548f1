//! What a smoke test boots and what must hold.

mod budget;
mod checks;
mod credential;
mod file;
mod machine;
pub mod neighbour;

pub use budget::Budget;
pub use checks::{
    CommandCheck, Day, FileCheck, FileState, HttpCheck, JournalAllowance, JournalCheck, Listening,
    Protocol, Reboot, SshCheck,
};
pub use credential::{CredentialSource, TestCredential};
pub use file::{PlanFile, PlanFileError};
pub use machine::{DiskBus, Firmware, MachineShape, ProbeWay};
pub use neighbour::{Neighbour, Outcome, Reach};

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::manifest::FileRole;
use crate::recipe::Format;

/// One smoke test: a machine, a deadline and what must hold (`[[test]]` of a recipe or of a plan
/// file). Lists that are empty and options that are absent ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TestPlan {
    /// Name shown in reports; the firmware's name when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How the guest is started.
    pub firmware: Firmware,
    /// The form of the disk that is booted; one of the recipe's `[disk] formats`.
    #[serde(skip_serializing_if = "is_default")]
    pub format: Format,
    /// Memory of the machine in MiB.
    pub memory_mib: u32,
    /// Number of CPUs.
    pub cpus: u32,
    /// How the disk is attached.
    #[serde(skip_serializing_if = "is_default")]
    pub disk_bus: DiskBus,
    /// Number of network cards; the first one is the way in for `http`.
    #[serde(skip_serializing_if = "is_one")]
    pub networks: u32,
    /// True when the machine has a TPM, new for each run.
    #[serde(skip_serializing_if = "is_default")]
    pub tpm: bool,
    /// How the probe gets into the guest.
    #[serde(skip_serializing_if = "is_default")]
    pub probe: ProbeWay,
    /// Deadline in seconds from QEMU start to the verdict on a quiet machine; doubled under TCG.
    pub boot_seconds: u32,
    /// Boot twice: what survives the restart and what does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reboot: Option<Reboot>,
    /// Units that must be active at the end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units_active: Vec<String>,
    /// Units that must exist and not be failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units_not_failed: Vec<String>,
    /// Units that systemd must not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units_absent: Vec<String>,
    /// Units whose failure is no failure of the image; for images that baker did not make.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units_may_fail: Vec<String>,
    /// Ports that something inside must listen on, as `tcp:22` or `udp:67`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listening: Vec<Listening>,
    /// HTTP requests made from outside through user networking, once the guest is up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpCheck>,
    /// Logins from outside through user networking, once the guest is up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<SshCheck>,
    /// Other machines, each alone with this one on a network.
    #[serde(rename = "neighbour", skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Neighbour>,
    /// Credentials that the machine is given.
    #[serde(rename = "credential", skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<TestCredential>,
    /// Commands of the image that are run inside.
    #[serde(rename = "command", skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandCheck>,
    /// Files that must be there as described, or must not be there.
    #[serde(rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileCheck>,
    /// True when the root must refuse writes. Always asked of images that baker made.
    #[serde(skip_serializing_if = "is_default")]
    pub root_read_only: bool,
    /// True when every block of the device under the root must be readable: with dm-verity, when
    /// every block must be as built.
    #[serde(skip_serializing_if = "is_default")]
    pub root_readable: bool,
    /// True when the image must hold no shell.
    #[serde(skip_serializing_if = "is_default")]
    pub no_shell: bool,
    /// True when the image must hold no package manager.
    #[serde(skip_serializing_if = "is_default")]
    pub no_package_manager: bool,
    /// When given: the only files that may have the set-user-id or set-group-id bit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setuid: Option<Vec<String>>,
    /// Words that the kernel command line must hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command_line: Vec<String>,
    /// Modules that must be loaded or built in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules_loaded: Vec<String>,
    /// Kernel parameters and their values (`"kernel.panic" = "-1"`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// When given: the journal must hold nothing at priority err or worse beyond its allow-list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalCheck>,
    /// Texts that must appear on the serial console; the way to judge an image from outside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub console: Vec<String>,
    /// Limits of time, memory and size.
    #[serde(skip_serializing_if = "is_default")]
    pub budget: Budget,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn is_one(value: &u32) -> bool {
    *value == 1
}

impl Default for TestPlan {
    fn default() -> Self {
        Self {
            name: None,
            firmware: Firmware::Uefi,
            format: Format::default(),
            memory_mib: 512,
            cpus: 2,
            disk_bus: DiskBus::default(),
            networks: 1,
            tpm: false,
            probe: ProbeWay::default(),
            boot_seconds: 120,
            reboot: None,
            units_active: Vec::new(),
            units_not_failed: Vec::new(),
            units_absent: Vec::new(),
            units_may_fail: Vec::new(),
            listening: Vec::new(),
            http: Vec::new(),
            ssh: Vec::new(),
            neighbours: Vec::new(),
            credentials: Vec::new(),
            commands: Vec::new(),
            files: Vec::new(),
            root_read_only: false,
            root_readable: false,
            no_shell: false,
            no_package_manager: false,
            setuid: None,
            command_line: Vec::new(),
            modules_loaded: Vec::new(),
            sysctl: BTreeMap::new(),
            journal: None,
            console: Vec::new(),
            budget: Budget::default(),
        }
    }
}

impl TestPlan {
    /// The name for reports.
    #[must_use]
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(self.firmware.name())
    }

    /// The file of a release that is booted; of a kernel and its initrd the latter.
    #[must_use]
    pub fn booted(&self) -> FileRole {
        match (self.format, self.firmware) {
            (Format::Netboot, Firmware::Uefi | Firmware::UefiSecure) => FileRole::NetbootUki,
            (format, _) => format.role(),
        }
    }

    /// The machine that the plan wants; plans with equal shapes can share one boot.
    #[must_use]
    pub fn shape(&self) -> MachineShape {
        MachineShape {
            firmware: self.firmware,
            format: self.format,
            memory_mib: self.memory_mib,
            cpus: self.cpus,
            disk_bus: self.disk_bus,
            networks: self.networks,
            tpm: self.tpm,
            probe: self.probe,
            restarts: self.reboot.is_some(),
        }
    }

    /// True when one boot can answer both plans.
    #[must_use]
    pub fn shares_machine(&self, other: &Self) -> bool {
        self.shape() == other.shape()
            && self.credentials == other.credentials
            && self.neighbours == other.neighbours
    }

    /// True when the plan asks for something that only a probe inside the guest can answer.
    #[must_use]
    pub fn needs_probe(&self) -> bool {
        let outside = Self {
            http: self.http.clone(),
            ssh: self.ssh.clone(),
            neighbours: self.neighbours.clone(),
            console: self.console.clone(),
            budget: Budget {
                guest_seconds: None,
                memory_mib: None,
                ..self.budget.clone()
            },
            ..self.machine_only()
        };
        *self != outside
    }

    /// The same machine and deadline with nothing asked.
    #[must_use]
    pub fn machine_only(&self) -> Self {
        Self {
            name: self.name.clone(),
            firmware: self.firmware,
            format: self.format,
            memory_mib: self.memory_mib,
            cpus: self.cpus,
            disk_bus: self.disk_bus,
            networks: self.networks,
            tpm: self.tpm,
            probe: self.probe,
            boot_seconds: self.boot_seconds,
            credentials: self.credentials.clone(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_is_written() {
        let text = serde_json::to_string(&TestPlan::default()).unwrap();
        assert_eq!(
            text,
            r#"{"firmware":"uefi","memory-mib":512,"cpus":2,"boot-seconds":120}"#
        );
        let plan: TestPlan = serde_json::from_str(&text).unwrap();
        assert_eq!(plan, TestPlan::default());
    }

    #[test]
    fn checks_from_outside_need_no_probe() {
        let outside = TestPlan {
            console: vec!["login:".into()],
            ..TestPlan::default()
        };
        assert!(!outside.needs_probe());
        let inside = TestPlan {
            no_shell: true,
            ..outside
        };
        assert!(inside.needs_probe());
    }
}
