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
    /// Without any sign of life, once there was one; three times as long while the guest's CPUs
    /// are busy.
    pub silence: Duration,
    /// Until the first sign: firmware decompresses itself without a word. An idle guest has only
    /// `silence`.
    pub first_sign: Duration,
    /// With signs of life but no step forward; three times as long while the guest's CPUs are
    /// busy.
    pub stall: Duration,
    /// For each HTTP check, and for what the console must show, once the guest has settled.
    pub outside: Duration,
    /// For a clean power-off after a pass.
    pub power_off: Duration,
    /// From a failure to the reset that follows it, in runs where the guest may reset itself.
    pub reset: Duration,
}

impl Patience {
    /// The patience for plans that share a boot: that of the most patient one.
    ///
    /// Under TCG the plan's seconds count double, and a loaded host gets an allowance: OVMF alone
    /// was seen to take 39 s, whole boots four times their usual time. A plan with a restart gets
    /// the time of two boots. A guest that is really stuck does not use this up: it is silent or
    /// stalls, and those have their own, shorter limits.
    #[must_use]
    pub fn for_plans<'a>(
        plans: impl IntoIterator<Item = &'a TestPlan>,
        boot: &Boot,
        accelerator: Accelerator,
    ) -> Self {
        let planned = plans.into_iter().map(|plan| {
            let boots = if plan.reboot.is_some() { 2 } else { 1 };
            Duration::from_secs(u64::from(plan.boot_seconds)) * boots
        });
        let planned = planned.max().unwrap_or_default();
        let seconds = Duration::from_secs;
        // Each write of a variable calls all CPUs into system management mode, where they wait for
        // one another. With two emulated CPUs on a starved host the firmware alone was seen to take
        // 99 s, and once more than 120 s; on a quiet one it takes 5 s.
        let secure = matches!(boot, Boot::UefiSecure(_));
        let allowance = match (secure, boot.is_uefi()) {
            (true, _) => 180,
            (false, true) => 60,
            (false, false) => 30,
        };
        match accelerator {
            Accelerator::Kvm => Self {
                total: planned,
                silence: seconds(45),
                first_sign: seconds(45),
                stall: seconds(30),
                outside: seconds(10),
                power_off: seconds(15),
                reset: seconds(30),
            },
            Accelerator::Tcg => Self {
                total: planned * 2 + seconds(allowance),
                silence: seconds(60),
                first_sign: seconds(if secure { 240 } else { 120 }),
                stall: seconds(45),
                outside: seconds(30),
                power_off: seconds(45),
                reset: seconds(90),
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
        let patient = TestPlan {
            boot_seconds: 130,
            ..TestPlan::default()
        };
        let twice = TestPlan {
            reboot: Some(baker_model::plan::Reboot::default()),
            ..TestPlan::default()
        };
        let total = |plans: &[&TestPlan], boot: &Boot, accelerator| {
            Patience::for_plans(plans.iter().copied(), boot, accelerator)
                .total
                .as_secs()
        };
        let plan = TestPlan::default();
        let secure = Boot::UefiSecure(ovmf.clone());
        assert_eq!(total(&[&plan], &secure, Accelerator::Tcg), 420);
        assert_eq!(total(&[&plan], &secure, Accelerator::Kvm), 120);
        assert_eq!(total(&[&plan], &Boot::Uefi(ovmf), Accelerator::Tcg), 300);
        assert_eq!(total(&[&plan], &Boot::Bios, Accelerator::Tcg), 270);
        assert_eq!(total(&[&plan], &Boot::Bios, Accelerator::Kvm), 120);
        assert_eq!(
            total(&[&plan, &patient], &Boot::Bios, Accelerator::Kvm),
            130
        );
        assert_eq!(total(&[&twice], &Boot::Bios, Accelerator::Kvm), 240);
    }
}
