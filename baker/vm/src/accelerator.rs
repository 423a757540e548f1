//! Who runs the guest's instructions: KVM when a probe guest has really run on it, else TCG.
//!
//! That `/dev/kvm` opens says little: nested and paravirtual set-ups offer it and then stop the
//! guest at its first vector instruction, without QEMU ever ending.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use crate::architecture::Architecture;
use crate::arguments::Arguments;
use crate::child::die_with_parent;
use crate::environment::Environment;
use crate::probe_guest::{EXIT_PORT, GOOD_STATUS, image};
use crate::qemu::Qemu;
use crate::qmp::{MachineEvent, Qmp};

/// A sound accelerator needs a tenth of a second; past this it emulates instead.
const DEADLINE: Duration = Duration::from_millis(900);

/// QEMU closes its control line shortly before it ends.
const GRACE: Duration = Duration::from_millis(90);

/// Who runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The CPU, through the kernel.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// An accelerator and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AcceleratorChoice {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// One line for people.
    pub reason: String,
}

/// Chooses KVM when a probe guest runs on it, in under a second, else TCG with the reason.
///
/// Never fails: whatever goes wrong with the probe is a reason for TCG.
#[must_use]
pub fn probe_accelerator(qemu: &Qemu, environment: &Environment) -> AcceleratorChoice {
    let tcg = |reason| AcceleratorChoice {
        accelerator: Accelerator::Tcg,
        reason,
    };
    if !qemu.architecture.is_host() {
        let host = std::env::consts::ARCH;
        return tcg(format!(
            "the guest is {}, this host is {host}",
            qemu.architecture
        ));
    }
    if qemu.architecture != Architecture::Amd64 {
        let guest = qemu.architecture;
        return tcg(format!(
            "there is no probe guest for {guest}, and KVM is not used unproven"
        ));
    }
    let kvm = &environment.kvm;
    if let Err(error) = OpenOptions::new().read(true).write(true).open(kvm) {
        return tcg(format!("{} cannot be opened: {error}", kvm.display()));
    }
    let start = Instant::now();
    let result = run_probe(qemu, Accelerator::Kvm, &environment.temporary);
    let time = start.elapsed().as_millis();
    match result {
        Ok(()) => AcceleratorChoice {
            accelerator: Accelerator::Kvm,
            reason: format!("a probe guest ran on KVM in {time} ms"),
        },
        Err(problem) => tcg(format!(
            "KVM does not run a probe guest (known after {time} ms): {problem}"
        )),
    }
}

/// Why the probe guest did not prove the accelerator.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("it could not be prepared or started: {0}")]
    Prepare(#[from] std::io::Error),
    #[error("QEMU ended with {status}{}", said(stderr))]
    Ended { status: ExitStatus, stderr: String },
    #[error("QEMU stopped it ({status})")]
    Stopped { status: String },
    #[error("it did not end within {} ms", DEADLINE.as_millis())]
    Late,
}

fn said(stderr: &str) -> String {
    let line = stderr.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.map(|line| format!(": {line}")).unwrap_or_default()
}

/// Runs the probe guest on `accelerator`.
pub(crate) fn run_probe(
    qemu: &Qemu,
    accelerator: Accelerator,
    temporary: &Path,
) -> Result<(), ProbeError> {
    let folder = tempfile::Builder::new()
        .prefix("baker-probe-")
        .tempdir_in(temporary)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(probe(qemu, accelerator, folder.path()))
}

async fn probe(qemu: &Qemu, accelerator: Accelerator, folder: &Path) -> Result<(), ProbeError> {
    let bios = folder.join("bios");
    std::fs::File::create(&bios)?.write_all(&image())?;
    let socket = folder.join("qmp");
    let listener = UnixListener::bind(&socket)?;
    let stderr = folder.join("stderr");
    let mut command = Command::new(&qemu.program);
    command.args(arguments(
        accelerator,
        qemu.cpu_model(accelerator),
        &bios,
        &socket,
    ));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&stderr)?);
    die_with_parent(&mut command);
    let mut child = tokio::process::Command::from(command)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;

    let (sink, mut events) = mpsc::unbounded_channel();
    let ended = |status: ExitStatus| {
        if status.code() == Some(GOOD_STATUS) {
            return Ok(());
        }
        let stderr = std::fs::read(&stderr).unwrap_or_default();
        Err(ProbeError::Ended {
            status,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    };
    let stopped = async {
        let (stream, _) = listener.accept().await?;
        let qmp = Qmp::negotiate(stream, sink).await?;
        qmp.cont().await?;
        while let Some(event) = events.recv().await {
            if event == Some(MachineEvent::Stopped) {
                return qmp.status().await;
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        status = child.wait() => ended(status?),
        status = stopped => match status {
            // QEMU closes the line when it ends, well or not: its exit status tells which.
            Err(_) => match tokio::time::timeout(GRACE, child.wait()).await {
                Ok(status) => ended(status?),
                Err(_) => Err(ProbeError::Late),
            },
            Ok(status) => Err(ProbeError::Stopped { status }),
        },
        () = tokio::time::sleep(DEADLINE) => Err(ProbeError::Late),
    }
}

fn arguments(
    accelerator: Accelerator,
    cpu: &str,
    bios: &Path,
    socket: &Path,
) -> Vec<std::ffi::OsString> {
    let accelerator = match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    let mut arguments = Arguments::default();
    arguments
        .flag("-no-user-config")
        .flag("-nodefaults")
        .pair("-display", "none");
    arguments
        .pair("-machine", "q35")
        .pair("-accel", accelerator)
        .pair("-cpu", cpu);
    arguments
        .pair("-m", "16")
        .pair("-bios", bios)
        .flag("-no-reboot")
        .flag("-S");
    arguments.pair(
        "-device",
        format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4"),
    );
    arguments.chardev("socket,id=qmp,server=off", &[("path", socket)]);
    arguments.pair("-mon", "chardev=qmp,mode=control");
    arguments.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn the_probe_guest_computes_under_tcg() {
        let Some(qemu) = testing::qemu() else { return };
        run_probe(&qemu, Accelerator::Tcg, &std::env::temp_dir()).unwrap();
    }

    #[test]
    fn kvm_is_believed_only_when_it_ran_the_guest() {
        let Some(qemu) = testing::qemu() else { return };
        let environment = Environment::of_process();
        let choice = probe_accelerator(&qemu, &environment);
        let ran = run_probe(&qemu, Accelerator::Kvm, &environment.temporary);
        assert_eq!(
            choice.accelerator == Accelerator::Kvm,
            ran.is_ok(),
            "{choice:?} {ran:?}"
        );

        let environment = Environment {
            kvm: "/nonexistent/kvm".into(),
            ..environment
        };
        let choice = probe_accelerator(&qemu, &environment);
        assert_eq!(choice.accelerator, Accelerator::Tcg);
        assert!(
            choice.reason.contains("/nonexistent/kvm cannot be opened"),
            "{choice:?}"
        );
    }

    #[test]
    fn a_qemu_that_aborts_or_hangs_is_a_reason_for_tcg() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [
            ("kill -ABRT $$", "signal: 6"),
            ("echo no such thing >&2; exit 1", "no such"),
        ];
        for (script, expected) in rows {
            let qemu = testing::fake_qemu(folder.path(), script);
            let error = run_probe(&qemu, Accelerator::Kvm, folder.path()).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let qemu = testing::fake_qemu(folder.path(), "sleep 60");
        let error = run_probe(&qemu, Accelerator::Kvm, folder.path()).unwrap_err();
        assert!(matches!(error, ProbeError::Late), "{error}");
    }
}
