//! What this machine has to boot with.

use std::fs;
use std::num::NonZeroUsize;

use baker_model::Manifest;
use baker_model::plan::{Firmware, TestPlan};
use baker_model::recipe::Architecture;
use baker_vm::{
    AcceleratorChoice, Capacity, Environment, Ovmf, OvmfError, Qemu, probe_accelerator,
};

use crate::exit::{Exit, Failure};

/// Mends missing QEMU or firmware, in Debian's words; the failure itself knows others.
const fn install(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "install them: apt-get install qemu-system-x86 ovmf",
        Architecture::Arm64 => "install them: apt-get install qemu-system-arm qemu-efi-aarch64",
    }
}

/// The machines that a manifest names.
///
/// # Errors
/// This baker knows no such machines.
pub fn architecture(manifest: &Manifest) -> Result<Architecture, Failure> {
    Architecture::named(&manifest.architecture).ok_or_else(|| {
        let problem = format!(
            "{} {} is for {} machines, which this baker cannot boot",
            manifest.name, manifest.version, manifest.architecture
        );
        Failure::message(Exit::Environment, problem)
    })
}

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
    install: &'static str,
    ovmf: Option<Ovmf>,
    secure_ovmf: Option<Ovmf>,
}

impl Host {
    /// Finds what these plans need on machines of this architecture.
    ///
    /// # Errors
    /// QEMU is missing, or firmware is and a plan boots by UEFI.
    pub fn find<'a>(
        plans: impl IntoIterator<Item = &'a TestPlan>,
        architecture: Architecture,
    ) -> Result<Self, Failure> {
        let environment = Environment::of_process();
        let install = install(architecture);
        let qemu = Qemu::discover(&environment, architecture.into())
            .map_err(|error| Failure::new(Exit::Environment, error).help(install))?;
        let plans: Vec<_> = plans.into_iter().collect();
        let firmwares: Vec<_> = plans.iter().map(|plan| plan.firmware).collect();
        let needed = |ovmf: Result<Ovmf, OvmfError>, firmware| match ovmf {
            Ok(ovmf) => Ok(Some(ovmf)),
            Err(error) if firmwares.contains(&firmware) => {
                Err(Failure::new(Exit::Environment, error).help(install))
            }
            Err(_) => Ok(None),
        };
        let ovmf = needed(
            Ovmf::discover(&environment, qemu.architecture),
            Firmware::Uefi,
        )?;
        let secure_ovmf = Ovmf::discover_secure(&environment, qemu.architecture);
        let secure_ovmf = needed(secure_ovmf, Firmware::UefiSecure)?;
        let accelerator = probe_accelerator(&qemu, &environment);
        Ok(Self {
            environment,
            qemu,
            accelerator,
            capacity: capacity(&plans),
            install,
            ovmf,
            secure_ovmf,
        })
    }

    /// The firmware; [`Host::find`] has made sure of it for its plans.
    pub fn ovmf(&self) -> Result<&Ovmf, Failure> {
        self.ovmf.as_ref().ok_or_else(|| {
            let problem = "there is no UEFI firmware on this machine";
            Failure::message(Exit::Environment, problem).help(self.install)
        })
    }

    /// The firmware that can enforce Secure Boot; [`Host::find`] has made sure of it for its
    /// plans.
    pub fn secure_ovmf(&self) -> Result<&Ovmf, Failure> {
        self.secure_ovmf.as_ref().ok_or_else(|| {
            let problem = "there is no UEFI firmware with Secure Boot on this machine";
            Failure::message(Exit::Environment, problem).help(self.install)
        })
    }
}

/// Three quarters of the memory that is free, and twice as many guest CPUs as there are cores.
///
/// A boot with two CPUs uses 0.9 (QEMU before 8.1.1) to 1.4 of two cores, so two at once end sooner than one after the other
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
