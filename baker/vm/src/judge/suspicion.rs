//! The first sign of a failure opens a short time of settling; the sign nearest to the cause
//! names the verdict.

use std::time::Duration;

use baker_model::Failure;

/// Time between the first sign of a failure and the verdict.
pub(crate) const SETTLING: Duration = Duration::from_millis(600);

/// What seems to be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspicion {
    /// When its first sign was seen.
    pub since: Duration,
    /// Its name.
    pub failure: Failure,
    /// What was seen.
    pub detail: String,
}

/// The nearer to the cause, the larger.
fn weight(failure: Failure) -> u8 {
    match failure {
        Failure::VerityCorruption => 9,
        Failure::InitFailed => 8,
        Failure::KernelPanic => 7,
        Failure::KernelOops => 6,
        Failure::UnitFailed => 5,
        Failure::AssertionFailed => 4,
        Failure::BudgetExceeded => 3,
        Failure::LoaderFailed => 3,
        Failure::FirmwareRefused => 2,
        Failure::GuestReset | Failure::GuestSilent => 1,
        Failure::QemuDied | Failure::TimedOut => 0,
    }
}

impl Suspicion {
    /// Adds a sign: it names the failure when it is nearer to the cause than those before, or says
    /// more of the same.
    pub(crate) fn add(slot: &mut Option<Self>, at: Duration, failure: Failure, detail: String) {
        match slot {
            None => {
                *slot = Some(Self {
                    since: at,
                    failure,
                    detail,
                });
            }
            Some(first)
                if weight(failure) > weight(first.failure)
                    || (failure == first.failure && detail.starts_with(&first.detail)) =>
            {
                first.failure = failure;
                first.detail = detail;
            }
            Some(_) => {}
        }
    }

    /// True when nothing nearer to the cause is to be expected.
    pub(crate) fn is_settled(&self, at: Duration) -> bool {
        at >= self.since + SETTLING
    }
}
