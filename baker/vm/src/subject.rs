//! What a smoke test boots: a disk image of some format, or a kernel and initrd by themselves.

use std::path::PathBuf;

use crate::outside::Outside;
use crate::qemu::Version;
use baker_model::Digest;
use baker_model::plan::{ProbeWay, TestPlan};

/// What is booted and what is known of it.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The disk image; none for a kernel and initrd by themselves.
    pub medium: Option<Medium>,
    /// The digest that the medium must have, before and after; of the kernel's bytes followed by
    /// the initrd's when there is no medium.
    pub digest: Digest,
    /// dm-verity root hash that the guest must show; none when the image has no such thing.
    pub root_hash: Option<Digest>,
    /// What the budgets of a plan are compared with.
    pub sizes: Sizes,
    /// True when the image's own initrd brings the probe: images that baker made.
    pub carries_probe: bool,
    /// A FAT image that holds the guest program as [`baker_contract::PROBE_DISK_FILE`]; none when
    /// there is none to offer.
    pub probe_disk: Option<PathBuf>,
}

/// A disk image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// The file.
    pub path: PathBuf,
    /// What its bytes mean.
    pub format: MediumFormat,
}

/// What the bytes of a disk image mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MediumFormat {
    /// The disk's own bytes.
    #[default]
    Raw,
    /// QEMU copy-on-write, version 2 or 3.
    Qcow2,
    /// VMware.
    Vmdk,
    /// Virtual PC, Hyper-V generation 1: `.vhd`.
    Vpc,
    /// A CD: attached read-only to a CD drive; to a bus that knows none, as a disk.
    Iso,
    /// No disk: an EFI program that firmware is handed, as it would be by a boot server.
    Program,
}

/// Sizes that a plan can limit; none where it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Data of the disk image in bytes, holes not counted.
    pub disk: Option<u64>,
    /// Bytes of the initrd.
    pub initrd: Option<u64>,
    /// Bytes of the UKI.
    pub uki: Option<u64>,
    /// Number of packages in the root.
    pub packages: Option<u64>,
}

/// A plan that cannot be answered for this image; each says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanProblem {
    /// Nothing would be positive evidence.
    #[error(
        "judged from outside, but asks for nothing that shows outside; give it `console` or `http`"
    )]
    NothingOutside,
    /// Something inside is asked, but nobody goes inside.
    #[error("asks for what only a probe can see, but has `probe = \"outside\"`")]
    NeedsProbe,
    /// The probe should come on a disk and there is none.
    #[error("wants the probe on a disk of its own, but there is no such disk to offer")]
    NoProbeDisk,
    /// The probe should come with the image and does not.
    #[error("wants the probe that the image carries, but this image carries none")]
    NotCarried,
    /// A budget limits what is not known.
    #[error("limits {what}, which is not known of this image")]
    UnknownSize {
        /// What is limited.
        what: &'static str,
    },
    /// `http` needs a network card.
    #[error("asks for `http`, but its machine has no network card")]
    NoNetwork,
    /// A restart is ordered through the probe.
    #[error("wants a restart, which only a probe inside can bring about")]
    RestartNeedsProbe,
    /// Neighbours boot the image's kernel with its drivers.
    #[error("has neighbours, which only plain tests of images that baker made can have")]
    NoNeighbours,
    /// The networks between machines are newer than this QEMU.
    #[error("has neighbours, which QEMU {version} cannot connect; install QEMU 7.2 or newer")]
    OldQemu {
        /// The QEMU at hand.
        version: Version,
    },
    /// Plans that share a boot want different machines.
    #[error("wants another machine than the plan that it shares a boot with")]
    OtherMachine,
}

impl Subject {
    /// How the probe gets in for this plan; never `auto`.
    ///
    /// # Errors
    /// The plan cannot be answered for this image.
    pub fn probe_way(&self, plan: &TestPlan) -> Result<ProbeWay, PlanProblem> {
        let shows_outside = !plan.console.is_empty() || Outside::of(plan).next().is_some();
        let way = match plan.probe {
            ProbeWay::Auto if self.carries_probe => ProbeWay::Carried,
            ProbeWay::Auto if !plan.needs_probe() && plan.reboot.is_none() && shows_outside => {
                ProbeWay::Outside
            }
            ProbeWay::Auto => ProbeWay::Disk,
            way => way,
        };
        match way {
            ProbeWay::Outside if plan.reboot.is_some() => Err(PlanProblem::RestartNeedsProbe),
            ProbeWay::Outside if plan.needs_probe() => Err(PlanProblem::NeedsProbe),
            ProbeWay::Outside if !shows_outside => Err(PlanProblem::NothingOutside),
            ProbeWay::Disk if self.probe_disk.is_none() => Err(PlanProblem::NoProbeDisk),
            ProbeWay::Carried if !self.carries_probe => Err(PlanProblem::NotCarried),
            way => Ok(way),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(carries_probe: bool, probe_disk: bool) -> Subject {
        Subject {
            medium: None,
            digest: Digest::of(b""),
            root_hash: None,
            sizes: Sizes::default(),
            carries_probe,
            probe_disk: probe_disk.then(|| "/p".into()),
        }
    }

    #[test]
    fn the_probe_goes_in_only_where_it_is_wanted_and_can() {
        let plan = |probe, console: bool, inside| TestPlan {
            probe,
            console: if console {
                vec!["x".into()]
            } else {
                Vec::new()
            },
            no_shell: inside,
            ..TestPlan::default()
        };
        let (ours, foreign, bare) = (
            subject(true, true),
            subject(false, true),
            subject(false, false),
        );
        let rows = [
            (
                &ours,
                plan(ProbeWay::Auto, true, false),
                Ok(ProbeWay::Carried),
            ),
            (
                &foreign,
                plan(ProbeWay::Auto, true, false),
                Ok(ProbeWay::Outside),
            ),
            (
                &foreign,
                plan(ProbeWay::Auto, true, true),
                Ok(ProbeWay::Disk),
            ),
            (
                &foreign,
                plan(ProbeWay::Auto, false, false),
                Ok(ProbeWay::Disk),
            ),
            (
                &bare,
                plan(ProbeWay::Auto, false, false),
                Err(PlanProblem::NoProbeDisk),
            ),
            (
                &foreign,
                plan(ProbeWay::Carried, false, false),
                Err(PlanProblem::NotCarried),
            ),
            (&ours, plan(ProbeWay::Disk, false, true), Ok(ProbeWay::Disk)),
            (
                &ours,
                plan(ProbeWay::Outside, true, false),
                Ok(ProbeWay::Outside),
            ),
            (
                &ours,
                plan(ProbeWay::Outside, false, false),
                Err(PlanProblem::NothingOutside),
            ),
            (
                &ours,
                plan(ProbeWay::Outside, true, true),
                Err(PlanProblem::NeedsProbe),
            ),
        ];
        for (subject, plan, expected) in rows {
            assert_eq!(subject.probe_way(&plan), expected, "{plan:?}");
        }
    }
}
