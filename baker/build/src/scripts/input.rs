//! The file that a sandbox gets: the job, the tree to begin with, and the packages.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;

use baker_contract::sandbox::{Job, SANDBOX_CLOCK, SANDBOX_FILES, write_sections};
use baker_formats::io::Source as _;
use baker_formats::tar::{self, Archive, BLOCK, Header};
use baker_model::lock::PackageLock;
use baker_model::{Digest, Interrupt, Objects, Tree};

use super::plan::ANSWERS;
use super::{ScriptsError, packages};
use crate::Spool;

/// Bytes copied at a time.
const BUFFER: usize = 1 << 20;

/// A disk is read by sectors: the file is as long as one needs.
const SECTOR: u64 = 512;

/// Refuses to start services: invoke-rc.d and deb-systemd-invoke ask it (see the Debian policy
/// layer of init scripts), and 101 means that the action is forbidden.
const POLICY: (&str, &[u8]) = ("usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n");

/// Scripts ask for the full name of the host, and write down what comes of it: without an answer
/// some write none that their program takes.
const HOSTS: (&str, &[u8]) = (
    "etc/hosts",
    b"127.0.0.1\tlocalhost\n127.0.1.1\tbaker.localdomain baker\n",
);

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

/// Writes the input for a job: the tree to begin with, the small files, and the packages, which are
/// read by so many threads.
///
/// Packages go in uncompressed: dpkg makes the same files of them, and in an emulated machine it
/// would take minutes to decompress what takes seconds here.
///
/// # Errors
/// A package or a file cannot be read, the archive ends early, or the file cannot be written.
pub fn write_input(
    (job, packages): (&Job, &[PackageLock]),
    start: Start<'_>,
    files: Files<'_>,
    (inputs, threads): (&dyn Objects, NonZeroUsize),
    out: &mut (impl Write + Seek),
    interrupt: &Interrupt,
) -> Result<(), ScriptsError> {
    let (job, size) = (job.to_bytes(), start.size());
    let sizes = |last| [job.len() as u64, size, last];
    // How large the packages are is known behind them.
    write_sections(out, &sizes(0))
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
    let start = out.stream_position().map_err(ScriptsError::Write)?;
    append_files(files, inputs, out)?;
    packages::append(packages, (inputs, threads), out, interrupt)?;
    let mut finish = || -> io::Result<()> {
        out.write_all(&[0; 2 * BLOCK])?;
        let end = out.stream_position()?;
        out.rewind()?;
        write_sections(out, &sizes(end - start))?;
        out.seek(SeekFrom::Start(end))?;
        pad(out)
    };
    finish().map_err(ScriptsError::Write)
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
    let mut small = vec![
        (POLICY.0.to_owned(), 0o755, POLICY.1),
        (HOSTS.0.to_owned(), 0o644, HOSTS.1),
    ];
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

fn placed_header(placed: &Placed<'_>) -> Header {
    let path = placed.path.trim_start_matches('/').to_owned();
    header(path, placed.mode, placed.bytes.size())
}

/// The entry of a file that is there while scripts run.
pub(super) fn header(path: String, mode: u16, size: u64) -> Header {
    Header {
        mode,
        ..Header::of_file(&format!("./{path}"), size, 0)
    }
}

fn append_files(
    files: Files<'_>,
    inputs: &dyn Objects,
    out: &mut impl Write,
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
    Ok(())
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
