//! Booting a draft or release: for the judge, or for a person.

use std::fs;
use std::path::{Path, PathBuf};

use baker_formats::pe;
use baker_model::manifest::FileRole;
use baker_model::plan::{Firmware, TestPlan};
use baker_model::{Digest, Manifest};
use baker_vm::{
    Boot, Bus, DirectBoot, Evidence, Machine, Network, OnReset, Patience, SmokeError, SmokeRequest,
};

use super::host::Host;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ui::Answer;

/// A draft or release that is to be booted.
#[derive(Debug)]
pub struct Booted {
    folder: PathBuf,
    manifest: Manifest,
}

/// One test that ran.
#[derive(Debug)]
pub struct Result {
    /// What was seen.
    pub evidence: Evidence,
    /// Where the logs and the report are.
    pub folder: PathBuf,
}

impl Booted {
    /// Reads the folder of a draft or release.
    pub fn read(folder: &Path) -> std::result::Result<Self, Failure> {
        let path = folder.join(baker_ship::MANIFEST);
        let mend = "name the folder of a draft or release, such as out/releases/minimal-1.0.0";
        let bytes = fs::read(&path).map_err(|error| {
            Failure::new(Exit::Verify, error)
                .context(format!("cannot read {}", path.display()))
                .help(mend)
        })?;
        let manifest = Manifest::parse(&bytes).map_err(|error| {
            Failure::new(Exit::Verify, error).context(format!("{} is corrupt", path.display()))
        })?;
        Ok(Self::new(folder.to_owned(), manifest))
    }

    /// A folder whose manifest is known.
    pub fn new(folder: PathBuf, manifest: Manifest) -> Self {
        Self { folder, manifest }
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn file(&self, role: FileRole) -> std::result::Result<(PathBuf, Digest), Failure> {
        let file = self.manifest.file(role).ok_or_else(|| {
            let problem = format!("{} names no {role:?} to boot", self.folder.display());
            Failure::message(Exit::Verify, problem)
        })?;
        let plain = Path::new(&file.name).components().count() == 1 && !file.name.starts_with('.');
        if !plain {
            let problem = format!("the manifest names `{}`, which is not allowed", file.name);
            return Err(Failure::message(Exit::Verify, problem));
        }
        Ok((self.folder.join(&file.name), file.sha256))
    }

    /// What starts the guest. For a direct boot kernel and initrd come out of the UKI, checked
    /// against the manifest: they are the very bytes that UEFI would start.
    fn boot(
        &self,
        firmware: Firmware,
        host: &Host,
        scratch: &Path,
    ) -> std::result::Result<Boot, Failure> {
        if firmware == Firmware::Uefi {
            return Ok(Boot::Uefi(host.ovmf()?.clone()));
        }
        let (path, digest) = self.file(FileRole::Uki)?;
        let corrupt = |problem: String| {
            Failure::message(
                Exit::Verify,
                format!("{} is corrupt: {problem}", path.display()),
            )
            .help(format!(
                "see all problems: baker verify {}",
                self.folder.display()
            ))
        };
        let bytes = fs::read(&path).map_err(|error| {
            Failure::new(Exit::Verify, error).context(format!("cannot read {}", path.display()))
        })?;
        if Digest::of(&bytes) != digest {
            return Err(corrupt("its digest is not the manifest's".to_owned()));
        }
        let image = pe::Image::parse(&bytes).map_err(|error| corrupt(error.to_string()))?;
        let part = |section: &str, name: &str| {
            let found = image
                .section_bytes(&bytes, section)
                .ok_or_else(|| corrupt(format!("no {section}")))?;
            let target = scratch.join(name);
            fs::write(&target, found).map_err(|error| {
                Failure::new(Exit::Internal, error)
                    .context(format!("cannot write {}", target.display()))
            })?;
            Ok(target)
        };
        Ok(Boot::Direct(DirectBoot {
            kernel: part(".linux", "kernel")?,
            initrd: part(".initrd", "initrd")?,
            append: self.manifest.command_line.clone(),
        }))
    }
}

fn scratch() -> std::result::Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("baker-boot-")
        .tempdir()
        .map_err(|error| {
            Failure::new(Exit::Internal, error).context("cannot make a temporary folder")
        })
}

/// Runs the plans one after the other; `evidence` gets a folder for each.
pub fn test(
    booted: &Booted,
    plans: &[TestPlan],
    host: &Host,
    evidence: &Path,
    context: &Context,
) -> std::result::Result<Vec<Result>, Failure> {
    let (disk, disk_digest) = booted.file(FileRole::Disk)?;
    let scratch = scratch()?;
    let mut results = Vec::new();
    for plan in plans {
        let boot = booted.boot(plan.firmware, host, scratch.path())?;
        let folder = evidence.join(plan.title());
        let request = SmokeRequest {
            qemu: &host.qemu,
            accelerator: &host.accelerator,
            boot: &boot,
            bus: Bus::default(),
            disk: &disk,
            disk_digest,
            root_hash: booted.manifest.root_hash,
            plan,
            patience: Patience::for_plan(plan, &boot, host.accelerator.accelerator),
            work: &folder,
            environment: &host.environment,
            listener: context.listener(),
            interrupt: context.interrupt(),
        };
        let evidence = baker_vm::smoke(&request).map_err(|error| smoke_failure(error, context))?;
        write_report(&folder, &evidence)?;
        context.printer().test(&evidence);
        results.push(Result { evidence, folder });
    }
    Ok(results)
}

/// Name of the report inside the evidence folder of a test.
pub const REPORT: &str = "report.json";

fn write_report(folder: &Path, evidence: &Evidence) -> std::result::Result<(), Failure> {
    let path = folder.join(REPORT);
    fs::write(&path, evidence.to_bytes()).map_err(|error| {
        Failure::new(Exit::Internal, error).context(format!("cannot write {}", path.display()))
    })
}

fn smoke_failure(error: SmokeError, context: &Context) -> Failure {
    let exit = match &error {
        SmokeError::DiskDiffers { .. } | SmokeError::Disk { .. } => Exit::Verify,
        SmokeError::Run { .. } => Exit::Environment,
        _ => Exit::Internal,
    };
    let failure = context.failure(exit, error);
    match failure.exit {
        Exit::Verify => failure.help("see all problems with: baker verify RELEASE"),
        _ => failure,
    }
}

/// Says what the tests said; a failed one is a failure of the command.
pub fn answer_tests(
    results: &[Result],
    report: &Path,
    context: &Context,
) -> std::result::Result<(), Failure> {
    match context.printer().answer() {
        Answer::Json => {
            let all: Vec<_> = results.iter().map(|result| &result.evidence).collect();
            context.printer().json(&all)?;
        }
        Answer::Text => {
            for result in results {
                context.printer().data(&line(result))?;
            }
        }
    }
    refuse_failed(results, report)
}

fn line(result: &Result) -> String {
    let evidence = &result.evidence;
    format!(
        "{}: {} after {}.{} s",
        evidence.plan.title(),
        evidence.verdict,
        evidence.milliseconds / 1000,
        evidence.milliseconds % 1000 / 100
    )
}

/// A failure when a test failed, with the report to read and the command that repeats it.
pub fn refuse_failed(results: &[Result], report: &Path) -> std::result::Result<(), Failure> {
    let failed: Vec<_> = results
        .iter()
        .filter(|result| !result.evidence.verdict.is_passed())
        .collect();
    let [first, ..] = failed.as_slice() else {
        return Ok(());
    };
    let lines: Vec<String> = failed.iter().map(|result| line(result)).collect();
    let text = format!("the image failed its test\n{}", lines.join("\n"));
    let help = format!(
        "read the report: {}\nthe console is in {}\nrepeat it by hand: {}",
        report.display(),
        first.folder.join(&first.evidence.serial_log).display(),
        first.evidence.command
    );
    Err(Failure::message(Exit::Smoke, text).help(help))
}

/// Boots for a person, console attached.
pub fn run(
    folder: &Path,
    firmware: Firmware,
    memory_mib: u32,
    context: &Context,
) -> std::result::Result<(), Failure> {
    let booted = Booted::read(folder)?;
    let plan = TestPlan {
        firmware,
        memory_mib,
        ..TestPlan::default()
    };
    let host = Host::find([&plan])?;
    let scratch = scratch()?;
    let (disk, _) = booted.file(FileRole::Disk)?;
    if let Err(error) = fs::File::open(&disk) {
        return Err(
            Failure::new(Exit::Verify, error).context(format!("cannot read {}", disk.display()))
        );
    }
    let machine = Machine {
        boot: booted.boot(firmware, &host, scratch.path())?,
        accelerator: host.accelerator.accelerator,
        cpu: host.qemu.cpu_model(host.accelerator.accelerator).to_owned(),
        cpus: plan.cpus,
        memory_mib,
        disk,
        bus: Bus::default(),
        network: Network::Open,
        forwards: Vec::new(),
        on_reset: OnReset::Restart,
    };
    context.printer().say(&format!(
        "{}; Ctrl-A X ends the machine",
        host.accelerator.reason
    ));
    let status = baker_vm::run(&host.qemu, &machine, context.interrupt())
        .map_err(|error| context.failure(Exit::Environment, error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::message(
            Exit::Smoke,
            format!("QEMU ended with {status}"),
        ))
    }
}
