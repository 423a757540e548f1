//! What this machine has to boot with.

use std::fs;
use std::num::NonZeroUsize;

use baker_model::plan::{Firmware, TestPlan};
use baker_vm::{
    AcceleratorChoice, Architecture, Capacity, Environment, Ovmf, OvmfError, Qemu,
    probe_accelerator,
};

use crate::exit::{Exit, Failure};

/// Mends missing firmware.
const INSTALL: &str = "install the firmware: apt-get install ovmf";

/// QEMU, firmware and accelerator.
#[derive(Debug)]
pub struct Host {
    /// Search paths and overrides.
    pub environment: Environment,
    /// The QEMU found.
    pub qemu: Qemu,
    /// KVM when a probe guest ran on it, else TCG.
    pub accelerator: AcceleratorChoice,
    /// What tests that run at once may use together.
    pub capacity: Capacity,
    ovmf: Option<Ovmf>,
    secure_ovmf: Option<Ovmf>,
}

impl Host {
    /// Finds what these plans need.
    ///
    /// # Errors
    /// QEMU is missing, or OVMF is and a plan boots by UEFI.
    pub fn find<'a>(plans: impl IntoIterator<Item = &'a TestPlan>) -> Result<Self, Failure> {
        let environment = Environment::of_process();
        let missing = |error| {
            Failure::new(Exit::Environment, error)
                .help("install QEMU: apt-get install qemu-system-x86 ovmf")
        };
        let qemu = Qemu::discover(&environment, Architecture::Amd64).map_err(missing)?;
        let plans: Vec<_> = plans.into_iter().collect();
        let firmwares: Vec<_> = plans.iter().map(|plan| plan.firmware).collect();
        let needed = |ovmf: Result<Ovmf, OvmfError>, firmware| match ovmf {
            Ok(ovmf) => Ok(Some(ovmf)),
            Err(error) if firmwares.contains(&firmware) => {
                Err(Failure::new(Exit::Environment, error).help(INSTALL))
            }
            Err(_) => Ok(None),
        };
        let ovmf = needed(Ovmf::discover(&environment), Firmware::Uefi)?;
        let secure_ovmf = needed(Ovmf::discover_secure(&environment), Firmware::UefiSecure)?;
        let accelerator = probe_accelerator(&qemu, &environment);
        Ok(Self {
            environment,
            qemu,
            accelerator,
            capacity: capacity(&plans),
            ovmf,
            secure_ovmf,
        })
    }

    /// The firmware; [`Host::find`] has made sure of it for its plans.
    pub fn ovmf(&self) -> Result<&Ovmf, Failure> {
        self.ovmf.as_ref().ok_or_else(|| {
            let problem = "there is no UEFI firmware on this machine";
            Failure::message(Exit::Environment, problem).help(INSTALL)
        })
    }

    /// The firmware that can enforce Secure Boot; [`Host::find`] has made sure of it for its
    /// plans.
    pub fn secure_ovmf(&self) -> Result<&Ovmf, Failure> {
        self.secure_ovmf.as_ref().ok_or_else(|| {
            let problem = "there is no UEFI firmware with Secure Boot on this machine";
            Failure::message(Exit::Environment, problem).help(INSTALL)
        })
    }
}

/// Three quarters of the memory that is free, and twice as many guest CPUs as there are cores.
///
/// A boot with two CPUs uses 1.4 of two cores, so two at once end sooner than one after the other
/// (four plans on two loaded cores: 163 s apart, 118 s two at a time) and four at once gain no
/// more (153 s). But each by itself takes longer: where time has a budget, cores are not shared.
fn capacity(plans: &[&TestPlan]) -> Capacity {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| {
        let field = line.strip_prefix("MemAvailable:")?;
        field.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let timed = |plan: &&TestPlan| {
        plan.budget.guest_seconds.is_some() || plan.budget.host_seconds.is_some()
    };
    let share = if plans.iter().any(timed) { 1 } else { 2 };
    Capacity {
        memory_mib: available.unwrap_or(0) / 1024 / 4 * 3,
        cpus: u32::try_from(cores * share).unwrap_or(u32::MAX),
    }
}
