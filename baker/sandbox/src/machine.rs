//! The runner in a throwaway QEMU machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use baker_contract::sandbox::SANDBOX_PORT;
use baker_vm::{Accelerator, CpuChoice, ErrandMachine, Qemu};

use crate::conversation::{Hear, listen};
use crate::{Errand, Kind, Runner, SandboxError};

/// Modules that the machine's initramfs must bring: those of its disk and of its port.
pub const INITRD_MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "virtio_console"];

/// Memory that the kernel and the programs want beside the tree, MiB.
const PROGRAMS_MIB: u64 = 640;

/// How much room a tree takes in memory, measured by the bytes that come in: packages are
/// compressed, and unpacked beside their files.
const GROWTH: u64 = 5;

/// Lines of the console that an error shows.
const CONSOLE_LINES: usize = 12;

/// A machine that is made for one job and is gone with it.
#[derive(Debug)]
pub struct ThrowawayMachine {
    /// The emulator.
    pub qemu: Qemu,
    /// CPU model.
    pub cpu: CpuChoice,
    /// Who runs its instructions.
    pub accelerator: Accelerator,
    /// A kernel image of the job's architecture.
    pub kernel: PathBuf,
    /// An initramfs with the sandbox program as `/init`, and [`INITRD_MODULES`].
    pub initrd: PathBuf,
    /// A folder for the console's text.
    pub work: PathBuf,
    /// What the clock shows at the start.
    pub epoch: i64,
}

impl Runner for ThrowawayMachine {
    fn kind(&self) -> Kind {
        Kind::Machine
    }

    fn run(&self, errand: Errand<'_>, hear: &mut dyn Hear) -> Result<(), SandboxError> {
        let console = self.work.join("sandbox-console.log");
        let machine = ErrandMachine {
            qemu: &self.qemu,
            cpu: &self.cpu.model,
            accelerator: self.accelerator,
            memory_mib: memory(errand.input)?,
            kernel: &self.kernel,
            initrd: &self.initrd,
            disk: errand.input,
            port: SANDBOX_PORT,
            console: &console,
            epoch: self.epoch,
        };
        let mut running = start(&machine)?;
        let stdout = running.0.stdout.take();
        let Some(stdout) = stdout else {
            return Err(SandboxError::Start {
                program: self.qemu.program.clone(),
                source: std::io::ErrorKind::BrokenPipe.into(),
            });
        };
        let heard = listen(stdout, &mut running.0, hear, errand.interrupt);
        heard.map_err(|error| match error {
            SandboxError::Died { source, .. } => SandboxError::Died {
                console: last_lines(&console),
                source,
            },
            other => other,
        })
    }
}

/// Dies with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(machine: &ErrandMachine<'_>) -> Result<Running, SandboxError> {
    let child = machine
        .command()
        // Held open: with the end of its input QEMU closes the port for writing too.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let child = child.map_err(|source| SandboxError::Start {
        program: machine.qemu.program.clone(),
        source,
    })?;
    Ok(Running(child))
}

fn memory(input: &Path) -> Result<u64, SandboxError> {
    let metadata = fs::metadata(input).map_err(|source| SandboxError::Input {
        path: input.to_owned(),
        source,
    })?;
    Ok(PROGRAMS_MIB + (metadata.len() >> 20) * GROWTH)
}

fn last_lines(console: &Path) -> String {
    let bytes = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}
