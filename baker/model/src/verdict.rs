//! The answer of a smoke test.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The answer of a smoke test: passed, or exactly one named kind of failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The guest said that all is well, with this image's root hash and this run's nonce.
    Passed,
    /// It did not, and this is why.
    Failed {
        /// The kind of failure.
        failure: Failure,
        /// One line of evidence: the console line, the unit, the assertion.
        detail: String,
    },
}

impl Verdict {
    /// True for [`Verdict::Passed`].
    #[must_use]
    pub fn is_passed(&self) -> bool {
        matches!(self, Self::Passed)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed { failure, detail } if detail.is_empty() => write!(f, "{failure}"),
            Self::Failed { failure, detail } => write!(f, "{failure}: {detail}"),
        }
    }
}

/// The kinds of failure of a smoke test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The firmware would not start the loader (Secure Boot, no boot option).
    FirmwareRefused,
    /// The boot loader or the stub gave up.
    LoaderFailed,
    /// The kernel panicked.
    KernelPanic,
    /// The kernel reported an oops or a bug and went on.
    KernelOops,
    /// dm-verity refused a block or the root hash.
    VerityCorruption,
    /// The init of the initramfs, or systemd itself, gave up.
    InitFailed,
    /// A unit failed.
    UnitFailed,
    /// An assertion of the test plan does not hold.
    AssertionFailed,
    /// A budget (time, memory, size) is exceeded.
    BudgetExceeded,
    /// The guest restarted.
    GuestReset,
    /// The guest went on without ever giving its sign.
    GuestSilent,
    /// QEMU ended by itself or could not be spoken to.
    QemuDied,
    /// The deadline passed while the guest was still making progress.
    TimedOut,
}

impl Failure {
    /// The kebab-case name, as reports and exit messages show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirmwareRefused => "firmware-refused",
            Self::LoaderFailed => "loader-failed",
            Self::KernelPanic => "kernel-panic",
            Self::KernelOops => "kernel-oops",
            Self::VerityCorruption => "verity-corruption",
            Self::InitFailed => "init-failed",
            Self::UnitFailed => "unit-failed",
            Self::AssertionFailed => "assertion-failed",
            Self::BudgetExceeded => "budget-exceeded",
            Self::GuestReset => "guest-reset",
            Self::GuestSilent => "guest-silent",
            Self::QemuDied => "qemu-died",
            Self::TimedOut => "timed-out",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
