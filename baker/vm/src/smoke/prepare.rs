//! From a request to the machine that it means.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf, absolute};

use baker_model::plan::{Neighbour, ProbeWay, TestPlan};

use super::medium::copy;
use super::{SmokeError, SmokeRequest};
use crate::machine::{
    Boot, DirectBoot, Disk, Display, Extras, Forward, Link, Machine, Network, OnReset, ProbeOffer,
    Tpm, Writes,
};
use crate::neighbour::{NeighbourFiles, OLDEST_QEMU};
use crate::outside::Outside;
use crate::qemu::CpuChoice;
use crate::subject::{Medium, PlanProblem};

pub(super) fn refused(plan: &TestPlan, problem: PlanProblem) -> SmokeError {
    SmokeError::Plan {
        title: plan.title().to_owned(),
        problem,
    }
}

/// How the probe gets in: the same for all plans of the request.
pub(super) fn way(request: &SmokeRequest<'_>) -> Result<ProbeWay, SmokeError> {
    let mut ways = request.tests.iter().map(|test| {
        let way = request.subject.probe_way(test.plan);
        let way = way.map_err(|problem| refused(test.plan, problem))?;
        Ok((test.plan, way))
    });
    let Some(first) = ways.next() else {
        return Err(SmokeError::NoPlan);
    };
    let (first, way) = first?;
    for other in ways {
        let (plan, other) = other?;
        if other != way || !plan.shares_machine(first) {
            return Err(refused(plan, PlanProblem::OtherMachine));
        }
    }
    Ok(way)
}

/// The machine of a smoke test. Paths are made absolute: the command line in the evidence must
/// work from any folder.
pub(super) fn machine(request: &SmokeRequest<'_>, way: ProbeWay) -> Result<Machine, SmokeError> {
    let plan = request.tests[0].plan;
    let restarts = plan.reboot.is_some() || request.treatment.resets > 0;
    Ok(Machine {
        architecture: request.qemu.architecture,
        boot: boot(request.boot).map_err(|(path, source)| SmokeError::Disk { path, source })?,
        accelerator: request.accelerator.accelerator,
        board: request.qemu.board(),
        cpu: cpu(request).model,
        threads: request.qemu.threads(),
        cpus: plan.cpus,
        memory_mib: plan.memory_mib,
        disk: disk(request)?,
        bus: plan.disk_bus,
        probe: match (way, &request.subject.probe_disk) {
            (ProbeWay::Carried, _) => ProbeOffer::Port,
            (ProbeWay::Disk, Some(image)) => ProbeOffer::Disk(place(image)?),
            _ => ProbeOffer::None,
        },
        networks: plan.networks,
        network: Network::Isolated,
        links: links(plan),
        forwards: forwards(request),
        on_reset: if restarts {
            OnReset::Restart
        } else {
            OnReset::Exit
        },
        display: Display::Hidden,
        watchdog: request.treatment.watchdog,
        extras: Extras {
            reads: request.treatment.reads.clone(),
            ..Extras::default()
        },
        tpm: if plan.tpm { Tpm::Emulated } else { Tpm::None },
        credentials: request.treatment.luggage.credentials.clone(),
    })
}

/// The plan's neighbours and what they boot; none when it has none.
pub(super) fn neighbours<'a>(
    request: &SmokeRequest<'a>,
) -> Result<Option<(&'a [Neighbour], &'a NeighbourFiles)>, SmokeError> {
    let plan = request.tests[0].plan;
    if plan.neighbours.is_empty() {
        return Ok(None);
    }
    let version = request.qemu.version;
    if (version.major, version.minor) < OLDEST_QEMU {
        return Err(refused(plan, PlanProblem::OldQemu { version }));
    }
    match &request.treatment.neighbours {
        Some(files) => Ok(Some((&plan.neighbours, files))),
        None => Err(refused(plan, PlanProblem::NoNeighbours)),
    }
}

fn links(plan: &TestPlan) -> Vec<Link> {
    let numbered = (1..).zip(&plan.neighbours);
    let links = numbered.map(|(number, neighbour): (u8, _)| {
        let own = || format!("52:54:00:6c:6b:{number:02x}");
        let mac = neighbour.card.clone().unwrap_or_else(own);
        Link { mac }
    });
    links.collect()
}

/// The CPU model and what is known against it.
pub(super) fn cpu(request: &SmokeRequest<'_>) -> CpuChoice {
    let accelerator = request.accelerator.accelerator;
    request.qemu.choose_cpu(accelerator, request.environment)
}

fn place(path: &Path) -> Result<PathBuf, SmokeError> {
    absolute(path).map_err(|source| SmokeError::Disk {
        path: path.to_owned(),
        source,
    })
}

fn boot(boot: &Boot) -> Result<Boot, (PathBuf, io::Error)> {
    let place = |path: &Path| absolute(path).map_err(|error| (path.to_owned(), error));
    Ok(match boot {
        Boot::Direct(direct) => Boot::Direct(DirectBoot {
            kernel: place(&direct.kernel)?,
            initrd: place(&direct.initrd)?,
            append: direct.append.clone(),
        }),
        boot => boot.clone(),
    })
}

fn disk(request: &SmokeRequest<'_>) -> Result<Option<Disk>, SmokeError> {
    let Some(medium) = &request.subject.medium else {
        return Ok(None);
    };
    let (path, writes) = match &request.treatment.keep_disk {
        None => (&medium.path, Writes::Discarded),
        Some(target) => {
            copy(&medium.path, target, request.interrupt)?;
            (target, Writes::Kept)
        }
    };
    let medium = Medium {
        path: place(path)?,
        format: medium.format,
    };
    Ok(Some(Disk { medium, writes }))
}

fn forwards(request: &SmokeRequest<'_>) -> Vec<Forward> {
    let checks = request.tests.iter().flat_map(|test| Outside::of(test.plan));
    let mut ports: Vec<u16> = checks.filter_map(|check| check.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
        .into_iter()
        .map(|guest| Forward { host: 0, guest })
        .collect()
}

/// 128 random bits, hex.
pub(super) fn nonce() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
