//! The runner in namespaces of the host's kernel.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use baker_contract::sandbox::{Frame, Job, write_sections};
use baker_model::Interrupt;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::conversation::{Hear, listen};
use crate::{Errand, Kind, Runner, SandboxError, ids};

/// Namespaces that the host gives to whoever runs this.
#[derive(Debug)]
pub struct Namespaces {
    /// The program that runs inside, in memory: its path need not be reachable from there.
    program: File,
}

impl Namespaces {
    /// Tries them out: a job without steps is run.
    ///
    /// # Errors
    /// [`SandboxError::NoNamespaces`] says what is missing.
    pub fn find(program: &[u8]) -> Result<Self, SandboxError> {
        let missing = |why: String| SandboxError::NoNamespaces { why };
        if !ids::kernel_has_them() {
            return Err(missing("the kernel has none for users".to_owned()));
        }
        let kept = kept(program).map_err(|error| missing(error.to_string()))?;
        let found = Self { program: kept };
        let job = Job {
            host_name: "probe".to_owned(),
            ..Job::default()
        };
        let job = job.to_bytes();
        let mut input = tempfile_of(&job).map_err(|error| missing(error.to_string()))?;
        input.rewind().map_err(|error| missing(error.to_string()))?;
        let tried = found.converse(
            input,
            Path::new("the probe"),
            &mut Nobody,
            &Interrupt::new(),
        );
        match tried {
            Ok(()) => Ok(found),
            Err(SandboxError::NoNamespaces { why } | SandboxError::Broken { why }) => {
                Err(missing(why))
            }
            Err(error) => Err(missing(error.to_string())),
        }
    }

    fn converse(
        &self,
        input: File,
        path: &Path,
        hear: &mut dyn Hear,
        interrupt: &Interrupt,
    ) -> Result<(), SandboxError> {
        let mut running = self.start()?;
        let mut stdout = running.child.stdout.take();
        let stdout = stdout.as_mut().ok_or_else(no_pipe)?;
        let first = Frame::read(stdout).map_err(|source| SandboxError::Died {
            console: String::new(),
            source,
        })?;
        match first {
            Frame::Ready => {}
            Frame::Failed(why) => return Err(SandboxError::NoNamespaces { why }),
            _ => return Err(no_pipe()),
        }
        ids::map(running.child.id())?;
        let stdin = running.child.stdin.take().ok_or_else(no_pipe)?;
        let feeder = std::thread::spawn(move || feed(input, stdin));
        let heard = listen(stdout, &mut running.child, hear, interrupt);
        // When it has died, it is the pipe that breaks: the cause was heard already.
        drop(running);
        match (heard, feeder.join()) {
            (Ok(()), Ok(Err(source))) => Err(SandboxError::Input {
                path: path.to_owned(),
                source,
            }),
            (heard, _) => heard,
        }
    }

    fn start(&self) -> Result<Running, SandboxError> {
        let program = PathBuf::from(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        let child = Command::new(&program)
            .arg("namespaces")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let child = child.map_err(|source| SandboxError::Start { program, source })?;
        Ok(Running { child })
    }
}

impl Runner for Namespaces {
    fn kind(&self) -> Kind {
        Kind::Namespaces
    }

    fn run(&self, errand: Errand<'_>, hear: &mut dyn Hear) -> Result<(), SandboxError> {
        let input = File::open(errand.input).map_err(|source| SandboxError::Input {
            path: errand.input.to_owned(),
            source,
        })?;
        self.converse(input, errand.input, hear, errand.interrupt)
    }
}

/// Ends with its owner: everything inside hangs on this one process.
struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The word to go on, then the input.
fn feed(mut input: File, mut stdin: ChildStdin) -> io::Result<()> {
    stdin.write_all(b"g")?;
    io::copy(&mut input, &mut stdin).map(drop)
}

fn kept(program: &[u8]) -> io::Result<File> {
    let file = memfd_create(c"baker-sandbox", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(program)?;
    Ok(file)
}

fn tempfile_of(job: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"baker-job", MFdFlags::MFD_CLOEXEC)?);
    write_sections(&mut file, &[job.len() as u64])?;
    file.write_all(job)?;
    Ok(file)
}

fn no_pipe() -> SandboxError {
    SandboxError::Died {
        console: String::new(),
        source: io::ErrorKind::BrokenPipe.into(),
    }
}

/// Hears and does nothing.
struct Nobody;

impl Hear for Nobody {
    fn started(&mut self, _: u32) {}
    fn output(&mut self, _: &[u8]) {}
    fn ended(&mut self, _: i32) {}
    fn tree(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}
