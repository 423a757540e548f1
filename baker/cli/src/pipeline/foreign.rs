//! Images that baker did not make: read, recognised, and made ready to be judged.
//!
//! Nothing of them is trusted: their kind is judged by their own bytes and told to QEMU, and one
//! that leads to other files of this machine is refused.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use baker_contract::PROBE_DISK_FILE;
use baker_formats::fat;
use baker_formats::medium::{self, Kind, MediumError};
use baker_model::plan::{Firmware, PlanFile, TestPlan};
use baker_model::{Digest, Digester};
use baker_vm::{Boot, DirectBoot, Medium, MediumFormat, Sizes, Subject};

use super::host::Host;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::guest;

/// Bytes hashed at a time.
const BUFFER: usize = 1 << 20;

/// `st_blocks` counts in these.
const BLOCK: u64 = 512;

/// Name of the probe's disk in the scratch folder.
const PROBE_DISK: &str = "probe.img";

/// What was named on the command line.
#[derive(Debug, Default)]
pub struct Named<'a> {
    /// A disk image.
    pub image: Option<&'a Path>,
    /// What the image is, where a person knows better than its first bytes.
    pub kind: Option<Kind>,
    /// A kernel that QEMU loads itself.
    pub kernel: Option<DirectBoot>,
}

/// An image that baker did not make.
#[derive(Debug)]
pub struct Foreign {
    image: Option<Image>,
    kernel: Option<DirectBoot>,
    digest: Digest,
    sizes: Sizes,
}

/// A disk image and what its bytes mean.
#[derive(Debug)]
struct Image {
    path: PathBuf,
    kind: Kind,
}

impl Image {
    fn medium(&self) -> Medium {
        let format = match self.kind {
            Kind::Raw => MediumFormat::Raw,
            Kind::Qcow2 => MediumFormat::Qcow2,
            Kind::Vmdk => MediumFormat::Vmdk,
            Kind::Vhd => MediumFormat::Vpc,
            Kind::Iso => MediumFormat::Iso,
        };
        let path = self.path.clone();
        Medium { path, format }
    }
}

impl Foreign {
    /// Reads and recognises what was named.
    ///
    /// # Errors
    /// It cannot be read, is of no kind that is taken, or leads to other files.
    pub fn read(named: Named<'_>, context: &Context) -> Result<Self, Failure> {
        let image = named
            .image
            .map(|path| recognise(path, named.kind))
            .transpose()?;
        let files: Vec<&Path> = match (&image, &named.kernel) {
            (Some(image), _) => vec![&image.path],
            (None, Some(direct)) => vec![&direct.kernel, &direct.initrd],
            (None, None) => Vec::new(),
        };
        let digest = digest(&files, context)?;
        let sizes = Sizes {
            disk: image.as_ref().and_then(|image| data_size(&image.path)),
            initrd: match &named.kernel {
                Some(direct) => Some(metadata(&direct.initrd)?.len()),
                None => None,
            },
            ..Sizes::default()
        };
        if let Some(direct) = &named.kernel {
            metadata(&direct.kernel)?;
        }
        Ok(Self {
            image,
            kernel: named.kernel,
            digest,
            sizes,
        })
    }

    /// One line for people: what is judged.
    pub fn summary(&self) -> String {
        match &self.image {
            Some(image) => {
                let kind = image.kind.name();
                format!(
                    "{}: image of kind {kind}, sha256 {}",
                    image.path.display(),
                    self.digest
                )
            }
            None => format!("kernel and initrd, sha256 {}", self.digest),
        }
    }

    /// Name of its evidence folder.
    pub fn name(&self) -> String {
        let file = match (&self.image, &self.kernel) {
            (Some(image), _) => &image.path,
            (None, Some(direct)) => &direct.kernel,
            (None, None) => return "image".to_owned(),
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.trim_start_matches('.').to_owned()
    }

    /// What is booted, with the probe's disk at `probe_disk`.
    fn subject_with(&self, probe_disk: PathBuf) -> Subject {
        Subject {
            medium: self.image.as_ref().map(Image::medium),
            digest: self.digest,
            root_hash: None,
            sizes: self.sizes,
            carries_probe: false,
            probe_disk: Some(probe_disk),
        }
    }

    /// What is booted; the disk that brings the probe is written into `scratch`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn subject(&self, scratch: &Path) -> Result<Subject, Failure> {
        Ok(self.subject_with(probe_disk(scratch)?))
    }

    /// Refuses plans that cannot be answered for this image.
    ///
    /// # Errors
    /// The first such plan, with its mend.
    pub fn check(&self, plans: &[TestPlan]) -> Result<(), Failure> {
        let subject = self.subject_with(PathBuf::from(PROBE_DISK));
        for plan in plans {
            self.check_firmware(plan)?;
            subject.probe_way(plan).map_err(|problem| {
                let text = format!("the test `{}` {problem}", plan.title());
                Failure::message(Exit::Recipe, text)
            })?;
        }
        Ok(())
    }

    /// Refuses a plan whose firmware this image cannot be started by.
    fn check_firmware(&self, plan: &TestPlan) -> Result<(), Failure> {
        let refuse = |problem: &str, mend: &str| {
            let text = format!("the test `{}` {problem}", plan.title());
            Err(Failure::message(Exit::Recipe, text).help(mend))
        };
        match (plan.firmware, &self.image, &self.kernel) {
            (Firmware::Direct, _, None) => refuse(
                "starts a kernel directly, but only a disk image was named",
                "name the kernel with --kernel and its initrd with --initrd, or write another \
                 `firmware`",
            ),
            (Firmware::UefiSecure, ..) => refuse(
                "wants Secure Boot with the image's own key, which is known of releases only",
                "write firmware = \"uefi\"",
            ),
            (Firmware::Uefi | Firmware::Bios, None, _) => refuse(
                "boots a disk, but only a kernel and an initrd were named",
                "write firmware = \"direct\", or name a disk with --image",
            ),
            _ => Ok(()),
        }
    }

    /// What starts the guest.
    pub fn boot(&self, firmware: Firmware, host: &Host) -> Result<Boot, Failure> {
        match (firmware, &self.kernel) {
            (Firmware::Direct, Some(direct)) => Ok(Boot::Direct(direct.clone())),
            (Firmware::Bios, _) => Ok(Boot::Bios),
            _ => Ok(Boot::Uefi(host.ovmf()?.clone())),
        }
    }
}

/// Reads a plan file.
///
/// # Errors
/// It cannot be read, or is wrong: with the place.
pub fn read_plans(path: &Path) -> Result<Vec<TestPlan>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::Recipe, error)
            .context(format!("cannot read the plan {}", path.display()))
            .help("name a file with [[test]] tables, as recipes have them")
    })?;
    let plan = PlanFile::parse(&text).map_err(|error| {
        let place = format!("{}:{}:{}", path.display(), error.line, error.column);
        Failure::message(Exit::Recipe, format!("{place}: {}", error.problem)).help_if(error.hint)
    })?;
    Ok(plan.tests)
}

/// The image and what its bytes mean; `chosen` wins where the bytes allow it.
fn recognise(path: &Path, chosen: Option<Kind>) -> Result<Image, Failure> {
    metadata(path)?;
    let refused = |error: MediumError| {
        let mend = error.mend();
        Failure::new(Exit::Verify, error)
            .context(format!("cannot use {}", path.display()))
            .help_if(mend)
    };
    let found = File::open(path)
        .map_err(MediumError::Read)
        .and_then(|mut file| medium::identify(&mut file));
    let kind = match (chosen, found) {
        // Any bytes can be those of a disk.
        (Some(Kind::Raw), _) => Kind::Raw,
        (_, Err(error)) => return Err(refused(error)),
        (None, Ok(found)) => found,
        (Some(chosen), Ok(found)) if chosen == found => found,
        (Some(chosen), Ok(found)) => {
            let (path, found, chosen) = (path.display(), found.name(), chosen.name());
            let problem = format!("{path} is an image of kind {found}, not {chosen}");
            return Err(Failure::message(Exit::Usage, problem).help("leave --format out"));
        }
    };
    let path = path.to_owned();
    Ok(Image { path, kind })
}

/// Refuses what is not there and what is no regular file: a pipe would block, a device of this
/// machine is no image.
fn metadata(path: &Path) -> Result<fs::Metadata, Failure> {
    let found = fs::metadata(path).map_err(|error| {
        Failure::new(Exit::Usage, error).context(format!("cannot read {}", path.display()))
    })?;
    if found.is_file() {
        return Ok(found);
    }
    let problem = format!("{} is not a regular file", path.display());
    Err(Failure::message(Exit::Usage, problem).help("name the file of the image"))
}

fn data_size(path: &Path) -> Option<u64> {
    let found = fs::metadata(path).ok()?;
    Some(found.blocks() * BLOCK)
}

/// Digest of the files' bytes, one after the other.
fn digest(files: &[&Path], context: &Context) -> Result<Digest, Failure> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; BUFFER];
    for path in files {
        let failed = |error: io::Error| {
            Failure::new(Exit::Usage, error).context(format!("cannot read {}", path.display()))
        };
        let mut file = File::open(path).map_err(failed)?;
        loop {
            if context.interrupt().is_raised() {
                return Err(context.failure(Exit::Interrupted, io::Error::other("interrupted")));
            }
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                count => digester.update(&buffer[..count]),
            }
        }
    }
    Ok(digester.finish())
}

/// Writes the disk that brings the probe: a FAT volume with the guest program. The machine is one
/// like this ([`guest::NATIVE`]): nothing else says what an image is for.
fn probe_disk(scratch: &Path) -> Result<PathBuf, Failure> {
    let path = scratch.join(PROBE_DISK);
    let size = fat::volume_size([guest::EMBEDDED.len() as u64]);
    let volume = fat::Volume {
        offset: 0,
        size,
        id: 0,
        label: "BAKER-PROBE",
        time: 0,
    };
    let mut data = guest::EMBEDDED;
    let program = fat::File {
        path: PROBE_DISK_FILE,
        size: guest::EMBEDDED.len() as u64,
        data: &mut data,
    };
    let failed = |error: anyhow::Error| {
        Failure::new(Exit::Internal, error).context("cannot write the probe's disk")
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|error| failed(error.into()))?;
    file.set_len(size).map_err(|error| failed(error.into()))?;
    fat::write(&mut file, &volume, &mut [program]).map_err(|error| failed(error.into()))?;
    Ok(path)
}
