//! The packages' own scripts: planned, run in a sandbox, and their tree taken over.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};

use baker_build::scripts::{self, Files, Plan, PlanRequest, ScriptsError};
use baker_build::{Assembled, Spool, assemble, kernel};
use baker_sandbox::{Errand, Hear, Namespaces, Runner};

use super::Baking;
use crate::exit::Failure;
use crate::program::SANDBOX;

/// Name of the stage in events.
const STAGE: &str = "scripts";

impl Baking<'_> {
    /// The root as the scripts leave it.
    pub(super) fn scripts(
        &self,
        assembled: Assembled,
        kernel: &kernel::KernelParts,
        spool: &Spool,
    ) -> Result<Assembled, Failure> {
        self.stage(
            STAGE,
            || self.scripted(assembled, kernel, spool),
            |_| "done".to_owned(),
        )
    }

    fn scripted(
        &self,
        assembled: Assembled,
        kernel: &kernel::KernelParts,
        spool: &Spool,
    ) -> Result<Assembled, Failure> {
        let plan = scripts::plan(PlanRequest {
            lock: self.lock,
            inputs: self.store,
            answers: "",
            host_name: "baker",
            kernel_release: &kernel.release,
        })
        .map_err(|error| self.failed(error))?;
        let input = self.work.join("sandbox.input");
        self.write_input(&plan, spool, &input)?;
        let runner = Namespaces::find(SANDBOX).map_err(|error| self.failed(error))?;
        let archive = self.work.join("sandbox.tar");
        let out = File::create_new(&archive).map_err(|error| self.failed(error))?;
        let mut taker = Taker { out };
        let errand = Errand {
            input: &input,
            interrupt: self.context.interrupt(),
        };
        let ran = runner.run(errand, &mut taker);
        fs::remove_file(&input).map_err(|error| self.failed(error))?;
        ran.map_err(|error| self.failed(error))?;
        let settle = || -> Result<Assembled, ScriptsError> {
            let file = File::open(&archive).map_err(ScriptsError::Write)?;
            let tree = scripts::import(
                BufReader::with_capacity(1 << 20, file),
                spool,
                self.lock.epoch,
                self.context.interrupt(),
            )?;
            scripts::settle(tree, assembled, self.lock, spool)
        };
        settle().map_err(|error| self.failed(error))
    }

    fn write_input(
        &self,
        plan: &Plan,
        spool: &Spool,
        path: &std::path::Path,
    ) -> Result<(), Failure> {
        let request = assemble::Request {
            lock: &plan.base,
            inputs: self.store,
            spool,
            threads: self.threads,
            limits: assemble::Limits::default(),
            listener: &baker_model::Silent,
            interrupt: self.context.interrupt(),
        };
        let base = assemble::assemble(request).map_err(|error| self.assembly(error))?;
        let file = File::create_new(path).map_err(|error| self.failed(error))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let files = Files {
            clock: None,
            answers: "",
        };
        let interrupt = self.context.interrupt();
        scripts::write_input(
            plan,
            (&base.tree, spool),
            files,
            self.store,
            &mut out,
            interrupt,
        )
        .map_err(|error| self.failed(error))?;
        out.flush().map_err(|error| self.failed(error))
    }
}

struct Taker {
    out: File,
}

impl Hear for Taker {
    fn started(&mut self, step: u32) {
        eprintln!("== step {step}");
    }

    fn output(&mut self, bytes: &[u8]) {
        io::stderr().write_all(bytes).ok();
    }

    fn ended(&mut self, code: i32) {
        eprintln!("== code {code}");
    }

    fn tree(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }
}
