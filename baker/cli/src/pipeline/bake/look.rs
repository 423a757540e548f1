//! Inputs for a look into a layer: one more step, and no tree is wanted back.

use std::collections::BTreeMap;
use std::path::Path;

use baker_build::scripts::{self, CommandRequest, Digests, Placed, Start};
use baker_build::{Spool, kernel};
use baker_contract::sandbox::Step;
use baker_model::recipe::Stage;

use super::Baking;
use super::sandboxed::{Layer, Opened, Task};
use super::scripts::{HOST_NAME, Link, Work, package_task};
use crate::exit::{Exit, Failure};

/// What a look into a kept tree finds beside it.
struct Surroundings<'a> {
    name: &'a str,
    epoch: i64,
    environment: &'a BTreeMap<String, String>,
    placed: &'a [Placed<'a>],
}

impl Baking<'_> {
    /// Writes the input for looking into the packages' part of the chain; gives the number of
    /// steps before the look.
    pub(super) fn write_look(
        &self,
        links: &[Link<'_>],
        host: (&kernel::KernelParts, &Spool),
        look: Step,
        path: &Path,
    ) -> Result<usize, Failure> {
        let without = || Failure::message(Exit::Internal, "a chain without packages");
        let is_packages = |link: &Link<'_>| matches!(link.work, Work::Packages { .. });
        let last = links.iter().rposition(is_packages).ok_or_else(without)?;
        let (last, below) = (&links[last], &links[..last]);
        let Work::Packages { lock, answers } = &last.work else {
            return Err(without());
        };
        let release = host.0.release.as_str();
        if let Some(layer) = self.kept(&last.key) {
            let surroundings = Surroundings {
                name: &last.name,
                epoch: last.epoch,
                environment: &BTreeMap::new(),
                placed: &[],
            };
            return self.write_kept_look(&layer, surroundings, release, look, path);
        }
        let below = match below.is_empty() {
            true => None,
            false => Some(self.layer(below, host)?),
        };
        let mut plan = self.plan(lock, answers, below.as_ref(), release)?;
        plan.job.wants_tree = false;
        let before = plan.job.steps.len();
        plan.job.steps.push(look);
        let task = package_task(&last.name, &plan, answers);
        self.write_packages(&plan, &task, below.as_ref(), host.1, path)?;
        Ok(before)
    }

    /// Writes the input for looking into a stage as its commands find it; gives the number of
    /// steps before the look.
    pub(super) fn write_stage_look(
        &self,
        stage: &Stage,
        host: (&kernel::KernelParts, &Spool),
        look: Step,
        path: &Path,
    ) -> Result<usize, Failure> {
        let release = host.0.release.as_str();
        let below = self.layer(&[self.ground(stage, release)?], host)?;
        let surroundings = Surroundings {
            name: &stage.name,
            epoch: self.lock.epoch,
            environment: &stage.environment,
            placed: &self.placed(&stage.inputs)?,
        };
        self.write_kept_look(&below, surroundings, release, look, path)
    }

    fn write_kept_look(
        &self,
        layer: &Layer,
        surroundings: Surroundings<'_>,
        release: &str,
        look: Step,
        path: &Path,
    ) -> Result<usize, Failure> {
        let mut job = scripts::commands(CommandRequest {
            commands: &[],
            more: surroundings.environment,
            epoch: surroundings.epoch,
            host_name: HOST_NAME,
            kernel_release: release,
            outputs: &[],
        });
        job.wants_tree = false;
        job.steps.push(look);
        let task = Task {
            name: surroundings.name,
            look: "",
            job: &job,
            digests: &Digests::new(),
            packages: &[],
            answers: "",
            placed: surroundings.placed,
        };
        let Opened { mut archive, size } = self.opened(layer)?;
        self.write_task(&task, Start::Kept(&mut archive, size), path)?;
        Ok(0)
    }
}
