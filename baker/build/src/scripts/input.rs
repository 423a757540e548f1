//! The file that a sandbox gets: the job, the tree to begin with, and the packages.

use std::io::{self, Read, Seek, Write};

use baker_contract::sandbox::{Job, SANDBOX_CLOCK, SANDBOX_FILES, write_sections};
use baker_formats::io::Source as _;
use baker_formats::tar::{self, Archive, BLOCK, Header};
use baker_model::lock::PackageLock;
use baker_model::{Digest, Interrupt, Objects, Tree};

use super::ScriptsError;
use super::plan::{ANSWERS, PACKAGES};
use crate::Spool;
use crate::assemble::AssembleError;

/// Bytes copied at a time.
const BUFFER: usize = 1 << 20;

/// A disk is read by sectors: the file is as long as one needs.
const SECTOR: u64 = 512;

/// Refuses to start services: invoke-rc.d and deb-systemd-invoke ask it (see the Debian policy
/// layer of init scripts), and 101 means that the action is forbidden.
const POLICY: (&str, &[u8]) = ("usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n");

/// What is there only while scripts run.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The library that keeps the clock still; none when there is none for the architecture.
    pub clock: Option<&'a [u8]>,
    /// Lines for `debconf-set-selections`.
    pub answers: &'a str,
    /// Inputs of commands.
    pub placed: &'a [Placed<'a>],
}

/// A file that a command reads.
#[derive(Debug, Clone)]
pub struct Placed<'a> {
    /// Absolute path.
    pub path: String,
    /// Permissions.
    pub mode: u16,
    /// Where its bytes are.
    pub bytes: PlacedBytes<'a>,
}

/// The bytes of a file that a command reads.
#[derive(Debug, Clone, Copy)]
pub enum PlacedBytes<'a> {
    /// These.
    Given(&'a [u8]),
    /// So many bytes of the store.
    Stored(Digest, u64),
}

impl PlacedBytes<'_> {
    /// Digest of the bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Self::Given(bytes) => Digest::of(bytes),
            Self::Stored(digest, _) => *digest,
        }
    }

    const fn size(&self) -> u64 {
        match self {
            Self::Given(bytes) => bytes.len() as u64,
            Self::Stored(_, size) => *size,
        }
    }
}

/// The tree that a job begins with.
pub enum Start<'a> {
    /// The assembled tree of [`super::Plan::base`].
    Assembled(Archive<'a>),
    /// An archive, of so many bytes, that a sandbox gave before.
    Kept(&'a mut dyn Read, u64),
}

impl<'a> Start<'a> {
    /// With the assembled tree of [`super::Plan::base`].
    #[must_use]
    pub fn assembled(tree: &'a Tree, spool: &'a Spool) -> Self {
        Self::Assembled(Archive::of_tree(tree, spool))
    }

    fn size(&self) -> u64 {
        match self {
            Self::Assembled(archive) => archive.size(),
            Self::Kept(_, size) => *size,
        }
    }
}

/// Writes the input for a job: the tree to begin with, the packages, and the small files.
///
/// # Errors
/// A package or a file cannot be read, the archive ends early, or the file cannot be written.
pub fn write_input(
    (job, packages): (&Job, &[PackageLock]),
    start: Start<'_>,
    files: Files<'_>,
    inputs: &dyn Objects,
    out: &mut (impl Write + Seek),
    interrupt: &Interrupt,
) -> Result<(), ScriptsError> {
    let job = job.to_bytes();
    let last = files_size(packages, files);
    write_sections(out, &[job.len() as u64, start.size(), last])
        .and_then(|()| out.write_all(&job))
        .map_err(ScriptsError::Write)?;
    match start {
        Start::Assembled(archive) => copy_archive(&archive, out, interrupt)?,
        Start::Kept(archive, size) => {
            let copied = io::copy(archive, out).map_err(ScriptsError::Write)?;
            if copied != size {
                return Err(ScriptsError::Write(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
    append_files(packages, files, inputs, out, interrupt)?;
    pad(out).map_err(ScriptsError::Write)
}

/// Fills up the last sector.
fn pad(out: &mut (impl Write + Seek)) -> io::Result<()> {
    let end = out.stream_position()?;
    let zeros = io::repeat(0).take(end.next_multiple_of(SECTOR) - end);
    io::copy(&mut { zeros }, out).map(drop)
}

fn copy_archive(
    archive: &Archive<'_>,
    out: &mut impl Write,
    interrupt: &Interrupt,
) -> Result<(), ScriptsError> {
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < archive.size() {
        if interrupt.is_raised() {
            return Err(ScriptsError::Interrupted);
        }
        let left = usize::try_from(archive.size() - at).unwrap_or(BUFFER);
        let part = &mut buffer[..left.min(BUFFER)];
        archive
            .read_exact_at(at, part)
            .and_then(|()| out.write_all(part))
            .map_err(ScriptsError::Write)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// The small files: path below the root, mode, bytes.
fn small<'a>(files: Files<'a>) -> Vec<(String, u16, &'a [u8])> {
    let mut small = vec![(POLICY.0.to_owned(), 0o755, POLICY.1)];
    let mut add = |name: &str, bytes: &'a [u8]| {
        small.push((format!("{SANDBOX_FILES}/{name}"), 0o644, bytes));
    };
    if let Some(clock) = files.clock {
        add(SANDBOX_CLOCK, clock);
    }
    if !files.answers.is_empty() {
        add(ANSWERS, files.answers.as_bytes());
    }
    small
}

fn files_size(packages: &[PackageLock], files: Files<'_>) -> u64 {
    let small = small(files).into_iter();
    let small =
        small.map(|(path, mode, bytes)| entry_size(&header(path, mode, bytes.len() as u64)));
    let placed = files.placed.iter();
    let placed = placed.map(|placed| entry_size(&placed_header(placed)));
    let packages = packages.iter().enumerate();
    let packages = packages.map(|(number, package)| entry_size(&package_header(number, package)));
    small.chain(placed).chain(packages).sum::<u64>() + 2 * BLOCK as u64
}

fn entry_size(header: &Header) -> u64 {
    tar::encode(header).len() as u64 + header.size.next_multiple_of(BLOCK as u64)
}

fn placed_header(placed: &Placed<'_>) -> Header {
    let path = placed.path.trim_start_matches('/').to_owned();
    header(path, placed.mode, placed.bytes.size())
}

fn package_header(number: usize, package: &PackageLock) -> Header {
    let path = format!("{SANDBOX_FILES}/{PACKAGES}/{number:04}.deb");
    header(path, 0o644, package.size)
}

fn header(path: String, mode: u16, size: u64) -> Header {
    Header {
        mode,
        ..Header::of_file(&format!("./{path}"), size, 0)
    }
}

fn append_files(
    packages: &[PackageLock],
    files: Files<'_>,
    inputs: &dyn Objects,
    out: &mut impl Write,
    interrupt: &Interrupt,
) -> Result<(), ScriptsError> {
    for (path, mode, bytes) in small(files) {
        let header = header(path, mode, bytes.len() as u64);
        append(&header, &mut { bytes }, out).map_err(ScriptsError::Write)?;
    }
    for placed in files.placed {
        let header = placed_header(placed);
        let failed = |source| ScriptsError::Placed {
            path: placed.path.clone(),
            source,
        };
        match placed.bytes {
            PlacedBytes::Given(bytes) => append(&header, &mut { bytes }, out),
            PlacedBytes::Stored(digest, _) => {
                let mut bytes = inputs.open(&digest).map_err(failed)?;
                append(&header, &mut bytes, out)
            }
        }
        .map_err(ScriptsError::Write)?;
    }
    for (number, package) in packages.iter().enumerate() {
        if interrupt.is_raised() {
            return Err(ScriptsError::Interrupted);
        }
        let mut bytes = inputs
            .open(&package.sha256)
            .map_err(|source| AssembleError::Input {
                package: package.name.clone(),
                file: package.path.clone(),
                source,
            })?;
        append(&package_header(number, package), &mut bytes, out).map_err(ScriptsError::Write)?;
    }
    out.write_all(&[0; 2 * BLOCK]).map_err(ScriptsError::Write)
}

fn append(header: &Header, bytes: &mut dyn Read, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&tar::encode(header))?;
    let copied = io::copy(&mut bytes.take(header.size), out)?;
    if copied != header.size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let padding = header.size.next_multiple_of(BLOCK as u64) - header.size;
    io::copy(&mut io::repeat(0).take(padding), out).map(drop)
}
