//! The packages' own scripts: planned, run in a sandbox unless that was done before, and their
//! tree taken over.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use baker_build::describe::{Bytes, Piece};
use baker_build::scripts::{self, Failed, Files, Plan, PlanRequest, Ran, ScriptsError, Transcript};
use baker_build::{Assembled, Spool, assemble, kernel};
use baker_contract::sandbox::set_clock;
use baker_model::manifest::FileRole;
use baker_model::recipe::Preseed;
use baker_model::{Digest, Digester};
use baker_sandbox::{Errand, Hear, Runner};
use serde::{Deserialize, Serialize};

use super::{Baking, Kept, Names};
use crate::exit::{Exit, Failure};
use crate::pipeline::sandbox;
use crate::program::{CLOCK, SANDBOX};

/// Name of the stage in events.
const STAGE: &str = "scripts";

/// What a host is called while packages are installed: the image's own name comes later.
const HOST_NAME: &str = "baker";

/// Version of the stage: another one makes other trees of the same inputs.
const VERSION: &str = "baker-scripts-1";

/// Bytes read or written at a time.
const BUFFER: usize = 1 << 20;

/// What a sandbox gave, as the store keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in super::super) struct Layer {
    /// Where it ran.
    runner: String,
    /// Digest of the archive of the tree.
    pub(super) tree: Digest,
    /// Its size.
    pub(super) size: u64,
    /// What ran.
    scripts: Vec<Ran>,
}

impl Layer {
    /// Writes the record into the draft.
    pub(super) fn write(&self, out: &Path, names: &Names) -> io::Result<Piece> {
        let path = out.join(&names.scripts);
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        fs::write(&path, bytes)?;
        Ok(Piece {
            name: names.scripts.clone(),
            role: FileRole::Scripts,
            bytes: Bytes::File(path),
        })
    }
}

impl Baking<'_> {
    /// The root as the scripts leave it, and the record of what they did.
    pub(super) fn scripts(
        &self,
        assembled: Assembled,
        kernel: &kernel::KernelParts,
        spool: &Spool,
    ) -> Result<(Assembled, Layer), Failure> {
        let plan = self.plan_scripts(kernel)?;
        let key = self.key(&plan);
        let kept = match self.kept {
            Kept::Used => self.kept(&key),
            Kept::Ignored => None,
        };
        let layer = match kept {
            Some(layer) => self.stage(STAGE, || Ok(layer), |_| "reused".to_owned())?,
            None => self.stage(
                STAGE,
                || self.run_scripts(&plan, &key, kernel, spool),
                |layer| format!("{} ran in {}", layer.scripts.len(), layer.runner),
            )?,
        };
        let kept = self.store.open_verified(&layer.tree, layer.size);
        let kept = kept.map_err(|error| {
            let help = "run the scripts again: baker bake --anew";
            self.failed(error).help(help)
        })?;
        let settle = || -> Result<Assembled, ScriptsError> {
            let reader = BufReader::with_capacity(BUFFER, kept);
            let interrupt = self.context.interrupt();
            let tree = scripts::import(reader, spool, self.lock.epoch, interrupt)?;
            scripts::settle(tree, assembled, self.lock, spool)
        };
        let assembled = settle().map_err(|error| self.failed(error))?;
        Ok((assembled, layer))
    }

    pub(super) fn plan_scripts(&self, kernel: &kernel::KernelParts) -> Result<Plan, Failure> {
        let plan = scripts::plan(PlanRequest {
            lock: self.lock,
            inputs: self.store,
            answers: &self.answers(),
            host_name: HOST_NAME,
            kernel_release: &kernel.release,
        });
        plan.map_err(|error| self.failed(error))
    }

    /// The recipe's answers to questions of packages.
    fn answers(&self) -> String {
        let preseeds = self.folder.recipe.debian.preseeds.iter();
        preseeds.map(Preseed::line).collect()
    }

    /// Decides whether a run can be reused: everything that goes into the sandbox.
    pub(super) fn key(&self, plan: &Plan) -> Digest {
        let mut digester = Digester::new();
        digester.update(VERSION.as_bytes());
        digester.update(Digest::of(SANDBOX).as_bytes());
        digester.update(Digest::of(CLOCK).as_bytes());
        digester.update(Digest::of(&plan.job.to_bytes()).as_bytes());
        digester.update(Digest::of(self.answers().as_bytes()).as_bytes());
        for package in &plan.packages {
            digester.update(package.sha256.as_bytes());
        }
        digester.finish()
    }

    /// What an earlier run with the same inputs gave; none when there is none, or not any more.
    pub(super) fn kept(&self, key: &Digest) -> Option<Layer> {
        let text = fs::read(self.layer_path(key)).ok()?;
        let layer: Layer = serde_json::from_slice(&text).ok()?;
        let presence = self.store.presence(&layer.tree, layer.size).ok()?;
        (presence == baker_fetch::Presence::Present).then_some(layer)
    }

    fn layer_path(&self, key: &Digest) -> std::path::PathBuf {
        self.store.stages().join(format!("scripts-{key}.json"))
    }

    fn run_scripts(
        &self,
        plan: &Plan,
        key: &Digest,
        kernel: &kernel::KernelParts,
        spool: &Spool,
    ) -> Result<Layer, Failure> {
        let input = self.work.join("sandbox.input");
        self.write_input(plan, spool, &input)?;
        let runner = sandbox::choose(&sandbox::Needs {
            recipe: &self.folder.recipe,
            kernel,
            spool,
            work: &self.work,
            epoch: self.lock.epoch,
            context: self.context,
        })?;
        let archive = self.work.join("sandbox.tar");
        let scripts = self.hear(plan, &*runner, &input, &archive)?;
        let kept = self.store.put_file(&archive);
        let (tree, size) = kept.map_err(|error| self.failed(error))?;
        for path in [&input, &archive] {
            fs::remove_file(path).map_err(|error| self.failed(error))?;
        }
        let layer = Layer {
            runner: runner.kind().name().to_owned(),
            tree,
            size,
            scripts,
        };
        self.keep(key, &layer).map_err(|error| self.failed(error))?;
        Ok(layer)
    }

    fn hear(
        &self,
        plan: &Plan,
        runner: &dyn Runner,
        input: &Path,
        archive: &Path,
    ) -> Result<Vec<Ran>, Failure> {
        let out = File::create_new(archive).map_err(|error| self.failed(error))?;
        let mut taker = Taker {
            transcript: Transcript::new(&plan.job.steps, &plan.digests),
            out: BufWriter::with_capacity(BUFFER, out),
            start: Instant::now(),
        };
        let errand = Errand {
            input,
            interrupt: self.context.interrupt(),
        };
        let ran = runner.run(errand, &mut taker);
        ran.map_err(|error| sandbox::failure(self.context, error))?;
        taker.out.flush().map_err(|error| self.failed(error))?;
        let finished = taker.transcript.finish();
        finished.map_err(|failed| self.script_failed(&failed))
    }

    fn script_failed(&self, failed: &Failed) -> Failure {
        let Failed {
            package,
            what,
            code,
            last,
        } = failed;
        let who = match package {
            Some(package) => format!("package `{package}` cannot be installed: {what}"),
            None => format!("`{what}` ended with code {code}"),
        };
        let text = format!("{who}\nits last lines:\n{last}");
        let recipe = self.folder.path.display();
        let help = format!("look into it: baker shell {recipe} --at configure");
        Failure::message(Exit::Build, text).help(help)
    }

    fn keep(&self, key: &Digest, layer: &Layer) -> io::Result<()> {
        let folder = self.store.stages();
        fs::create_dir_all(&folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        serde_json::to_writer(&mut file, layer)?;
        file.persist(self.layer_path(key))?;
        Ok(())
    }

    pub(super) fn write_input(
        &self,
        plan: &Plan,
        spool: &Spool,
        path: &Path,
    ) -> Result<(), Failure> {
        let request = assemble::Request {
            lock: &plan.base,
            inputs: self.store,
            spool,
            threads: self.threads,
            limits: assemble::Limits::default(),
            clashes: assemble::Clashes::LeftToDpkg,
            listener: &baker_model::Silent,
            interrupt: self.context.interrupt(),
        };
        let base = assemble::assemble(request).map_err(|error| self.assembly(error))?;
        let file = File::create_new(path).map_err(|error| self.failed(error))?;
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let answers = self.answers();
        let clock = set_clock(CLOCK, plan.job.epoch, &plan.job.kernel_release);
        let files = Files {
            clock: clock.as_deref(),
            answers: &answers,
        };
        let interrupt = self.context.interrupt();
        let (base, inputs) = ((&base.tree, spool), (self.store as &_, self.threads));
        scripts::write_input(plan, base, files, inputs, &mut out, interrupt)
            .map_err(|error| self.failed(error))?;
        out.flush().map_err(|error| self.failed(error))
    }
}

/// Takes what comes out of the sandbox.
struct Taker<'a> {
    transcript: Transcript<'a>,
    out: BufWriter<File>,
    start: Instant,
}

impl Taker<'_> {
    fn at(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Hear for Taker<'_> {
    fn started(&mut self, step: u32) {
        self.transcript.started(step, self.at());
    }

    fn output(&mut self, bytes: &[u8]) {
        self.transcript.output(bytes, self.at());
    }

    fn ended(&mut self, code: i32) {
        self.transcript.ended(code, self.at());
    }

    fn tree(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }
}
