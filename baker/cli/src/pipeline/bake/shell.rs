//! A look into the tree as packages' scripts leave it, or left it when one failed.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::Path;

use baker_build::scripts::{self, Files};
use baker_build::{Spool, kernel};
use baker_contract::sandbox::{Job, Step, set_clock};
use baker_sandbox::{Errand, Hear, Kind};

use super::{BakeRequest, Baking};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::sandbox;
use crate::program::CLOCK;
use crate::workdir::WorkFolder;

/// Bytes copied at a time.
const BUFFER: usize = 1 << 20;

/// Runs a command in the tree, or a shell for a person when none is given. Nothing is kept.
///
/// # Errors
/// The recipe has no sandbox, the sandbox does not work, or the command fails.
pub fn shell(
    request: BakeRequest<'_>,
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
    let input = work.path().join("sandbox.input");
    let last = baking.write_shell_input(&kernel, &spool, command, &input)?;
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

impl Baking<'_> {
    /// The kept tree when there is one, else all that makes it; then the command. Gives the number
    /// of the command's step.
    fn write_shell_input(
        &self,
        kernel: &kernel::KernelParts,
        spool: &Spool,
        command: &[String],
        path: &Path,
    ) -> Result<usize, Failure> {
        let mut plan = self.plan_scripts(kernel)?;
        let key = self.key(&plan);
        plan.job.wants_tree = false;
        let step = shell_step(command);
        let Some(layer) = self.kept(&key) else {
            plan.job.steps.push(step);
            let last = plan.job.steps.len() - 1;
            return self.write_input(&plan, spool, path).map(|()| last);
        };
        let job = Job {
            steps: vec![step],
            ..plan.job
        };
        let write = || -> io::Result<()> {
            let tree = self.store.open_verified(&layer.tree, layer.size);
            let mut tree = BufReader::with_capacity(BUFFER, tree.map_err(io::Error::other)?);
            let mut out = BufWriter::with_capacity(BUFFER, File::create_new(path)?);
            let clock = set_clock(CLOCK, job.epoch, &job.kernel_release);
            let files = Files {
                clock: clock.as_deref(),
                answers: "",
            };
            scripts::write_kept(&job, (&mut tree, layer.size), files, &mut out)?;
            out.flush()
        };
        write().map_err(|error| self.failed(error)).map(|()| 0)
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
