//! The file that a sandbox gets: the job, the tree to begin with, and the packages.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;

use baker_contract::sandbox::{Job, SANDBOX_CLOCK, SANDBOX_FILES, write_sections};
use baker_formats::io::Source as _;
use baker_formats::tar::{self, Archive, BLOCK, Header};
use baker_model::{Interrupt, Objects, Tree};

use super::plan::ANSWERS;
use super::{Plan, ScriptsError, packages};
use crate::Spool;

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
}

/// Writes the input for a plan: `base` is the assembled tree of [`Plan::base`]; packages are read
/// by so many threads.
///
/// Packages go in uncompressed: dpkg makes the same files of them, and in an emulated machine it
/// would take minutes to decompress what takes seconds here.
///
/// # Errors
/// A package cannot be read, or the file cannot be written.
pub fn write_input(
    plan: &Plan,
    (base, spool): (&Tree, &Spool),
    files: Files<'_>,
    (inputs, threads): (&dyn Objects, NonZeroUsize),
    out: &mut (impl Write + Seek),
    interrupt: &Interrupt,
) -> Result<(), ScriptsError> {
    let job = plan.job.to_bytes();
    let archive = Archive::of_tree(base, spool);
    let sizes = |last| [job.len() as u64, archive.size(), last];
    // How large the packages are is known behind them.
    write_sections(out, &sizes(0)).map_err(ScriptsError::Write)?;
    out.write_all(&job).map_err(ScriptsError::Write)?;
    copy_archive(&archive, out, interrupt)?;
    let start = out.stream_position().map_err(ScriptsError::Write)?;
    for (path, mode, bytes) in small(files) {
        let header = header(path, mode, bytes.len() as u64);
        append(&header, &mut { bytes }, out).map_err(ScriptsError::Write)?;
    }
    packages::append(&plan.packages, (inputs, threads), out, interrupt)?;
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

/// Writes the input for a job on a tree that a sandbox gave before: its archive of so many bytes.
///
/// # Errors
/// The archive cannot be read or ends early, or the file cannot be written.
pub fn write_kept(
    job: &Job,
    (archive, size): (&mut impl Read, u64),
    files: Files<'_>,
    out: &mut (impl Write + Seek),
) -> io::Result<()> {
    let job = job.to_bytes();
    let mut last = Vec::new();
    for (path, mode, bytes) in small(files) {
        append(
            &header(path, mode, bytes.len() as u64),
            &mut { bytes },
            &mut last,
        )?;
    }
    last.extend([0; 2 * BLOCK]);
    write_sections(out, &[job.len() as u64, size, last.len() as u64])?;
    out.write_all(&job)?;
    if io::copy(archive, out)? != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    out.write_all(&last)?;
    pad(out)
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

/// The entry of a file that is there while scripts run.
pub(super) fn header(path: String, mode: u16, size: u64) -> Header {
    Header {
        mode,
        ..Header::of_file(&format!("./{path}"), size, 0)
    }
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
