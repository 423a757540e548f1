//! Booting a draft or release for the judge.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf, absolute};
use std::time::{SystemTime, UNIX_EPOCH};

use baker_formats::pe;
use baker_model::event::Silent;
use baker_model::manifest::FileRole;
use baker_model::plan::{Day, Firmware, ProbeWay, TestPlan};
use baker_model::recipe::Format;
use baker_model::{Digest, Digester, Manifest, Recipe};
use baker_vm::{
    Boot, DirectBoot, Evidence, Medium, MediumFormat, NeighbourFiles, Patience, Sizes, SmokeError,
    SmokeRequest, Subject, Test, Treatment,
};

use super::foreign::Foreign;
use super::host::Host;
use super::{luggage, neighbours, netboot, secure_boot};
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

impl Result {
    /// True when the verdict is a failure.
    pub fn is_failed(&self) -> bool {
        !self.evidence.verdict.is_passed()
    }
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

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The recipe as built; none when it is not there or of another time.
    pub(super) fn recipe(&self) -> Option<Recipe> {
        let (path, _) = self.file(FileRole::Recipe).ok()?;
        Recipe::parse(&fs::read_to_string(path).ok()?).ok()
    }

    /// The same, whatever bytes the disk holds now: for disks that were damaged on purpose.
    pub(super) fn with_disk_as_it_is(mut self) -> std::result::Result<Self, Failure> {
        let (path, _) = self.file(FileRole::Disk)?;
        let unreadable = |error| {
            Failure::new(Exit::Internal, error).context(format!("cannot read {}", path.display()))
        };
        let mut file = fs::File::open(&path).map_err(unreadable)?;
        let mut digester = Digester::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(unreadable)? {
                0 => break,
                count => digester.update(&buffer[..count]),
            }
        }
        let digest = digester.finish();
        let disks = self.manifest.files.iter_mut();
        for file in disks.filter(|file| file.role == FileRole::Disk) {
            file.sha256 = digest;
        }
        Ok(self)
    }

    pub(super) fn file(&self, role: FileRole) -> std::result::Result<(PathBuf, Digest), Failure> {
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

    /// Bytes of the initrd inside the UKI.
    fn initrd_size(&self) -> Option<u64> {
        let (path, _) = self.file(FileRole::Uki).ok()?;
        let bytes = fs::read(path).ok()?;
        let image = pe::Image::parse(&bytes).ok()?;
        let section = image.section_bytes(&bytes, ".initrd")?;
        Some(section.len() as u64)
    }

    /// What starts the guest. For a direct boot kernel and initrd come out of the UKI, checked
    /// against the manifest: they are the very bytes that UEFI would start.
    pub(super) fn boot(
        &self,
        firmware: Firmware,
        host: &Host,
        scratch: &Path,
    ) -> std::result::Result<Boot, Failure> {
        match firmware {
            Firmware::Uefi => return Ok(Boot::Uefi(host.ovmf()?.clone())),
            Firmware::Bios => return Ok(Boot::Bios),
            Firmware::UefiSecure => {
                return secure_boot::boot(&self.folder, &self.manifest, host, scratch);
            }
            Firmware::Direct => {}
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

/// `st_blocks` counts in these.
const BLOCK: u64 = 512;

/// What the manifest says of the file that a plan boots.
fn subject(booted: &Booted, plan: &TestPlan) -> std::result::Result<Subject, Failure> {
    let (disk, file_digest) = booted.file(plan.booted())?;
    let kind = match plan.format {
        Format::Netboot if plan.firmware.is_uefi() => Some(MediumFormat::Program),
        Format::Raw => Some(MediumFormat::Raw),
        Format::Qcow2 => Some(MediumFormat::Qcow2),
        Format::Vmdk => Some(MediumFormat::Vmdk),
        Format::Vhd | Format::VhdFixed => Some(MediumFormat::Vpc),
        Format::Iso => Some(MediumFormat::Iso),
        Format::Netboot | Format::Tar | Format::Oci => None,
    };
    let digest = match kind {
        Some(_) => file_digest,
        None => netboot::digest(booted)?,
    };
    let manifest = &booted.manifest;
    let size = |role| manifest.file(role).map(|file| file.size);
    let data = fs::metadata(&disk).map(|found| found.blocks() * BLOCK).ok();
    Ok(Subject {
        medium: kind.map(|format| Medium { path: disk, format }),
        digest,
        root_hash: Some(manifest.root_hash),
        sizes: Sizes {
            disk: data,
            initrd: size(FileRole::Initrd).or_else(|| booted.initrd_size()),
            uki: size(FileRole::Uki),
            packages: Some(manifest.packages.len() as u64),
        },
        carries_probe: true,
        probe_disk: None,
    })
}

/// The day in UTC: excuses of a plan end on one.
pub fn today() -> Day {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Day::of_unix(now.map_or(0, |since| since.as_secs()))
}

pub(super) fn scratch() -> std::result::Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("baker-boot-")
        .tempdir()
        .map_err(|error| {
            Failure::new(Exit::Internal, error).context("cannot make a temporary folder")
        })
}

/// Boots by one plan and says nothing of it but what it found; `reads` gets what QEMU tells of reads.
pub(super) fn boot_quietly(
    booted: &Booted,
    plan: &TestPlan,
    host: &Host,
    folder: &Path,
    reads: Option<&Path>,
    context: &Context,
) -> std::result::Result<Evidence, Failure> {
    let scratch = scratch()?;
    let boot = booted.boot(plan.firmware, host, scratch.path())?;
    let tests = [Test { plan, work: folder }];
    let treatment = Treatment {
        luggage: luggage::pack([plan], scratch.path())?,
        neighbours: neighbours::files(booted, std::slice::from_ref(plan), host, scratch.path())?,
        reads: reads.map(Path::to_owned),
        ..Treatment::default()
    };
    let request = SmokeRequest {
        qemu: &host.qemu,
        accelerator: &host.accelerator,
        subject: &subject(booted, plan)?,
        boot: &boot,
        tests: &tests,
        patience: patience(&tests, &boot, host),
        treatment: &treatment,
        today: today(),
        environment: &host.environment,
        listener: &Silent,
        interrupt: context.interrupt(),
    };
    let mut all = baker_vm::smoke(&request).map_err(|error| smoke_failure(error, context))?;
    let evidence = all.pop().ok_or_else(|| {
        Failure::message(
            Exit::Internal,
            "the smoke test gave no evidence for its plan",
        )
    })?;
    write_report(folder, &evidence)?;
    Ok(evidence)
}

/// Folder inside the evidence for kernel and initrd of direct boots: the command that repeats a
/// test names them, so they stay.
const BOOT_FILES: &str = ".boot";

/// Makes the folder for what a boot needs beside the disk.
fn boot_files(evidence: &Path) -> std::result::Result<PathBuf, Failure> {
    let files = evidence.join(BOOT_FILES);
    fs::create_dir_all(&files)
        .and_then(|()| absolute(&files))
        .map_err(|error| {
            Failure::new(Exit::Internal, error).context(format!("cannot make {}", files.display()))
        })
}

/// Tests a draft or release; `evidence` gets a folder for each plan.
pub fn test(
    booted: &Booted,
    plans: &[TestPlan],
    host: &Host,
    evidence: &Path,
    context: &Context,
) -> std::result::Result<Vec<Result>, Failure> {
    let files = boot_files(evidence)?;
    let bench = Bench {
        subject: &|plan| subject(booted, plan),
        boot: &|plan| match plan.format {
            Format::Netboot if plan.firmware == Firmware::Direct => {
                netboot::boot(booted).map(Boot::Direct)
            }
            _ => booted.boot(plan.firmware, host, &files),
        },
        neighbours: neighbours::files(booted, plans, host, &files)?,
        host,
        evidence,
    };
    bench.run(plans, context)
}

/// Tests an image that baker did not make; `evidence` gets a folder for each plan.
pub fn test_foreign(
    foreign: &Foreign,
    plans: &[TestPlan],
    host: &Host,
    evidence: &Path,
    context: &Context,
) -> std::result::Result<Vec<Result>, Failure> {
    let files = boot_files(evidence)?;
    let subject = foreign.subject(&files)?;
    let bench = Bench {
        // Its form was told by its bytes; no plan names another.
        subject: &|_| Ok(subject.clone()),
        boot: &|plan| foreign.boot(plan.firmware, host),
        neighbours: None,
        host,
        evidence,
    };
    bench.run(plans, context)
}

/// What all tests of one image share.
struct Bench<'a> {
    subject: &'a dyn Fn(&TestPlan) -> std::result::Result<Subject, Failure>,
    boot: &'a dyn Fn(&TestPlan) -> std::result::Result<Boot, Failure>,
    neighbours: Option<NeighbourFiles>,
    host: &'a Host,
    evidence: &'a Path,
}

impl Bench<'_> {
    /// Runs the plans, those with equal machines in one boot and as many boots at once as the host
    /// bears. Results are in the order of the plans.
    fn run(
        &self,
        plans: &[TestPlan],
        context: &Context,
    ) -> std::result::Result<Vec<Result>, Failure> {
        let host = self.host;
        let scratch = scratch()?;
        let folders: Vec<PathBuf> = plans
            .iter()
            .map(|plan| self.evidence.join(plan.title()))
            .collect();
        let groups = baker_vm::shared_boots(&(self.subject)(&TestPlan::default())?, plans);
        let boots = groups.iter().map(|group| {
            let first = &plans[group[0]];
            let boot = (self.boot)(first)?;
            let subject = (self.subject)(first)?;
            let tests: Vec<Test<'_>> = group
                .iter()
                .map(|&place| Test {
                    plan: &plans[place],
                    work: &folders[place],
                })
                .collect();
            let keys = scratch.path().join(group[0].to_string());
            let treatment = Treatment {
                luggage: luggage::pack(group.iter().map(|&place| &plans[place]), &keys)?,
                neighbours: self.neighbours.clone(),
                ..Treatment::default()
            };
            Ok((boot, subject, tests, treatment))
        });
        let boots: Vec<(Boot, Subject, Vec<Test<'_>>, Treatment)> =
            boots.collect::<std::result::Result<_, Failure>>()?;
        let requests = boots
            .iter()
            .map(|(boot, subject, tests, treatment)| SmokeRequest {
                qemu: &host.qemu,
                accelerator: &host.accelerator,
                subject,
                boot,
                tests,
                patience: patience(tests, boot, host),
                treatment,
                today: today(),
                environment: &host.environment,
                listener: context.listener(),
                interrupt: context.interrupt(),
            });
        let requests: Vec<SmokeRequest<'_>> = requests.collect();
        let answers = baker_vm::smoke_all(&requests, host.capacity);
        let mut results = Vec::new();
        for (group, answer) in groups.iter().zip(answers) {
            let all = answer.map_err(|error| smoke_failure(error, context))?;
            results.extend(group.iter().copied().zip(all));
        }
        results.sort_by_key(|(place, _)| *place);
        results
            .into_iter()
            .map(|(place, evidence)| {
                let folder = folders[place].clone();
                write_report(&folder, &evidence)?;
                context.printer().test(&evidence);
                Ok(Result { evidence, folder })
            })
            .collect()
    }
}

fn patience(tests: &[Test<'_>], boot: &Boot, host: &Host) -> Patience {
    let plans = tests.iter().map(|test| test.plan);
    Patience::for_plans(plans, boot, host.accelerator.accelerator)
}

/// Name of the report inside the evidence folder of a test.
pub const REPORT: &str = "report.json";

/// Writes the report of one test into its evidence folder.
pub fn write_report(folder: &Path, evidence: &Evidence) -> std::result::Result<(), Failure> {
    let path = folder.join(REPORT);
    fs::write(&path, evidence.to_bytes()).map_err(|error| {
        Failure::new(Exit::Internal, error).context(format!("cannot write {}", path.display()))
    })
}

pub(super) fn smoke_failure(error: SmokeError, context: &Context) -> Failure {
    let exit = match &error {
        SmokeError::DiskDiffers { .. } | SmokeError::Disk { .. } => Exit::Verify,
        SmokeError::Run { .. } => Exit::Environment,
        SmokeError::Plan { .. } | SmokeError::NoPlan => Exit::Usage,
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
    let way = match evidence.probe {
        ProbeWay::Outside => ", judged from outside only",
        _ => "",
    };
    format!(
        "{}: {} after {}.{} s{way}",
        evidence.plan.title(),
        evidence.verdict,
        evidence.milliseconds / 1000,
        evidence.milliseconds % 1000 / 100
    )
}

/// A failure when a test failed, with the report to read and the command that repeats it.
pub fn refuse_failed(results: &[Result], report: &Path) -> std::result::Result<(), Failure> {
    let failed: Vec<_> = results.iter().filter(|result| result.is_failed()).collect();
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
