//! The packages' own scripts and the recipe's commands, as a chain of layers: each stands on the
//! one below, is named by all that went into it, and is run in a sandbox unless it is kept.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::LazyLock;

use baker_build::describe::{Bytes, Piece};
use baker_build::keep::Key;
use baker_build::scripts::{
    self, CommandRequest, Digests, Ground, ImportRequest, Placed, PlacedBytes, Plan, PlanRequest,
    Ran, Start, Survey,
};
use baker_build::{Assembled, Spool, assemble, kernel};
use baker_model::event::Outcome;
use baker_model::lock::{LayerLock, PackageLock};
use baker_model::manifest::FileRole;
use baker_model::recipe::{FileSource, Input, Preseed, Run};
use baker_model::tree::TreePath;
use baker_model::{Digest, Digester, Lock, Tree};
use serde::Serialize;

use super::sandboxed::{Layer, Opened, Task};
use super::{Baking, Names};
use crate::exit::{Exit, Failure};
use crate::program::{CLOCK, SANDBOX};

/// Name of the stage in events.
const STAGE: &str = "scripts";

/// Opens the tree as packages' scripts leave it.
const LOOK: &str = "--at configure";

/// What a host is called while packages are installed: the image's own name comes later.
pub(super) const HOST_NAME: &str = "baker";

/// Version of the stage: another one makes other trees of the same inputs.
const VERSION: &str = "baker-scripts-4";

/// Digest of what baker brings into the sandbox.
static PROGRAMS: LazyLock<Digest> = LazyLock::new(|| {
    let mut digester = Digester::new();
    for program in [SANDBOX, CLOCK] {
        digester.update(Digest::of(program).as_bytes());
    }
    digester.finish()
});

/// One layer of the chain.
pub(super) struct Link<'a> {
    /// Name for people.
    pub(super) name: String,
    pub(super) work: Work<'a>,
    /// The time that its clocks show.
    pub(super) epoch: i64,
    /// All that goes into it and into those below.
    pub(super) key: Digest,
}

/// A chain while it grows.
struct Chain<'a> {
    links: Vec<Link<'a>>,
    /// Release of the kernel.
    release: &'a str,
}

impl<'a> Chain<'a> {
    fn push(&mut self, name: &str, work: Work<'a>, epoch: i64) {
        let below = self.links.last().map(|link| link.key);
        self.links.push(Link {
            key: key(&work, below, epoch, self.release),
            name: name.to_owned(),
            work,
            epoch,
        });
    }
}

/// What is done for a layer.
pub(super) enum Work<'a> {
    /// Packages are installed.
    Packages {
        lock: Box<Lock>,
        answers: Cow<'a, str>,
    },
    /// A command is run.
    Run(&'a Run, Vec<Placed<'a>>),
}

/// What ran for an image, as the draft has it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Record<'a> {
    runner: &'a str,
    tree: Digest,
    size: u64,
    scripts: &'a [Ran],
    #[serde(skip_serializing_if = "<[Layer]>::is_empty")]
    stages: &'a [Layer],
}

/// Writes the record into the draft.
pub(super) fn write_record(
    layer: Option<&Layer>,
    stages: &[Layer],
    out: &Path,
    names: &Names,
) -> io::Result<Option<Piece>> {
    let Some(first) = layer.or(stages.first()) else {
        return Ok(None);
    };
    let record = Record {
        runner: &first.runner,
        tree: first.tree,
        size: first.size,
        scripts: layer.map_or(&[], |layer| &layer.scripts),
        stages,
    };
    let path = out.join(&names.scripts);
    let mut bytes = serde_json::to_vec_pretty(&record)?;
    bytes.push(b'\n');
    fs::write(&path, bytes)?;
    Ok(Some(Piece {
        name: names.scripts.clone(),
        role: FileRole::Scripts,
        bytes: Bytes::File(path),
    }))
}

impl Baking<'_> {
    /// The root as scripts and commands leave it, and the record of what they did.
    pub(super) fn scripts(
        &self,
        assembled: Assembled,
        kernel: &kernel::KernelParts,
        spool: &Spool,
    ) -> Result<(Assembled, Layer), Failure> {
        let links = self.links(&kernel.release)?;
        let layer = self.layer(&links, (kernel, spool))?;
        let tree = self.tree_of(&layer, spool)?;
        let made = layer.made.iter().map(TreePath::new);
        let made: BTreeSet<TreePath> = made
            .collect::<Result<_, _>>()
            .map_err(|error| self.failed(error))?;
        let settled = scripts::settle(tree, assembled, self.lock, &made, spool);
        let assembled = settled.map_err(|error| self.failed(error))?;
        Ok((assembled, layer))
    }

    /// The tree of a layer.
    pub(super) fn tree_of(&self, layer: &Layer, spool: &Spool) -> Result<Tree, Failure> {
        let request = ImportRequest {
            source: layer.tree,
            keep: Some(&self.keep),
            spool,
            epoch: self.lock.epoch,
            interrupt: self.context.interrupt(),
        };
        let kept = scripts::kept(request).map_err(|error| self.failed(error))?;
        if let Some(tree) = kept {
            return Ok(tree);
        }
        let archive = self.opened(layer)?.archive;
        scripts::import(archive, request).map_err(|error| self.failed(error))
    }

    /// The chain of the recipe: what it extends first.
    pub(super) fn links<'a>(&'a self, release: &'a str) -> Result<Vec<Link<'a>>, Failure> {
        let recipe = &self.folder.recipe;
        let mut chain = Chain {
            links: Vec::new(),
            release,
        };
        let known = self.lock.layers.iter();
        let known: BTreeSet<&str> = known
            .flat_map(|layer| layer.packages.iter().map(String::as_str))
            .collect();
        let mut ran: BTreeSet<&str> = BTreeSet::new();
        for layer in &self.lock.layers {
            chain.push(&layer.recipe, self.packages_of(layer), layer.epoch);
            for name in &layer.runs {
                if let Some(run) = recipe.runs.iter().find(|run| run.name == *name) {
                    let work = Work::Run(run, self.placed(&run.inputs)?);
                    chain.push(name, work, layer.epoch);
                    ran.insert(name);
                }
            }
        }
        let is_own = |package: &&PackageLock| {
            package.role.is_installed() && !known.contains(package.name.as_str())
        };
        let own: Vec<PackageLock> = self.lock.packages.iter().filter(is_own).cloned().collect();
        if !own.is_empty() {
            let answers = recipe.debian.preseeds.iter().map(Preseed::line).collect();
            let work = self.installs(own, self.lock.epoch, Cow::Owned(answers));
            chain.push(&recipe.name, work, self.lock.epoch);
        }
        for run in recipe
            .runs
            .iter()
            .filter(|run| !ran.contains(run.name.as_str()))
        {
            let work = Work::Run(run, self.placed(&run.inputs)?);
            chain.push(&run.name, work, self.lock.epoch);
        }
        Ok(chain.links)
    }

    /// The chain of a set of packages by itself.
    pub(super) fn alone(
        &self,
        name: &str,
        packages: &[PackageLock],
        release: &str,
    ) -> Link<'static> {
        let epoch = self.lock.epoch;
        let work = self.installs(packages.to_vec(), epoch, Cow::Borrowed(""));
        let key = key(&work, None, epoch, release);
        Link {
            name: name.to_owned(),
            work,
            epoch,
            key,
        }
    }

    fn packages_of<'a>(&self, layer: &'a LayerLock) -> Work<'a> {
        let names: BTreeSet<&str> = layer.packages.iter().map(String::as_str).collect();
        let is_its = |package: &&PackageLock| {
            package.role.is_installed() && names.contains(package.name.as_str())
        };
        let packages = self.lock.packages.iter().filter(is_its).cloned().collect();
        self.installs(packages, layer.epoch, Cow::Borrowed(&layer.answers))
    }

    fn installs<'a>(
        &self,
        packages: Vec<PackageLock>,
        epoch: i64,
        answers: Cow<'a, str>,
    ) -> Work<'a> {
        let lock = Lock {
            packages,
            epoch,
            ..self.lock.clone()
        };
        Work::Packages {
            lock: Box::new(lock),
            answers,
        }
    }

    /// The files that a command reads.
    pub(super) fn placed<'a>(&'a self, inputs: &'a [Input]) -> Result<Vec<Placed<'a>>, Failure> {
        let mut placed = Vec::new();
        for input in inputs {
            let mut add = |path: String, bytes| {
                let mode = input.mode.0;
                placed.push(Placed { path, mode, bytes });
            };
            let source = match input.source() {
                FileSource::Content(text) => {
                    add(input.path.clone(), PlacedBytes::Given(text.as_bytes()));
                    continue;
                }
                FileSource::Local(source) => source.trim_end_matches('/'),
            };
            let mut found = false;
            for file in &self.lock.files {
                let Some(rest) = file.path.strip_prefix(source) else {
                    continue;
                };
                if rest.is_empty() || rest.starts_with('/') {
                    let path = format!("{}{rest}", input.path);
                    add(path, PlacedBytes::Stored(file.sha256, file.size));
                    found = true;
                }
            }
            if !found {
                let problem = format!("the lock names no file of the input {source}");
                let help = format!("run: baker lock {}", self.folder.words());
                return Err(Failure::message(Exit::Build, problem).help(help));
            }
        }
        Ok(placed)
    }

    /// The last layer of a chain: kept, or made on the highest that is kept.
    pub(super) fn layer(
        &self,
        links: &[Link<'_>],
        host: (&kernel::KernelParts, &Spool),
    ) -> Result<Layer, Failure> {
        let kept = links.iter().enumerate().rev();
        let mut kept = kept.filter_map(|(at, link)| Some((at, self.usable(&link.key)?)));
        let (mut next, mut below) = match kept.next() {
            Some((at, layer)) => (at + 1, Some(layer)),
            None => (0, None),
        };
        if let (true, Some(layer)) = (next == links.len(), &below) {
            let summary = |layer: &Layer| {
                let text = format!("{} scripts ran before", layer.scripts.len());
                (Outcome::Reused, text)
            };
            return self.stage_as(STAGE, || Ok(layer.clone()), summary);
        }
        while let Some(link) = links.get(next) {
            let layer = self.stage(
                STAGE,
                || self.add(link, below.as_ref(), host),
                |layer| {
                    let before = below.as_ref().map_or(0, |below| below.scripts.len());
                    let count = layer.scripts.len() - before;
                    format!("{}: {count} ran in {}", link.name, layer.runner)
                },
            )?;
            below = Some(layer);
            next += 1;
        }
        below.ok_or_else(|| Failure::message(Exit::Internal, "a chain without a layer"))
    }

    /// Makes one layer on another, and keeps it.
    fn add(
        &self,
        link: &Link<'_>,
        below: Option<&Layer>,
        host: (&kernel::KernelParts, &Spool),
    ) -> Result<Layer, Failure> {
        let mut layer = match &link.work {
            Work::Packages { lock, answers } => {
                let plan = self.plan(lock, answers, below, &host.0.release)?;
                let task = package_task(&link.name, &plan, answers);
                let input = self.input_path();
                self.write_packages(&plan, &task, below, host.1, &input)?;
                self.perform(&task, &input, host)?
            }
            Work::Run(run, placed) => {
                let below = below.ok_or_else(|| {
                    Failure::message(Exit::Internal, "a command without packages below it")
                })?;
                self.run_command(run, placed, (link.epoch, below), host)?
            }
        };
        if let Some(below) = below {
            layer.scripts.splice(0..0, below.scripts.iter().cloned());
            let mut made: BTreeSet<String> = below.made.iter().cloned().collect();
            made.extend(layer.made);
            layer.made = made.into_iter().collect();
        }
        self.keep(&link.key, &layer)?;
        Ok(layer)
    }

    fn run_command(
        &self,
        run: &Run,
        placed: &[Placed<'_>],
        (epoch, below): (i64, &Layer),
        host: (&kernel::KernelParts, &Spool),
    ) -> Result<Layer, Failure> {
        let job = scripts::commands(CommandRequest {
            commands: std::slice::from_ref(&run.command),
            more: &run.environment,
            epoch,
            host_name: HOST_NAME,
            kernel_release: &host.0.release,
            outputs: &[],
        });
        let task = Task {
            name: &run.name,
            look: LOOK,
            job: &job,
            digests: &Digests::new(),
            packages: &[],
            answers: "",
            placed,
        };
        let input = self.input_path();
        let Opened { mut archive, size } = self.opened(below)?;
        self.write_task(&task, Start::Kept(&mut archive, size), &input)?;
        let mut layer = self.perform(&task, &input, host)?;
        let survey = |layer: &Layer| -> Result<Survey, Failure> {
            let archive = self.opened(layer)?.archive;
            let survey = Survey::read(archive, self.context.interrupt());
            survey.map_err(|error| self.failed(error))
        };
        let (before, after) = (survey(below)?, survey(&layer)?);
        let made = before.declared(&after, &run.outputs).map_err(|error| {
            let help = "add it to `outputs`, or let the command work in /tmp";
            let context = format!("the command `{}` of [[run]] cannot be used", run.name);
            self.failed(error).context(context).help(help)
        })?;
        layer.made = made.iter().map(TreePath::to_string).collect();
        Ok(layer)
    }

    /// The plan for the packages of a layer.
    pub(super) fn plan(
        &self,
        lock: &Lock,
        answers: &str,
        below: Option<&Layer>,
        release: &str,
    ) -> Result<Plan, Failure> {
        let plan = scripts::plan(PlanRequest {
            lock,
            ground: match below {
                None => Ground::Bare,
                Some(_) => Ground::Installed,
            },
            inputs: self.store,
            answers,
            host_name: HOST_NAME,
            kernel_release: release,
        });
        plan.map_err(|error| self.failed(error))
    }

    pub(super) fn write_packages(
        &self,
        plan: &Plan,
        task: &Task<'_>,
        below: Option<&Layer>,
        spool: &Spool,
        path: &Path,
    ) -> Result<(), Failure> {
        if let Some(below) = below {
            let Opened { mut archive, size } = self.opened(below)?;
            return self.write_task(task, Start::Kept(&mut archive, size), path);
        }
        let request = assemble::Request {
            lock: &plan.base,
            inputs: self.store,
            keep: Some(&self.keep),
            spool,
            threads: self.threads,
            limits: assemble::Limits::default(),
            clashes: assemble::Clashes::LeftToDpkg,
            listener: &baker_model::Silent,
            interrupt: self.context.interrupt(),
        };
        let base = assemble::assemble(request).map_err(|error| self.assembly(error))?;
        self.write_task(task, Start::assembled(&base.tree, spool), path)
    }
}

/// The task of a plan.
pub(super) fn package_task<'a>(name: &'a str, plan: &'a Plan, answers: &'a str) -> Task<'a> {
    Task {
        name,
        look: LOOK,
        job: &plan.job,
        digests: &plan.digests,
        packages: &plan.packages,
        answers,
        placed: &[],
    }
}

/// Names a layer by everything that goes into the sandbox. Only what the lock and the recipe say
/// is needed for it: no package is read.
fn key(work: &Work<'_>, below: Option<Digest>, epoch: i64, release: &str) -> Digest {
    match work {
        Work::Packages { lock, answers } => {
            let mut key = started("packages", below, epoch, release);
            key.add(answers.as_bytes());
            for package in &lock.packages {
                key.add(package.sha256.as_bytes());
            }
            key.finish()
        }
        Work::Run(run, placed) => {
            let words = (&run.command, &run.environment, &run.outputs);
            command_key("run", &words, placed, (below, epoch, release))
        }
    }
}

/// Names what commands make.
pub(super) fn command_key(
    kind: &str,
    words: &impl Serialize,
    placed: &[Placed<'_>],
    (below, epoch, release): (Option<Digest>, i64, &str),
) -> Digest {
    let mut key = started(kind, below, epoch, release);
    key.add(&serde_json::to_vec(words).expect("commands are plain data"));
    for file in placed {
        key.add(file.path.as_bytes());
        key.add(&file.mode.to_le_bytes());
        key.add(file.bytes.digest().as_bytes());
    }
    key.finish()
}

/// The key of a layer, up to what is its own.
fn started(kind: &str, below: Option<Digest>, epoch: i64, release: &str) -> Key {
    let mut key = Key::new(VERSION);
    key.add(kind.as_bytes());
    key.add(PROGRAMS.as_bytes());
    key.add(below.map_or([0; 32], |below| *below.as_bytes()).as_slice());
    key.add(&epoch.to_le_bytes());
    key.add(release.as_bytes());
    key.add(HOST_NAME.as_bytes());
    key
}
