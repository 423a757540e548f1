//! The programs of the ESP: loader, and the UKI section by section.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use baker_formats::cpio;
use baker_formats::pe::{self, Image, authenticode};
use baker_model::Digest;

use super::claims::Claim;
use super::{Fault, Holder, Proof, Request, holder_of};
use crate::inventory::{Owner, Place};
use crate::sbom::Record;

/// The most that an initrd may unpack to, bytes.
const INITRD_LIMIT: u64 = 1 << 30;

/// A UEFI program on the ESP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its path, as the map of the disk has it.
    pub path: String,
    /// Digest that a signature does not change.
    pub authenticode: Digest,
    /// Its parts, when it is a UKI.
    pub uki: Option<Uki>,
    /// What making it again showed.
    pub rebuilt: Rebuilt,
}

/// What making a program again showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuilt {
    /// The store lacks what it is made of.
    NotTried,
    /// The packages give this very program.
    Same,
    /// They give another.
    Other,
}

/// The parts of a UKI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uki {
    /// The kernel image, filled up with zeros to whole blocks of the file.
    pub kernel: Vec<u8>,
    /// Files of the initrd by path, with their content's digest.
    pub initrd: Vec<(String, Digest)>,
    /// The program `/init` of the initrd.
    pub init: Vec<u8>,
    /// Content of `.osrel`.
    pub os_release: Digest,
    /// The kernel command line.
    pub command_line: String,
}

/// A program cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is no PE file.
    #[error("cannot read the program {path}")]
    Pe {
        /// Its path.
        path: String,
        /// What is wrong.
        #[source]
        source: pe::PeError,
    },
    /// A section cannot be read.
    #[error("cannot read the section {section} of {path}")]
    Section {
        /// Its path.
        path: String,
        /// The section.
        section: &'static str,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Who answers for which part of a program.
pub(super) struct Claims {
    whole: Claim,
    sections: BTreeMap<String, Claim>,
}

impl Claims {
    pub(super) fn section(&self, name: &str) -> Claim {
        self.sections.get(name).unwrap_or(&self.whole).clone()
    }

    pub(super) fn program(&self) -> Claim {
        self.whole.clone()
    }
}

/// Reads a program.
///
/// # Errors
/// See [`ProgramError`].
pub fn program(path: &str, bytes: &[u8]) -> Result<Program, ProgramError> {
    let pe = |source| ProgramError::Pe {
        path: path.to_owned(),
        source,
    };
    Ok(Program {
        path: path.to_owned(),
        authenticode: authenticode::digest(bytes).map_err(pe)?,
        uki: uki(path, bytes)?,
        rebuilt: Rebuilt::NotTried,
    })
}

/// The parts of a UKI; none when the program is no UKI.
///
/// # Errors
/// See [`ProgramError`].
pub fn uki(path: &str, bytes: &[u8]) -> Result<Option<Uki>, ProgramError> {
    let image = Image::parse(bytes).map_err(|source| ProgramError::Pe {
        path: path.to_owned(),
        source,
    })?;
    let section = |name| image.section_bytes(bytes, name);
    let (Some(kernel), Some(initrd)) = (section(".linux"), section(".initrd")) else {
        return Ok(None);
    };
    let fail = |section, source| ProgramError::Section {
        path: path.to_owned(),
        section,
        source,
    };
    let archive = unpacked(initrd).map_err(|error| fail(".initrd", error.into()))?;
    let members = cpio::members(&archive).map_err(|error| fail(".initrd", error.into()))?;
    let files = members
        .iter()
        .filter(|member| member.mode & 0o170_000 == 0o100_000);
    let init = files.clone().find(|file| file.name == b"init");
    let data = |file: &cpio::Member| &archive[file.data.clone()];
    let line = section(".cmdline").unwrap_or_default();
    Ok(Some(Uki {
        kernel: kernel.to_vec(),
        initrd: files
            .map(|file| {
                let name = String::from_utf8_lossy(&file.name);
                (format!("/{name}"), Digest::of(data(file)))
            })
            .collect(),
        init: init.map(|file| data(file).to_vec()).unwrap_or_default(),
        os_release: Digest::of(section(".osrel").unwrap_or_default()),
        command_line: String::from_utf8_lossy(line).into_owned(),
    }))
}

/// The archive out of its one frame.
fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    let frame = zstd::Decoder::new(packed)?.single_frame();
    frame.take(INITRD_LIMIT).read_to_end(&mut archive)?;
    Ok(archive)
}

/// Claims by path of the program.
pub(super) fn claims(request: &Request<'_>, faults: &mut Vec<Fault>) -> BTreeMap<String, Claims> {
    let claims = request.programs.iter().map(|program| {
        let claims = match &program.uki {
            Some(parts) => of_uki(request, program, parts, faults),
            None => Claims {
                whole: of_loader(request, program, faults),
                sections: BTreeMap::new(),
            },
        };
        (program.path.clone(), claims)
    });
    let claims = claims.collect();
    let on_esp = |path| match path {
        "uki" => request.programs.iter().any(|program| program.uki.is_some()),
        _ => request.programs.iter().any(|program| program.uki.is_none()),
    };
    let of_esp = request
        .records
        .iter()
        .filter(|record| record.place == Place::Esp);
    for record in of_esp.filter(|record| !on_esp(record.path.as_str())) {
        let path = format!("{}:{}", Place::Esp.name(), record.path);
        faults.push(Fault::Missing { path });
    }
    claims
}

fn find<'a>(request: &Request<'a>, place: Place, path: &str) -> Option<&'a Record> {
    let mut records = request.records.iter();
    records.find(|record| (record.place, record.path.as_str()) == (place, path))
}

/// systemd-boot as its package has it, with or without a signature.
fn of_loader(request: &Request<'_>, program: &Program, faults: &mut Vec<Fault>) -> Claim {
    let record = find(request, Place::Esp, "loader");
    whole(program, record, faults)
}

/// A program by its Authenticode digest.
fn whole(program: &Program, record: Option<&Record>, faults: &mut Vec<Fault>) -> Claim {
    let path = program.path.clone();
    let Some(record) = record else {
        faults.push(Fault::Foreign { path });
        return None;
    };
    if record.authenticode != Some(program.authenticode) {
        let what = "content";
        faults.push(Fault::Altered { path, what });
        return None;
    }
    if program.rebuilt == Rebuilt::Other {
        faults.push(Fault::Made { path });
        return None;
    }
    let proof = match program.rebuilt {
        Rebuilt::Same => Proof::Package,
        Rebuilt::Other | Rebuilt::NotTried => Proof::Sbom,
    };
    holder_of(&record.owner).map(|holder| (holder, proof))
}

/// The stub answers for all that no other section does.
fn of_uki(
    request: &Request<'_>,
    program: &Program,
    parts: &Uki,
    faults: &mut Vec<Fault>,
) -> Claims {
    let made = whole(program, find(request, Place::Esp, "uki"), faults);
    let proof = made.map(|(_, proof)| proof);
    let stub = find(request, Place::Uki, "stub").and_then(|stub| holder_of(&stub.owner));
    let size = find(request, Place::Uki, "linux").and_then(|linux| linux.size);
    let kernel = without_fill(&parts.kernel, size);
    let mut section = |name: &str, place, path: &str, found: Digest| {
        let claim = by_digest(request, place, path, found).map_err(|fault| faults.push(fault));
        (name.to_owned(), claim.ok())
    };
    let mut sections = BTreeMap::from([
        section(".linux", Place::Uki, "linux", kernel),
        section(
            ".osrel",
            Place::Root,
            "/usr/lib/os-release",
            parts.os_release,
        ),
    ]);
    // Packed together: the archive is baker's, and every file in it must have its owner.
    let before = faults.len();
    for (path, digest) in &parts.initrd {
        if let Err(fault) = by_digest(request, Place::Initrd, path, *digest) {
            faults.push(fault);
        }
    }
    for record in request
        .records
        .iter()
        .filter(|record| record.place == Place::Initrd)
    {
        if !parts.initrd.iter().any(|(path, _)| *path == record.path) {
            let path = record.path.clone();
            faults.push(Fault::Missing { path });
        }
    }
    let effect = |name: &str| {
        let holder = Holder::Effect(name.to_owned());
        proof.map(|proof| {
            (
                holder,
                if proof == Proof::Package {
                    Proof::Rebuilt
                } else {
                    proof
                },
            )
        })
    };
    let whole_initrd = effect("initrd").filter(|_| faults.len() == before);
    sections.insert(".initrd".to_owned(), whole_initrd);
    for name in [".cmdline", ".uname"] {
        sections.insert(name.to_owned(), effect("uki"));
    }
    Claims {
        whole: stub.zip(proof),
        sections,
    }
}

/// Digest of the first `size` bytes when only zeros follow, else of all.
fn without_fill(bytes: &[u8], size: Option<u64>) -> Digest {
    let size = size.and_then(|size| usize::try_from(size).ok());
    let parts = size.and_then(|size| bytes.split_at_checked(size));
    match parts {
        Some((content, fill)) if fill.iter().all(|byte| *byte == 0) => Digest::of(content),
        _ => Digest::of(bytes),
    }
}

/// A file by its own digest.
fn by_digest(
    request: &Request<'_>,
    place: Place,
    path: &str,
    found: Digest,
) -> Result<(Holder, Proof), Fault> {
    let full = match place {
        Place::Root => path.to_owned(),
        place => format!("{}:{path}", place.name()),
    };
    let record = find(request, place, path).ok_or_else(|| Fault::Foreign { path: full.clone() })?;
    if record.sha256 != Some(found) {
        let what = "content";
        return Err(Fault::Altered { path: full, what });
    }
    let proof = match (&record.owner, request.shipped) {
        (Owner::Guest, _) => {
            if !request.pinned.contains(&found) {
                return Err(Fault::Guest { path: full });
            }
            Proof::Lock
        }
        (Owner::Package(package), Some(shipped)) => {
            if !shipped.holds(package, &found) {
                let package = package.to_string();
                return Err(Fault::NotOfPackage {
                    path: full,
                    package,
                });
            }
            Proof::Package
        }
        _ => Proof::Sbom,
    };
    let holder = holder_of(&record.owner).ok_or(Fault::Nobody { path: full })?;
    Ok((holder, proof))
}
