//! What a smoke test leaves behind: enough to believe its verdict and to repeat it by hand.

use std::time::Duration;

use baker_model::plan::TestPlan;
use baker_model::{Digest, Verdict};
use serde::{Deserialize, Serialize};

use crate::accelerator::AcceleratorChoice;

/// The version of the evidence format that this baker writes.
pub const EVIDENCE_VERSION: u32 = 1;

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
    /// dm-verity root hash that the guest had to show.
    pub root_hash: Digest,
    /// Digest of the disk, taken while the guest booted.
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
