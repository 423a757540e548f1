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

/// Memory that the kernel and the programs want beside the tree, MiB. Emulated and with 92
/// packages they needed less than 100.
const PROGRAMS_MIB: u64 = 384;

/// How often what comes in lies in memory at the end: as it came, uncompressed, and as the files
/// that packages made of it.
const COPIES: u64 = 2;

/// What the host says of its memory, and the limit of the group that this process belongs to where
/// a container sees nothing but that.
const MEMORY: (&str, &str) = ("/proc/meminfo", "/sys/fs/cgroup/memory.max");

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
            memory_mib: memory(errand.input, available())?,
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

/// What the machine gets, MiB: enough for its input, if the host has that.
fn memory(input: &Path, available: Option<u64>) -> Result<u64, SandboxError> {
    let metadata = fs::metadata(input).map_err(|source| SandboxError::Input {
        path: input.to_owned(),
        source,
    })?;
    let needed = PROGRAMS_MIB + metadata.len().div_ceil(1 << 20) * COPIES;
    match available {
        Some(available) if available < needed => Err(SandboxError::Memory { needed, available }),
        _ => Ok(needed),
    }
}

/// What the host can give, MiB; none when it does not say.
fn available() -> Option<u64> {
    let host = fs::read_to_string(MEMORY.0).ok();
    let host = host.as_deref().and_then(of_meminfo);
    let group = fs::read_to_string(MEMORY.1).ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    host.into_iter().chain(group.map(|bytes| bytes >> 20)).min()
}

/// `MemAvailable` of proc_meminfo(5), MiB.
fn of_meminfo(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib >> 10)
}

fn last_lines(console: &Path) -> String {
    let bytes = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_gets_what_its_input_needs_or_is_not_started() {
        let input = tempfile::NamedTempFile::new().unwrap();
        input.as_file().set_len((100 << 20) + 1).unwrap();
        let needed = PROGRAMS_MIB + 202;
        for enough in [None, Some(needed), Some(1 << 20)] {
            assert_eq!(memory(input.path(), enough).unwrap(), needed);
        }
        let error = memory(input.path(), Some(needed - 1)).unwrap_err();
        let text = "needs 586 MiB of memory, and 585 MiB are free";
        assert!(error.to_string().contains(text), "{error}");
    }

    #[test]
    fn the_host_says_what_is_free() {
        let text = "MemTotal:  100 kB\nMemFree: 5 kB\nMemAvailable:   2097152 kB\n";
        assert_eq!(of_meminfo(text), Some(2048));
        for unknown in [
            "",
            "MemTotal: 1 kB",
            "MemAvailable: x kB",
            "MemAvailable: 5",
        ] {
            assert_eq!(of_meminfo(unknown), None, "{unknown}");
        }
        assert!(available().is_some());
    }
}
