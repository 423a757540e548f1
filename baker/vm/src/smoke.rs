//! The smoke stage: boots the very bytes that will be published and says what became of it.
//!
//! Takes a disk, its digest, its root hash and a plan; gives evidence with a verdict; touches the
//! evidence folder, a private temporary folder and one QEMU child. Never writes to the disk, never
//! leaves a QEMU behind, never passes on anything but the guest's own signed-off word.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf, absolute};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use baker_model::event::Outcome as How;
use baker_model::plan::{ProbeWay, TestPlan};
use baker_model::{Digest, Digester, Event, Failure, Interrupt, Listener, Verdict};

use crate::accelerator::AcceleratorChoice;
use crate::arguments::shell_line;
use crate::environment::Environment;
use crate::evidence::{EVIDENCE_VERSION, Evidence, Mark, Retry, milliseconds};
use crate::judge::Expectation;
use crate::machine::{Attachment, Boot, Bus, DirectBoot, Forward, Machine, Network, OnReset};
use crate::patience::Patience;
use crate::qemu::Qemu;
use crate::session::{self, Outcome, SessionError, Setting};

/// Name of the stage in events.
pub(crate) const STAGE: &str = "smoke";

/// Bytes hashed at a time.
const BUFFER: usize = 1 << 20;

/// A known fault of the host is given this many further runs.
const RETRIES: usize = 1;

/// What a smoke test is made of.
#[derive(Clone, Copy)]
pub struct SmokeRequest<'a> {
    /// The QEMU to use.
    pub qemu: &'a Qemu,
    /// The accelerator, as [`crate::probe_accelerator`] chose it.
    pub accelerator: &'a AcceleratorChoice,
    /// What starts the guest; agrees with `plan.firmware`.
    pub boot: &'a Boot,
    /// How the disk is attached.
    pub bus: Bus,
    /// The raw disk.
    pub disk: &'a Path,
    /// The digest that the disk must have, before and after.
    pub disk_digest: Digest,
    /// dm-verity root hash of the image on the disk.
    pub root_hash: Digest,
    /// What must hold.
    pub plan: &'a TestPlan,
    /// How long to wait; [`Patience::for_plan`] when there is no reason for something else.
    pub patience: Patience,
    /// The evidence folder: made when missing, gets the logs.
    pub work: &'a Path,
    /// The host.
    pub environment: &'a Environment,
    /// Takes events.
    pub listener: &'a dyn Listener,
    /// Ends the run when raised.
    pub interrupt: &'a Interrupt,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum SmokeError {
    /// The evidence folder or the private folder cannot be made.
    #[error("cannot make the folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host gave no random bytes.
    #[error("cannot get random bytes for the nonce")]
    Nonce(#[source] io::Error),
    /// QEMU could not be started or its lines could not be made.
    #[error("cannot run {command}")]
    Run {
        /// The command line.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk cannot be read.
    #[error("cannot read the disk {}", path.display())]
    Disk {
        /// The disk.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk is not the one that was to be tested.
    #[error(
        "the disk {} is not the one of this release: its digest is {found}, expected {expected}",
        path.display()
    )]
    DiskDiffers {
        /// The disk.
        path: PathBuf,
        /// The digest asked for.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// A person asked to stop.
    #[error("the smoke test was interrupted")]
    Interrupted,
}

/// Boots the disk and judges it.
///
/// A failing guest is no error: the verdict in the evidence says what failed.
///
/// # Errors
/// There is no verdict: the disk is another one or unreadable, QEMU cannot be started at all, a
/// folder cannot be made, or a person asked to stop.
pub fn smoke(request: &SmokeRequest<'_>) -> Result<Evidence, SmokeError> {
    request.listener.event(Event::Started {
        stage: STAGE,
        total: None,
        unit: "",
    });
    let folder_error = |source| SmokeError::Folder {
        path: request.work.to_owned(),
        source,
    };
    std::fs::create_dir_all(request.work).map_err(folder_error)?;
    let work = absolute(request.work).map_err(folder_error)?;
    let request = &SmokeRequest {
        work: &work,
        ..*request
    };
    let machine = machine(request).map_err(|source| SmokeError::Disk {
        path: request.disk.to_owned(),
        source,
    })?;
    let disk = DiskCheck {
        request,
        refuted: AtomicBool::new(false),
    };
    let stop = || request.interrupt.is_raised() || disk.refuted.load(Ordering::Relaxed);
    let (before, runs) = thread::scope(|scope| {
        let hashing = scope.spawn(|| disk.run());
        let runs = runs(request, &machine, &stop);
        (
            hashing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            runs,
        )
    });
    // A disk that is another one has ended the run: that is the error to show.
    let disk_before = before?;
    let (retries, run) = runs?;
    let disk_after = hash(request.disk, request.interrupt)?;
    let evidence = evidence(request, &machine, run, retries, [disk_before, disk_after]);
    let summary = format!(
        "{}: {} after {:.1} s",
        request.plan.title(),
        evidence.verdict,
        std::time::Duration::from_millis(evidence.milliseconds).as_secs_f64()
    );
    request.listener.event(Event::Finished {
        stage: STAGE,
        how: How::Done,
        summary,
    });
    Ok(evidence)
}

/// The machine of a smoke test. Paths are made absolute: the command line in the evidence must
/// work from any folder.
fn machine(request: &SmokeRequest<'_>) -> io::Result<Machine> {
    let boot = match request.boot {
        Boot::Direct(direct) => Boot::Direct(DirectBoot {
            kernel: absolute(&direct.kernel)?,
            initrd: absolute(&direct.initrd)?,
            append: direct.append.clone(),
        }),
        boot => boot.clone(),
    };
    let mut ports: Vec<u16> = request.plan.http.iter().map(|check| check.port).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(Machine {
        boot,
        accelerator: request.accelerator.accelerator,
        cpu: request
            .qemu
            .cpu_model(request.accelerator.accelerator)
            .to_owned(),
        cpus: request.plan.cpus,
        memory_mib: request.plan.memory_mib,
        disk: absolute(request.disk)?,
        bus: request.bus,
        network: Network::Isolated,
        forwards: ports
            .into_iter()
            .map(|guest| Forward { host: 0, guest })
            .collect(),
        on_reset: OnReset::Exit,
    })
}

/// One run and its nonce.
struct Run {
    outcome: Outcome,
    nonce: String,
    logs: Logs,
}

struct Logs {
    serial: String,
    qemu: String,
}

/// Runs the machine; once more when the console showed a known fault of the host.
fn runs(
    request: &SmokeRequest<'_>,
    machine: &Machine,
    stop: &dyn Fn() -> bool,
) -> Result<(Vec<Retry>, Run), SmokeError> {
    let mut retries = Vec::new();
    loop {
        let run = run_once(request, machine, retries.len(), stop)?;
        let outcome = &run.outcome;
        match outcome.flake {
            Some(cause) if !outcome.verdict.is_passed() && retries.len() < RETRIES => {
                let text = format!("{cause}; running {} again", request.plan.title());
                request
                    .listener
                    .event(Event::Warning { stage: STAGE, text });
                retries.push(Retry {
                    cause: cause.to_owned(),
                    verdict: run.outcome.verdict,
                    milliseconds: milliseconds(run.outcome.duration),
                    serial_log: run.logs.serial,
                });
            }
            _ => return Ok((retries, run)),
        }
    }
}

fn run_once(
    request: &SmokeRequest<'_>,
    machine: &Machine,
    number: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Run, SmokeError> {
    let temporary = &request.environment.temporary;
    let private = tempfile::Builder::new()
        .prefix("baker-")
        .tempdir_in(temporary)
        .map_err(|source| SmokeError::Folder {
            path: temporary.clone(),
            source,
        })?;
    let logs = if number == 0 {
        Logs {
            serial: "serial.log".to_owned(),
            qemu: "qemu.log".to_owned(),
        }
    } else {
        Logs {
            serial: format!("serial-{number}.log"),
            qemu: format!("qemu-{number}.log"),
        }
    };
    let nonce = nonce().map_err(SmokeError::Nonce)?;
    let setting = Setting {
        qemu: request.qemu,
        machine,
        nonce: &nonce,
        expectation: Expectation {
            root_hash: request.root_hash,
            units: request.plan.units_active.clone(),
            http: request.plan.http.len(),
        },
        http: &request.plan.http,
        patience: request.patience,
        serial_log: request.work.join(&logs.serial),
        qemu_log: request.work.join(&logs.qemu),
        private: private.path(),
        listener: request.listener,
        stop,
    };
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SessionError::Io)
        .and_then(|runtime| runtime.block_on(session::observe(&setting)));
    match outcome {
        Ok(outcome) => Ok(Run {
            outcome,
            nonce,
            logs,
        }),
        Err(SessionError::Stopped) => Err(SmokeError::Interrupted),
        Err(SessionError::Io(source)) => {
            let command = shell_line(&request.qemu.program, &machine.argv(Attachment::Terminal));
            Err(SmokeError::Run { command, source })
        }
    }
}

/// 128 random bits, hex.
fn nonce() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The comparison of the disk with its digest, made while the guest boots.
struct DiskCheck<'a> {
    request: &'a SmokeRequest<'a>,
    refuted: AtomicBool,
}

impl DiskCheck<'_> {
    fn run(&self) -> Result<Digest, SmokeError> {
        let request = self.request;
        let result = hash(request.disk, request.interrupt).and_then(|found| {
            if found == request.disk_digest {
                return Ok(found);
            }
            let (path, expected) = (request.disk.to_owned(), request.disk_digest);
            Err(SmokeError::DiskDiffers {
                path,
                expected,
                found,
            })
        });
        self.refuted.store(result.is_err(), Ordering::Relaxed);
        result
    }
}

fn hash(path: &Path, interrupt: &Interrupt) -> Result<Digest, SmokeError> {
    let failed = |source| SmokeError::Disk {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut digester = Digester::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        if interrupt.is_raised() {
            return Err(SmokeError::Interrupted);
        }
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(digester.finish()),
            count => digester.update(&buffer[..count]),
        }
    }
}

fn evidence(
    request: &SmokeRequest<'_>,
    machine: &Machine,
    run: Run,
    retries: Vec<Retry>,
    [disk_before, disk_after]: [Digest; 2],
) -> Evidence {
    let Run {
        outcome,
        nonce,
        logs,
    } = run;
    let verdict = match outcome.verdict {
        Verdict::Passed if disk_after != disk_before => Verdict::Failed {
            failure: Failure::AssertionFailed,
            detail: format!("the disk changed during the test, its digest is now {disk_after}"),
        },
        verdict => verdict,
    };
    let program = request.qemu.program.as_os_str();
    let words = std::iter::once(program).chain(outcome.argv.iter().map(|word| word.as_os_str()));
    let mark = |(phase, at): &(crate::Phase, _)| Mark {
        phase: phase.name().to_owned(),
        milliseconds: milliseconds(*at),
    };
    Evidence {
        evidence_version: EVIDENCE_VERSION,
        plan: request.plan.clone(),
        verdict,
        milliseconds: milliseconds(outcome.duration),
        timeline: outcome.phases.iter().map(mark).collect(),
        accelerator: request.accelerator.clone(),
        qemu_version: request.qemu.version.to_string(),
        argv: words
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        command: shell_line(&request.qemu.program, &machine.argv(Attachment::Terminal)),
        nonce,
        root_hash: Some(request.root_hash),
        probe: ProbeWay::Carried,
        guest: None,
        checks: Vec::new(),
        failed_units: Vec::new(),
        detection_milliseconds: 0,
        screenshot: None,
        shared_with: Vec::new(),
        disk_before,
        disk_after,
        shutdown: outcome.shutdown,
        serial_log: logs.serial,
        qemu_log: logs.qemu,
        retries,
        warnings: outcome.warnings,
    }
}
