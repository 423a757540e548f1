//! `baker inspect`

use std::io;
use std::path::PathBuf;

use baker_build::look::{Disk, Look, Owners, Program, Survey, survey};
use baker_build::overlay::Pattern;
use baker_formats::volume::{Entry, EntryKind, Volume};
use baker_model::tree::TreePath;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::Artefact;
use crate::ui::{Answer, survey_text};

/// Looks into a release, a draft or any disk image, without mounting it.
///
/// Reads raw, qcow2, vmdk and vhd images with GPT, MBR or no table, roots in
/// EROFS, SquashFS, ext4 or FAT, and tar archives. Nothing is verified: for
/// that there is `baker verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a release or draft, or a disk image
    artefact: PathBuf,
    /// List the files of the root, or those that match a pattern such as
    /// `/etc/**`
    #[arg(long, value_name = "GLOB", num_args = 0..=1, default_missing_value = "/**")]
    files: Option<String>,
    /// Write the bytes of one file of the root to standard output
    #[arg(long, value_name = "PATH", conflicts_with = "files")]
    cat: Option<String>,
}

/// The answer as JSON.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Inspection<'a> {
    name: &'a str,
    #[serde(flatten)]
    disk: &'a Disk,
    programs: &'a [Program],
    root: Option<&'a Survey>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let artefact = Artefact::read(&args.artefact)?;
    let Some(look) = artefact.look()? else {
        let problem = format!("{} has no disk", args.artefact.display());
        return Err(Failure::message(Exit::Usage, problem)
            .help("name a release, a draft or a disk image; bake a recipe first"));
    };
    if let Some(path) = &args.cat {
        return cat(&look, path, context);
    }
    let surveyed = survey(&look).map_err(unreadable)?;
    if let Some(pattern) = &args.files {
        let (_, volume) = root(&look)?;
        let owners = surveyed.map(|(_, owners)| owners).unwrap_or_default();
        return list(volume, &owners, pattern, context);
    }
    let found = surveyed.as_ref().map(|(survey, _)| survey);
    let answer = Inspection {
        name: &artefact.name,
        disk: &look.disk,
        programs: &look.programs,
        root: found,
    };
    let text = survey_text(&artefact.name, &look, found);
    context.answer(text.trim_end(), &answer)
}

fn unreadable(error: io::Error) -> Failure {
    Failure::new(Exit::Usage, error).context("cannot read a file of the root")
}

fn root(look: &Look) -> Result<&(u32, Volume), Failure> {
    look.root.as_ref().ok_or_else(|| {
        let problems = look.disk.partitions.iter();
        let problem = problems
            .filter_map(|partition| partition.problem.clone())
            .next();
        let text = problem.unwrap_or_else(|| "it has no root file system that can be read".into());
        Failure::message(Exit::Usage, text)
    })
}

/// Writes a file to standard output, piece by piece.
fn cat(look: &Look, path: &str, context: &Context) -> Result<(), Failure> {
    let (_, volume) = root(look)?;
    let wanted = TreePath::new(path).map_err(|error| Failure::new(Exit::Usage, error))?;
    let Some((at, _)) = volume.find(&wanted) else {
        return Err(
            Failure::message(Exit::Usage, format!("there is no {wanted} in the root"))
                .help("list what there is with --files"),
        );
    };
    let mut out = Output {
        context,
        failure: None,
    };
    let copied = volume.copy(at, &mut out);
    match out.failure {
        Some(failure) => Err(failure),
        None => copied.map_err(|error| {
            Failure::new(Exit::Usage, error).context(format!("cannot read {wanted}"))
        }),
    }
}

/// Standard output as a stream; keeps the failure that ended it.
struct Output<'a> {
    context: &'a Context,
    failure: Option<Failure>,
}

impl io::Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.context.printer().bytes(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(failure) => {
                self.failure = Some(failure);
                Err(io::Error::other("standard output is gone"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One file as JSON.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Listed<'a> {
    path: String,
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<String>,
    package: Option<&'a str>,
}

fn list(volume: &Volume, owners: &Owners, glob: &str, context: &Context) -> Result<(), Failure> {
    let pattern = Pattern::parse(glob).map_err(|error| Failure::new(Exit::Usage, error))?;
    let found = volume
        .entries()
        .iter()
        .filter(|(path, _)| pattern.matches(path));
    for (path, entry) in found {
        let row = listed(path, entry, owners.of(path));
        match context.printer().answer() {
            Answer::Json => context.printer().json(&row)?,
            Answer::Text => context.printer().data(&line(&row))?,
        }
        if context.interrupt().is_raised() {
            return Err(Failure::message(Exit::Interrupted, "interrupted"));
        }
    }
    Ok(())
}

fn listed<'a>(path: &TreePath, entry: &Entry, package: Option<&'a str>) -> Listed<'a> {
    let kind = match &entry.kind {
        EntryKind::Directory => "directory",
        EntryKind::File { .. } => "file",
        EntryKind::Symlink { .. } => "symlink",
        EntryKind::CharDevice { .. } => "char-device",
        EntryKind::BlockDevice { .. } => "block-device",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
    };
    let target = match &entry.kind {
        EntryKind::Symlink { target } => Some(String::from_utf8_lossy(target).into_owned()),
        _ => None,
    };
    let names = entry.metadata.xattrs.keys();
    Listed {
        path: path.to_string(),
        kind,
        mode: format!("{:04o}", entry.metadata.mode),
        uid: entry.metadata.uid,
        gid: entry.metadata.gid,
        size: entry.size(),
        target,
        xattrs: names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect(),
        package,
    }
}

/// One file as a line: kind and mode, owner, size, path, package.
fn line(row: &Listed<'_>) -> String {
    let letter = match row.kind {
        "directory" => 'd',
        "symlink" => 'l',
        "char-device" => 'c',
        "block-device" => 'b',
        "fifo" => 'p',
        "socket" => 's',
        _ => '-',
    };
    let mut text = format!(
        "{letter} {} {:>9} {:>10} {}",
        row.mode,
        format!("{}:{}", row.uid, row.gid),
        row.size,
        row.path,
    );
    if let Some(target) = &row.target {
        text.push_str(&format!(" -> {target}"));
    }
    if let Some(package) = row.package {
        text.push_str(&format!("  [{package}]"));
    }
    crate::ui::printable(&text)
}
