//! What a boot reads of its disk, and where that lies.

use std::collections::HashSet;
use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;

use baker_build::anatomy::{self, Anatomy, RootPart, Structure};
use baker_formats::erofs::Part;
use baker_model::manifest::FileRole;
use baker_model::plan::{DiskBus, TestPlan};
use baker_model::recipe::Format;
use serde::Serialize;

use super::Host;
use super::smoke::{Booted, boot_quietly, scratch};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Name of QEMU's trace among the logs.
const TRACE: &str = "reads.log";

/// What a boot reads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reads {
    /// Requests.
    pub reads: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Of those for the root: how many go on where the one before ended.
    pub in_sequence: usize,
    /// Bytes between the ends of requests for the root and the beginnings of the next, in sum.
    pub way: u64,
    /// Requests by what lies where they begin.
    pub of: Of,
    /// Files of the root whose data was read, in the order of their first reads.
    pub first: Vec<String>,
}

/// Requests by what they read.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Of {
    /// Data of files of the root.
    pub data: usize,
    /// Directories, inodes and indexes of the root.
    pub metadata: usize,
    /// The hash tree.
    pub hashes: usize,
    /// Firmware, loader and partition tables.
    pub others: usize,
}

/// Boots by one plan and tells what was read, until the verdict of a test would come.
pub fn reads(
    booted: &Booted,
    plan: &TestPlan,
    host: &Host,
    context: &Context,
) -> Result<Reads, Failure> {
    if plan.disk_bus != DiskBus::Virtio || plan.format != Format::Raw {
        let problem = format!(
            "the test `{}` boots no raw disk on a virtio bus",
            plan.title()
        );
        let help = "choose another test with --only, or add one to the recipe";
        return Err(Failure::message(Exit::Usage, problem).help(help));
    }
    let scratch = scratch()?;
    let trace = scratch.path().join(TRACE);
    let evidence = boot_quietly(booted, plan, host, scratch.path(), Some(&trace), context)?;
    let text = fs::read_to_string(&trace).unwrap_or_default();
    let ranges = baker_vm::reads(&text);
    if ranges.is_empty() {
        let problem = format!("QEMU told of no read; the test says: {}", evidence.verdict);
        let help = "this needs a QEMU that writes traces to a log (configured with \
                    --enable-trace-backends=log, as Debian's is)";
        return Err(Failure::message(Exit::Environment, problem).help(help));
    }
    if !evidence.verdict.is_passed() {
        let text = format!("the boot failed its test: {}", evidence.verdict);
        context.printer().warn(&text);
    }
    let (path, _) = booted.file(FileRole::Disk)?;
    let map = map(&path)?;
    Ok(told(&ranges, &map))
}

fn map(path: &Path) -> Result<Anatomy, Failure> {
    let unreadable = |error: anyhow::Error| {
        Failure::new(Exit::Verify, error).context(format!("cannot map {}", path.display()))
    };
    let file = File::open(path).map_err(|error| unreadable(error.into()))?;
    let size = file.metadata().map_err(|error| unreadable(error.into()))?;
    anatomy::anatomy(&file, size.len()).map_err(|error| unreadable(error.into()))
}

fn told(ranges: &[Range<u64>], map: &Anatomy) -> Reads {
    let is_root = |range: &&Range<u64>| {
        let region = map.at(range.start);
        region.is_some_and(|region| matches!(region.structure, Structure::Root { .. }))
    };
    let root: Vec<&Range<u64>> = ranges.iter().filter(is_root).collect();
    let ways = root
        .windows(2)
        .map(|pair| pair[1].start.abs_diff(pair[0].end));
    let mut told = Reads {
        reads: ranges.len(),
        bytes: ranges.iter().map(|range| range.end - range.start).sum(),
        in_sequence: ways.clone().filter(|way| *way == 0).count(),
        way: ways.sum(),
        of: Of::default(),
        first: Vec::new(),
    };
    let mut seen = HashSet::new();
    for range in ranges {
        match map.at(range.start).map(|region| &region.structure) {
            Some(Structure::Root { part, .. }) if is_data(part) => told.of.data += 1,
            Some(Structure::Root { .. }) => told.of.metadata += 1,
            Some(Structure::HashTree { .. }) => told.of.hashes += 1,
            _ => told.of.others += 1,
        }
        let mut at = range.start;
        while let Some(region) = map.at(at).filter(|_| at < range.end) {
            if let Structure::Root { part, .. } = &region.structure
                && let RootPart::Erofs(Part::Data, Some(path)) = part
                // Escaped, which a recipe does not undo; no file that a boot reads is called so.
                && !path.contains('\\')
                && seen.insert(path.clone())
            {
                told.first.push(path.clone());
            }
            at = region.range.end;
        }
    }
    told
}

const fn is_data(part: &RootPart) -> bool {
    matches!(part, RootPart::Erofs(Part::Data, _))
}
