//! Reports of a run of smoke tests, as text: one HTML page for people, JUnit XML for CI servers.
//!
//! Takes evidence, console logs and screenshots as data; gives text. Opens nothing, knows no
//! clock. Whatever comes from a guest is escaped by the one type that builds the markup, so a
//! guest that prints markup is shown printing markup.

mod console;
mod html;
mod junit;
mod markup;
mod phases;
mod sections;
#[cfg(test)]
mod tests;

pub use html::html;
pub use junit::junit;
pub use phases::{Span, seconds, spans};

use baker_model::Failure;

use crate::evidence::Evidence;

/// A run of tests on one image.
#[derive(Debug, Clone, Copy)]
pub struct RunReport<'a> {
    /// What was tested, for people: `minimal-1.0.0`.
    pub image: &'a str,
    /// The tests, in the order of the plan.
    pub tests: &'a [TestReport<'a>],
}

/// One test and what lies beside its evidence.
#[derive(Debug, Clone, Copy)]
pub struct TestReport<'a> {
    /// What was seen.
    pub evidence: &'a Evidence,
    /// The serial console.
    pub console: Log<'a>,
    /// What QEMU itself said.
    pub qemu: Log<'a>,
    /// The guest's screen at the end, PNG.
    pub screenshot: Option<&'a [u8]>,
}

/// A log, or as much of its end as was read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log<'a> {
    /// The bytes as they were written, escape sequences and all.
    pub bytes: &'a [u8],
    /// Bytes of the log that stand before these and were not read.
    pub skipped: u64,
}

/// What a kind of failure means, in one sentence for people.
const fn meaning(failure: Failure) -> &'static str {
    match failure {
        Failure::FirmwareRefused => "The firmware would not start the boot loader.",
        Failure::LoaderFailed => "The boot loader or the stub gave up before the kernel ran.",
        Failure::KernelPanic => "The kernel panicked.",
        Failure::KernelOops => "The kernel reported a bug and went on.",
        Failure::VerityCorruption => {
            "dm-verity refused the root: it is not the one that was built."
        }
        Failure::InitFailed => "The init of the initramfs, or systemd itself, gave up.",
        Failure::UnitFailed => "A unit failed.",
        Failure::AssertionFailed => "The system came up, and something asked of it does not hold.",
        Failure::BudgetExceeded => "The system came up, and needs more than it may.",
        Failure::GuestReset => "The guest restarted on its own.",
        Failure::GuestSilent => "The guest stopped giving signs of life.",
        Failure::QemuDied => "QEMU ended or could not be spoken to.",
        Failure::TimedOut => "The deadline passed while the guest was still making progress.",
    }
}
