//! What a smoke test leaves behind: enough to believe its verdict and to repeat it by hand.

use std::time::Duration;

use baker_model::plan::{ProbeWay, TestPlan};
use baker_model::{Digest, Verdict};
use serde::{Deserialize, Serialize};

use crate::accelerator::AcceleratorChoice;

/// The version of the evidence format that this baker writes.
pub const EVIDENCE_VERSION: u32 = 2;

/// The evidence of one smoke test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evidence {
    /// Format version, [`EVIDENCE_VERSION`].
    pub evidence_version: u32,
    /// What was asked.
    pub plan: TestPlan,
    /// The answer.
    pub verdict: Verdict,
    /// Milliseconds from QEMU's start to the verdict.
    pub milliseconds: u64,
    /// When each phase began.
    pub timeline: Vec<Mark>,
    /// Who ran the guest's instructions, and why.
    pub accelerator: AcceleratorChoice,
    /// Version of QEMU.
    pub qemu_version: String,
    /// The command line as it was run, program first.
    pub argv: Vec<String>,
    /// A shell line that boots the same machine again with its console on the terminal.
    pub command: String,
    /// The nonce that every line of the probe carried.
    pub nonce: String,
    /// dm-verity root hash that the guest had to show; none when the image has no such thing.
    pub root_hash: Option<Digest>,
    /// How the probe got into the guest; never `auto`.
    pub probe: ProbeWay,
    /// What the guest said of itself; none when it never spoke.
    pub guest: Option<GuestFacts>,
    /// What was asked and what was found, in the order of the plan.
    pub checks: Vec<CheckFact>,
    /// Units that had failed.
    pub failed_units: Vec<UnitFact>,
    /// Milliseconds from the event that decided (a line of the console or of the probe, an event
    /// of QEMU, the end of patience) to the verdict. When checks do not hold, the event is the
    /// last answer that the verdict takes in.
    pub detection_milliseconds: u64,
    /// Name of a picture of the guest's screen at the end in the evidence folder (PNG).
    pub screenshot: Option<String>,
    /// Boots that ended in a reset which the guest was allowed, before the one that was judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Titles of other plans that the same boot answered.
    pub shared_with: Vec<String>,
    /// Digest of the disk (of kernel and initrd when there is no disk), taken while the guest
    /// booted.
    pub disk_before: Digest,
    /// Digest of the disk, taken after QEMU ended.
    pub disk_after: Digest,
    /// How the machine ended.
    pub shutdown: Shutdown,
    /// Name of the console log in the evidence folder.
    pub serial_log: String,
    /// Name of the log of QEMU's own output in the evidence folder.
    pub qemu_log: String,
    /// Runs that ended by a known fault of the host and were repeated.
    pub retries: Vec<Retry>,
    /// What did not change the verdict but should be known.
    pub warnings: Vec<String>,
}

/// The beginning of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mark {
    /// Name of the phase: `firmware`, `loader`, `kernel`, `init`, `userspace`, `probe`, `done`.
    pub phase: String,
    /// Milliseconds since QEMU's start.
    pub milliseconds: u64,
    /// Which boot, from 1.
    #[serde(default = "first")]
    pub boot: u32,
}

const fn first() -> u32 {
    1
}

/// What the guest said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestFacts {
    /// `uname -r`.
    pub kernel: String,
    /// `enabled`, `disabled`, or `none` when UEFI did not start the kernel.
    pub secure_boot: String,
    /// Root hash of the active dm-verity table under `/`; empty when there is none.
    pub root_hash: String,
    /// systemd's state once settled (`running`, `degraded` ...); empty when it never was.
    pub state: String,
    /// Memory in use once settled, KiB; 0 when it never was.
    pub memory_kib: u64,
    /// Milliseconds from the kernel's start to the probe's last word; 0 when there was none.
    pub settled_ms: u64,
}

/// One check and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckFact {
    /// What was asked, for people: `unit dbus.socket is active`.
    pub what: String,
    /// True when it holds.
    pub holds: bool,
    /// What was found; why it was not answered when it was not.
    pub found: String,
    /// Which boot answered, from 1.
    pub boot: u32,
}

/// A unit that had failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnitFact {
    /// Full unit name.
    pub unit: String,
    /// systemd's `Result`; `restarting` when systemd was starting it again, `not active` when the
    /// plan wanted it to be active and it was not.
    pub result: String,
    /// What its journal said last, in lines; empty when that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<String>,
}

/// A boot that ended in a reset which the guest was allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attempt {
    /// Which boot, from 1.
    pub boot: u32,
    /// What was wrong; `guest-reset` when nothing showed.
    pub verdict: Verdict,
    /// Milliseconds from QEMU's start to the reset.
    pub milliseconds: u64,
}

/// How the machine ended after the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Shutdown {
    /// It was asked to power off and did.
    Clean {
        /// Milliseconds from the request to QEMU's end.
        milliseconds: u64,
    },
    /// It was asked to power off and did not.
    Hung,
    /// It was not asked: it had failed.
    Killed,
}

/// A run that was repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Retry {
    /// The fault of the host that the console showed.
    pub cause: String,
    /// What the verdict would have been.
    pub verdict: Verdict,
    /// Milliseconds from QEMU's start to that.
    pub milliseconds: u64,
    /// Name of the console log of that run.
    pub serial_log: String,
}

impl Evidence {
    /// The bytes of the evidence file: JSON, ends in a newline.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("evidence holds only plain data");
        bytes.push(b'\n');
        bytes
    }
}

/// Whole milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
