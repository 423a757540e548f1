//! Build stages: trees of their own, of which only the outputs enter the image.

use baker_build::scripts::{self, CommandRequest, Digests, Start, graft};
use baker_build::{Spool, kernel};
use baker_model::event::Outcome;
use baker_model::recipe::Stage;
use baker_model::{Digest, Tree};

use super::Baking;
use super::sandboxed::{Layer, Opened, Task};
use super::scripts::{HOST_NAME, Link, command_key};
use crate::exit::{Exit, Failure};

/// Name of the stage in events.
const STAGE: &str = "stages";

impl Baking<'_> {
    /// What the recipe's stages made, in their order.
    pub(super) fn stages(
        &self,
        kernel: &kernel::KernelParts,
        spool: &Spool,
    ) -> Result<Vec<Layer>, Failure> {
        let stages = self.folder.recipe.stages.iter();
        stages
            .map(|stage| self.build_stage(stage, (kernel, spool)))
            .collect()
    }

    /// The packages of a stage.
    pub(super) fn ground(&self, stage: &Stage, release: &str) -> Result<Link<'static>, Failure> {
        let mut locked = self.lock.stages.iter();
        let locked = locked.find(|locked| locked.name == stage.name);
        let locked = locked.ok_or_else(|| {
            let problem = format!("the lock does not know the stage `{}`", stage.name);
            let help = format!("run: baker lock {}", self.folder.words());
            Failure::message(Exit::Build, problem).help(help)
        })?;
        Ok(self.alone(&stage.name, &locked.packages, release))
    }

    /// Names what a stage makes on its packages.
    pub(super) fn stage_key(
        &self,
        stage: &Stage,
        ground: &Link<'_>,
        release: &str,
    ) -> Result<Digest, Failure> {
        let placed = self.placed(&stage.inputs)?;
        let words = (&stage.commands, &stage.environment, &outputs(stage));
        let place = (Some(ground.key), self.lock.epoch, release);
        Ok(command_key("stage", &words, &placed, place))
    }

    fn build_stage(
        &self,
        stage: &Stage,
        host: (&kernel::KernelParts, &Spool),
    ) -> Result<Layer, Failure> {
        let release = host.0.release.as_str();
        let ground = self.ground(stage, release)?;
        let placed = self.placed(&stage.inputs)?;
        let outputs = outputs(stage);
        let key = self.stage_key(stage, &ground, release)?;
        if let Some(layer) = self.usable(&key) {
            let summary = |_: &Layer| (Outcome::Reused, stage.name.clone());
            return self.stage_as(STAGE, || Ok(layer), summary);
        }
        let below = self.layer(&[ground], host)?;
        let job = scripts::commands(CommandRequest {
            commands: &stage.commands,
            more: &stage.environment,
            epoch: self.lock.epoch,
            host_name: HOST_NAME,
            kernel_release: release,
            outputs: &outputs,
        });
        let look = format!("--stage {}", stage.name);
        let task = Task {
            name: &stage.name,
            look: &look,
            job: &job,
            digests: &Digests::new(),
            packages: &[],
            answers: "",
            placed: &placed,
        };
        let work = || -> Result<Layer, Failure> {
            let input = self.input_path();
            let Opened { mut archive, size } = self.opened(&below)?;
            self.write_task(&task, Start::Kept(&mut archive, size), &input)?;
            let mut layer = self.perform(&task, &input, host)?;
            layer.scripts.splice(0..0, below.scripts.iter().cloned());
            self.keep(&key, &layer)?;
            Ok(layer)
        };
        let count = stage.commands.len();
        let summary = |layer: &Layer| format!("{}: {count} ran in {}", stage.name, layer.runner);
        self.stage(STAGE, work, summary)
    }

    /// Puts the outputs of the stages into the root.
    pub(super) fn take_outputs(
        &self,
        root: &mut Tree,
        made: &[Layer],
        spool: &Spool,
    ) -> Result<(), Failure> {
        let epoch = self.lock.epoch;
        for (stage, layer) in self.folder.recipe.stages.iter().zip(made) {
            let tree = self.tree_of(layer, spool)?;
            for output in &stage.outputs {
                graft(root, &tree, output, epoch).map_err(|error| {
                    let context = format!("the stage `{}` cannot be used", stage.name);
                    self.failed(error).context(context)
                })?;
            }
        }
        Ok(())
    }
}

/// What a stage gives, as its commands name it.
fn outputs(stage: &Stage) -> Vec<String> {
    stage.outputs.iter().map(|it| it.from.clone()).collect()
}
