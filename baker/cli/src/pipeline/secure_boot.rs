//! Secure Boot between the stages: certificates into the release, keys into the firmware of a
//! test, signatures checked when a release is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use baker_build::describe::{Bytes, Piece};
use baker_formats::efivars::{self, KeyRole, Keys};
use baker_formats::fat::{self, Part};
use baker_formats::gpt;
use baker_formats::io::{Slice, Source as _};
use baker_formats::pe::authenticode;
use baker_formats::x509::Certificate;
use baker_model::layout::Role;
use baker_model::manifest::{BootCertificate, FileRole, SecureBoot};
use baker_model::{Digest, Manifest};
use baker_ship::{Problem, Report};
use baker_vm::{Boot, Ovmf};

use super::BootKeys;
use super::host::Host;
use crate::exit::{Exit, Failure};

/// Folder of the certificates inside a release.
const FOLDER: &str = "secure-boot";

/// The largest program on an ESP that is looked at; a UKI has some 15 MiB.
const PROGRAM_LIMIT: u64 = 1 << 30;

/// What the manifest says of the keys.
pub fn describe(keys: &BootKeys) -> SecureBoot {
    let keys = keys.keys();
    let certificate = |role| {
        let certificate = keys.get(role);
        BootCertificate {
            name: certificate.name(),
            file: certificate_file(role),
            sha256: certificate.fingerprint(),
        }
    };
    SecureBoot {
        platform_key: certificate(KeyRole::Platform),
        exchange_key: certificate(KeyRole::Exchange),
        database: certificate(KeyRole::Database),
    }
}

fn certificate_file(role: KeyRole) -> String {
    format!("{FOLDER}/{}.cer", role.name())
}

/// Writes the certificates into the release folder `out`.
pub fn write_certificates(keys: &BootKeys, out: &Path) -> std::io::Result<Vec<Piece>> {
    fs::create_dir(out.join(FOLDER))?;
    let mut pieces = Vec::new();
    for role in KeyRole::ALL {
        let name = certificate_file(role);
        let path = out.join(&name);
        fs::write(&path, keys.keys().get(role).der())?;
        pieces.push(Piece {
            name,
            role: FileRole::Certificate,
            bytes: Bytes::File(path),
        });
    }
    Ok(pieces)
}

/// A machine whose firmware knows the keys of the release in `folder`, and no others.
pub fn boot(
    folder: &Path,
    manifest: &Manifest,
    host: &Host,
    scratch: &Path,
) -> Result<Boot, Failure> {
    let firmware = host.secure_ovmf()?;
    let Some(secure) = &manifest.secure_boot else {
        let problem = format!("{} is not signed for Secure Boot", folder.display());
        return Err(Failure::message(Exit::Usage, problem).help(
            "set `boot.secure-boot` in the recipe, and bake it with --secure-boot FOLDER (keys: \
             baker key secure-boot FOLDER)",
        ));
    };
    let keys = read_keys(folder, secure).map_err(|error| {
        let help = format!("see all problems: baker verify {}", folder.display());
        Failure::new(Exit::Verify, error).help(help)
    })?;
    let vars = enrolled(&firmware.vars, &keys, scratch).map_err(|error| {
        Failure::new(Exit::Environment, error).context("cannot enrol keys into the firmware")
    })?;
    Ok(Boot::UefiSecure(Ovmf {
        code: firmware.code.clone(),
        vars,
    }))
}

fn enrolled(template: &Path, keys: &Keys, scratch: &Path) -> anyhow::Result<PathBuf> {
    let bytes =
        fs::read(template).with_context(|| format!("cannot read {}", template.display()))?;
    let bytes = efivars::enrol(&bytes, keys)?;
    let path = scratch.join("secure-boot-vars.fd");
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The certificates that a manifest names, each with the digest that it names.
pub(super) fn read_keys(folder: &Path, secure: &SecureBoot) -> anyhow::Result<Keys> {
    let read = |fact: &BootCertificate| {
        read_certificate(folder, fact).with_context(|| format!("cannot use `{}`", fact.file))
    };
    Ok(Keys {
        platform: read(&secure.platform_key)?,
        exchange: read(&secure.exchange_key)?,
        database: read(&secure.database)?,
    })
}

fn read_certificate(folder: &Path, fact: &BootCertificate) -> anyhow::Result<Certificate> {
    let known = KeyRole::ALL.map(certificate_file);
    anyhow::ensure!(
        known.contains(&fact.file),
        "it is no place of a certificate"
    );
    let bytes = fs::read(folder.join(&fact.file))?;
    let found = Digest::of(&bytes);
    anyhow::ensure!(
        found == fact.sha256,
        "its SHA-256 is {found}, the manifest says {}",
        fact.sha256
    );
    Ok(Certificate::parse(&bytes)?)
}

/// Adds to the report of a release what firmware would have against it.
pub fn check_boot_signatures(folder: &Path, report: &mut Report) {
    // A manifest that cannot be read is in the report already.
    let manifest = fs::read(folder.join(baker_ship::MANIFEST));
    if let Some(manifest) = manifest.ok().and_then(|bytes| Manifest::parse(&bytes).ok()) {
        report.problems.extend(check(folder, &manifest));
    }
}

/// Checks what firmware would check: the UKIs, and every program on the disk's ESP, against the
/// certificate of the release. Gives what is wrong; a release without Secure Boot has nothing
/// wrong with it.
fn check(folder: &Path, manifest: &Manifest) -> Vec<Problem> {
    let Some(secure) = &manifest.secure_boot else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    let mut fail = |name: &str, error: anyhow::Error| {
        problems.push(Problem::BootSignature {
            name: name.to_owned(),
            cause: format!("{error:#}"),
        });
    };
    let certificate = match read_keys(folder, secure) {
        Ok(keys) => keys.database,
        Err(error) => {
            fail(FOLDER, error);
            return problems;
        }
    };
    for file in &manifest.files {
        let programs = match file.role {
            FileRole::Uki | FileRole::NetbootUki => fs::read(folder.join(&file.name))
                .map(|bytes| BTreeMap::from([(file.name.clone(), bytes)]))
                .map_err(anyhow::Error::from),
            FileRole::Disk => esp_programs(&folder.join(&file.name)),
            _ => continue,
        };
        match programs {
            Err(error) => fail(&file.name, error),
            Ok(programs) if programs.is_empty() => {
                fail(&file.name, anyhow::anyhow!("its ESP holds no program"));
            }
            Ok(programs) => {
                for (name, bytes) in programs {
                    if let Err(error) = authenticode::verify(&bytes, &certificate) {
                        fail(&name, error.into());
                    }
                }
            }
        }
    }
    problems
}

/// Every file of the disk's ESP that firmware or a loader might start.
pub fn esp_programs(disk: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut disk = File::open(disk)?;
    let layout = gpt::read(&mut disk)?;
    let esp = layout
        .partitions
        .iter()
        .find(|partition| partition.role == Role::Esp)
        .context("the disk has no ESP")?;
    let volume = Slice::new(&disk, esp.offset..esp.offset + esp.size);
    let mut programs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for piece in fat::pieces(&volume, esp.size)? {
        let (Part::File(at), Some(path)) = (piece.part, piece.path) else {
            continue;
        };
        if !path.to_ascii_lowercase().ends_with(".efi") {
            continue;
        }
        let length = piece.range.end - piece.range.start;
        let end = at + length;
        anyhow::ensure!(end <= PROGRAM_LIMIT, "`{path}` is too large for a program");
        let program = programs.entry(path).or_default();
        let (start, end) = (usize::try_from(at)?, usize::try_from(end)?);
        if program.len() < end {
            program.resize(end, 0);
        }
        volume.read_exact_at(piece.range.start, &mut program[start..end])?;
    }
    Ok(programs)
}
