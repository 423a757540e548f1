//! One job in a sandbox, done unless it was done before.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baker_build::scripts::{Digests, Failed, Files, Placed, Ran, Start, Transcript, write_input};
use baker_build::{Spool, kernel};
use baker_contract::sandbox::{Job, set_clock};
use baker_model::lock::PackageLock;
use baker_model::{Digest, Digester};
use baker_sandbox::{Errand, Hear};
use baker_ship::cache::Blob;
use serde::{Deserialize, Serialize};

use super::{Baking, Kept};
use crate::exit::{Exit, Failure};
use crate::pipeline::sandbox;
use crate::program::CLOCK;

/// Bytes read or written at a time.
const BUFFER: usize = 1 << 20;

/// First word of the names of kept layers.
pub(super) const LAYER: &str = "scripts";

/// Trees are kept for bakes to come: a third of the room, without being waited for.
const LEVEL: i32 = 1;

/// What a sandbox gave, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in super::super) struct Layer {
    /// What it was made for.
    pub(super) name: String,
    /// Where it ran.
    pub(super) runner: String,
    /// Digest of the archive of the tree.
    pub(super) tree: Digest,
    /// Its size.
    pub(super) size: u64,
    /// The archive as the store has it, compressed.
    stored: Stored,
    /// What ran for it, and for all that it stands on.
    pub(super) scripts: Vec<Ran>,
    /// What the recipe's commands made of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) made: Vec<String>,
}

/// An object of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    digest: Digest,
    size: u64,
}

impl Layer {
    /// The archive of its tree, as the store has it.
    pub(super) fn archive(&self) -> Blob {
        Blob {
            sha256: self.stored.digest,
            size: self.stored.size,
        }
    }
}

/// A job, and what it begins with.
pub(super) struct Task<'a> {
    /// Name for people.
    pub(super) name: &'a str,
    /// Words for `baker shell` that open the tree in which a step of it failed.
    pub(super) look: &'a str,
    /// The job.
    pub(super) job: &'a Job,
    /// Digests of the scripts that it runs.
    pub(super) digests: &'a Digests,
    /// Packages that it installs.
    pub(super) packages: &'a [PackageLock],
    /// Lines for `debconf-set-selections`.
    pub(super) answers: &'a str,
    /// Files that it reads.
    pub(super) placed: &'a [Placed<'a>],
}

/// A kept tree that can be read.
pub(super) struct Opened {
    pub(super) archive: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    pub(super) size: u64,
}

impl Baking<'_> {
    /// What an earlier run with the same inputs gave; none when there is none, or not any more.
    pub(super) fn kept(&self, key: &Digest) -> Option<Layer> {
        let path = self.layer_path(key);
        let text = fs::read(&path).ok()?;
        let layer: Layer = serde_json::from_slice(&text).ok()?;
        let Stored { digest, size } = layer.stored;
        let presence = self.store.presence(&digest, size).ok()?;
        (presence == baker_fetch::Presence::Present && self.store.note_use(&path)).then_some(layer)
    }

    /// The same, unless everything is to be made anew.
    pub(super) fn usable(&self, key: &Digest) -> Option<Layer> {
        match self.kept {
            Kept::Used => self.kept(key),
            Kept::Ignored => None,
        }
    }

    /// Where the record of a layer lies.
    pub(super) fn layer_path(&self, key: &Digest) -> PathBuf {
        self.store.stages().join(format!("{LAYER}-{key}.json"))
    }

    /// Opens the tree of a layer.
    pub(super) fn opened(&self, layer: &Layer) -> Result<Opened, Failure> {
        let Stored { digest, size } = layer.stored;
        let kept = self.store.open_verified(&digest, size).map_err(|error| {
            let help = "run the scripts again: baker bake --anew";
            self.failed(error).help(help)
        })?;
        let archive = zstd::Decoder::new(kept).map_err(|error| self.failed(error))?;
        Ok(Opened {
            archive: BufReader::with_capacity(BUFFER, archive),
            size: layer.size,
        })
    }

    /// Writes the input of a job.
    pub(super) fn write_task(
        &self,
        task: &Task<'_>,
        start: Start<'_>,
        path: &Path,
    ) -> Result<(), Failure> {
        let file = File::create_new(path).map_err(|error| self.failed(error))?;
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let clock = set_clock(CLOCK, task.job.epoch, &task.job.kernel_release);
        let files = Files {
            clock: clock.as_deref(),
            answers: task.answers,
            placed: task.placed,
        };
        let job = (task.job, task.packages);
        let interrupt = self.context.interrupt();
        write_input(
            job,
            start,
            files,
            (self.store, self.threads),
            &mut out,
            interrupt,
        )
        .map_err(|error| self.failed(error))?;
        out.flush().map_err(|error| self.failed(error))
    }

    /// Runs a task whose input is written, and puts its tree into the store.
    pub(super) fn perform(
        &self,
        task: &Task<'_>,
        input: &Path,
        (kernel, spool): (&kernel::KernelParts, &Spool),
    ) -> Result<Layer, Failure> {
        let runner = sandbox::choose(&sandbox::Needs {
            recipe: &self.folder.recipe,
            kernel,
            spool,
            work: &self.work,
            epoch: self.lock.epoch,
            context: self.context,
        })?;
        let archive = self.work.join("sandbox.tar");
        let out = File::create_new(&archive).map_err(|error| self.failed(error))?;
        let out = BufWriter::with_capacity(BUFFER, out);
        let mut taker = Taker {
            transcript: Transcript::new(&task.job.steps, task.digests),
            out: zstd::Encoder::new(out, LEVEL).map_err(|error| self.failed(error))?,
            digester: Digester::new(),
            size: 0,
            start: Instant::now(),
        };
        let errand = Errand {
            input,
            interrupt: self.context.interrupt(),
        };
        let ran = runner.run(errand, &mut taker);
        ran.map_err(|error| sandbox::failure(self.context, error))?;
        let out = taker.out.finish().and_then(|mut out| out.flush());
        out.map_err(|error| self.failed(error))?;
        let finished = taker.transcript.finish();
        let scripts = finished.map_err(|failed| self.script_failed(&failed, task))?;
        let kept = self.store.put_file(&archive);
        let (digest, size) = kept.map_err(|error| self.failed(error))?;
        for path in [input, &archive] {
            fs::remove_file(path).map_err(|error| self.failed(error))?;
        }
        Ok(Layer {
            name: task.name.to_owned(),
            runner: runner.kind().name().to_owned(),
            tree: taker.digester.finish(),
            size: taker.size,
            stored: Stored { digest, size },
            scripts,
            made: Vec::new(),
        })
    }

    fn script_failed(&self, failed: &Failed, task: &Task<'_>) -> Failure {
        let Failed {
            package,
            what,
            code,
            last,
        } = failed;
        let who = match package {
            Some(package) => format!("package `{package}` cannot be installed: {what}"),
            None => format!("`{what}` of `{}` ended with code {code}", task.name),
        };
        let text = format!("{who}\nits last lines:\n{last}");
        let words = self.folder.words();
        let help = format!("look into it: baker shell {words} {}", task.look);
        Failure::message(Exit::Build, text).help(help)
    }

    /// Keeps a layer for bakes to come.
    pub(super) fn keep(&self, key: &Digest, layer: &Layer) -> Result<(), Failure> {
        let keep = || -> io::Result<()> {
            let folder = self.store.stages();
            fs::create_dir_all(&folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            serde_json::to_writer(&mut file, layer)?;
            file.persist(self.layer_path(key))?;
            Ok(())
        };
        keep().map_err(|error| self.failed(error))
    }

    /// Where the input of a job lies.
    pub(super) fn input_path(&self) -> PathBuf {
        self.work.join("sandbox.input")
    }
}

/// Takes what comes out of the sandbox.
struct Taker<'a> {
    transcript: Transcript<'a>,
    out: zstd::Encoder<'static, BufWriter<File>>,
    digester: Digester,
    size: u64,
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
        self.digester.update(bytes);
        self.size += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}
