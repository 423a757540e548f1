//! A look into the tree as packages' scripts leave it, or left it when one failed; or into that of
//! a stage.

use std::io::{self, Write as _};

use baker_build::Spool;
use baker_contract::sandbox::Step;
use baker_sandbox::{Errand, Hear, Kind};

use super::{BakeRequest, Baking};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::sandbox;
use crate::workdir::WorkFolder;

/// Runs a command in the tree, or a shell for a person when none is given. Nothing is kept.
///
/// # Errors
/// The recipe has no sandbox, the sandbox does not work, or the command fails.
pub fn shell(
    request: BakeRequest<'_>,
    stage: Option<&str>,
    command: &[String],
    context: &Context,
) -> Result<(), Failure> {
    let failed = |error: io::Error| context.failure(Exit::Build, error);
    let folder = tempfile::tempdir().map_err(super::super::workdir_failure)?;
    let work = WorkFolder::new(folder.path(), "shell").map_err(failed)?;
    let store = context.store()?;
    let baking = Baking::new(request, &store, work.path(), context);
    let spool = Spool::new(work.path()).map_err(failed)?;
    let (kernel, _) = baking.kernel(&spool)?;
    super::super::materials::keep_local(request.folder, request.lock, baking.store)
        .map_err(|error| baking.failed(error))?;
    let input = baking.input_path();
    let (host, look) = ((&kernel, &spool), shell_step(command));
    let mut stages = request.folder.recipe.stages.iter();
    let last = match stages.find(|known| Some(known.name.as_str()) == stage) {
        Some(stage) => baking.write_stage_look(stage, host, look, &input)?,
        None => {
            let links = baking.links(&kernel.release)?;
            baking.write_look(&links, host, look, &input)?
        }
    };
    let runner = sandbox::choose(&sandbox::Needs {
        recipe: &request.folder.recipe,
        kernel: &kernel,
        spool: &spool,
        work: work.path(),
        epoch: request.lock.epoch,
        context,
    })?;
    if command.is_empty() && runner.kind() == Kind::Machine {
        let problem = "a shell for a person needs namespaces: a machine has no terminal to give";
        let help = "name a command: baker shell RECIPE --sandbox machine -- ls -l /etc";
        return Err(Failure::message(Exit::Environment, problem).help(help));
    }
    let errand = Errand {
        input: &input,
        interrupt: context.interrupt(),
    };
    let mut passes = Passes {
        step: 0,
        last,
        code: 0,
    };
    let ran = runner.run(errand, &mut passes);
    ran.map_err(|error| sandbox::failure(context, error))?;
    match passes.code {
        0 => Ok(()),
        code => {
            let problem = format!("the command ended with code {code}");
            Err(Failure::message(Exit::Build, problem))
        }
    }
}

/// The command; a shell with a person at its other end when there is none.
fn shell_step(command: &[String]) -> Step {
    if command.is_empty() {
        return Step {
            argv: vec!["/bin/sh".to_owned(), "-i".to_owned()],
            is_interactive: true,
            runs_after_failure: true,
            ..Step::default()
        };
    }
    Step {
        argv: command.to_vec(),
        runs_after_failure: true,
        ..Step::default()
    }
}

/// Passes on what the command says.
struct Passes {
    step: usize,
    last: usize,
    code: i32,
}

impl Hear for Passes {
    fn started(&mut self, step: u32) {
        self.step = usize::try_from(step).unwrap_or(usize::MAX);
    }

    fn output(&mut self, bytes: &[u8]) {
        if self.step >= self.last {
            // Nobody listens any more: the sandbox ends soon.
            io::stdout().write_all(bytes).ok();
        }
    }

    fn ended(&mut self, code: i32) {
        self.code = code;
    }

    fn tree(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
