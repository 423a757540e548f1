//! How long a smoke test waits, by machine and accelerator.

use std::time::Duration;

use baker_model::plan::TestPlan;

use crate::accelerator::Accelerator;
use crate::machine::Boot;

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From QEMU's start to the verdict.
    pub total: Duration,
    /// Without any sign of progress, once there was one.
    pub silence: Duration,
    /// Until the first sign: firmware decompresses itself without a word.
    pub first_sign: Duration,
    /// For each HTTP check, once the guest has settled.
    pub http: Duration,
    /// For a clean power-off after a pass.
    pub power_off: Duration,
}

impl Patience {
    /// The patience for a plan.
    ///
    /// Under TCG the plan's seconds count double, and a loaded host gets an allowance: OVMF alone
    /// was seen to take 39 s, whole boots four times their usual time. A guest that is really
    /// stuck does not use this up: it is silent, and silence has its own, shorter limit.
    #[must_use]
    pub fn for_plan(plan: &TestPlan, boot: &Boot, accelerator: Accelerator) -> Self {
        let planned = Duration::from_secs(u64::from(plan.boot_seconds));
        let seconds = Duration::from_secs;
        match accelerator {
            Accelerator::Kvm => Self {
                total: planned,
                silence: seconds(30),
                first_sign: seconds(30),
                http: seconds(10),
                power_off: seconds(15),
            },
            Accelerator::Tcg => Self {
                total: planned * 2
                    + seconds(if matches!(boot, Boot::Uefi(_) | Boot::UefiSecure(_)) {
                        60
                    } else {
                        30
                    }),
                silence: seconds(60),
                first_sign: seconds(120),
                http: seconds(30),
                power_off: seconds(45),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_plan_gets_five_minutes_by_uefi_under_tcg() {
        let ovmf = crate::Ovmf {
            code: "c".into(),
            vars: "v".into(),
        };
        let total = |boot, accelerator| {
            Patience::for_plan(&TestPlan::default(), &boot, accelerator)
                .total
                .as_secs()
        };
        assert_eq!(total(Boot::Uefi(ovmf), Accelerator::Tcg), 300);
        assert_eq!(total(Boot::Bios, Accelerator::Tcg), 270);
        assert_eq!(total(Boot::Bios, Accelerator::Kvm), 120);
    }
}
