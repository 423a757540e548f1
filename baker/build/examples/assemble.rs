//! Assembles packages by hand, to compare the tree with other tools and to measure.
//!
//! `assemble <list> <objects> <threads> [<folder>]`: `list` has one package per line (name, version, architecture,
//! path, size, SHA-256, separated by tabs), `objects` holds the files by their SHA-256. Prints the tree, one line
//! per node; with a folder, the tree is written there with its package database, for `dpkg --root`. Packages
//! named `linux-image-*` give a kernel and `systemd-boot-efi` the boot programs, of which the sizes are told.

#![expect(
    clippy::print_stderr,
    reason = "standard output is the tree; the rest is talk"
)]

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use baker_build::assemble::{Clashes, Limits, Request, assemble};
use baker_build::{Assembled, Spool, dpkg_database, kernel};
use baker_model::lock::{GuestLock, LOCK_VERSION, PackageLock, PackageRole};
use baker_model::object::{ObjectError, Objects, ReadSeek};
use baker_model::recipe::Architecture;
use baker_model::tree::{Contents as _, Kind, Node, TreePath};
use baker_model::{Digest, Interrupt, Lock, Silent};

struct Folder(PathBuf);

impl Objects for Folder {
    fn open(&self, digest: &Digest) -> Result<Box<dyn ReadSeek>, ObjectError> {
        let file = File::open(self.0.join(digest.to_string()));
        let file = file.map_err(|source| ObjectError::Read {
            digest: *digest,
            source,
        })?;
        Ok(Box::new(file))
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, list, objects, threads, rest @ ..] = &arguments[..] else {
        anyhow::bail!("usage: assemble <list> <objects> <threads> [<folder>]");
    };
    let lock = read_list(&fs::read_to_string(list)?)?;
    let spool = Spool::new(&std::env::temp_dir())?;
    let (inputs, interrupt) = (Folder(objects.into()), Interrupt::new());
    let mut assembled = assemble(Request {
        lock: &lock,
        inputs: &inputs,
        keep: None,
        spool: &spool,
        threads: threads.parse()?,
        limits: Limits::default(),
        clashes: Clashes::Refused,
        listener: &Silent,
        interrupt: &interrupt,
    })?;
    if lock
        .packages
        .iter()
        .any(|package| package.role == PackageRole::Kernel)
    {
        let request = kernel::Request {
            lock: &lock,
            inputs: &inputs,
            keep: None,
            interrupt: &interrupt,
        };
        tell_kernel(request, &spool)?;
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    for (path, node) in assembled.tree.walk() {
        writeln!(out, "{}", line(path, node))?;
    }
    out.flush()?;
    if let Some(folder) = rest.first() {
        dpkg_database::record(&mut assembled, &spool, lock.epoch)?;
        extract(&assembled, &spool, Path::new(folder))?;
    }
    Ok(())
}

fn tell_kernel(request: kernel::Request<'_>, spool: &Spool) -> Result<()> {
    let parts = kernel::kernel(request, spool)?;
    let config = parts.config.map_or(0, |config| config.len());
    let (release, image, nodes) = (&parts.release, parts.image.len(), parts.modules.len());
    eprintln!("kernel {release}: image {image} bytes, config {config}, {nodes} nodes of modules");
    if request
        .lock
        .packages
        .iter()
        .any(|package| package.role == PackageRole::Boot)
    {
        let parts = kernel::boot_parts(request, Architecture::Amd64, spool)?;
        eprintln!(
            "stub {} bytes, loader {} bytes",
            parts.stub.len(),
            parts.loader.len()
        );
    }
    Ok(())
}

fn read_list(text: &str) -> Result<Lock> {
    let package = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, version, architecture, path, size, sha256] = fields[..] else {
            anyhow::bail!("bad line `{line}`");
        };
        Ok(PackageLock {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            role: match name {
                "systemd-boot-efi" => PackageRole::Boot,
                _ if name.starts_with("linux-image-") => PackageRole::Kernel,
                _ => PackageRole::Root,
            },
            archive: "debian".to_owned(),
            path: path.to_owned(),
            size: size.parse()?,
            sha256: sha256.parse()?,
        })
    };
    Ok(Lock {
        version: LOCK_VERSION,
        recipe: Digest::of(b""),
        epoch: i64::from(u32::MAX),
        guest: GuestLock {
            size: 0,
            sha256: Digest::of(b""),
        },
        files: Vec::new(),
        archives: Vec::new(),
        packages: text.lines().map(package).collect::<Result<_>>()?,
        layers: Vec::new(),
        stages: Vec::new(),
    })
}

/// `path type mode uid gid mtime what [link number]`, what = digest, target or device.
fn line(path: &TreePath, node: &Node) -> String {
    let (letter, what) = match &node.kind {
        Kind::Directory => ('d', String::new()),
        Kind::File { content, .. } => ('f', content.digest().to_string()),
        Kind::Symlink { target } => ('l', String::from_utf8_lossy(target).into_owned()),
        Kind::CharDevice { major, minor } => ('c', format!("{major}:{minor}")),
        Kind::BlockDevice { major, minor } => ('b', format!("{major}:{minor}")),
        Kind::Fifo => ('p', String::new()),
        Kind::Socket => ('s', String::new()),
    };
    let metadata = &node.metadata;
    let (mode, uid, gid, mtime) = (metadata.mode, metadata.uid, metadata.gid, metadata.mtime);
    format!("{path}\t{letter}\t{mode:o}\t{uid}\t{gid}\t{mtime}\t{what}")
}

/// Files, directories and symlinks; enough for `dpkg --root`.
fn extract(assembled: &Assembled, spool: &Spool, folder: &Path) -> Result<()> {
    for (path, node) in assembled.tree.walk() {
        let at = folder.join(std::str::from_utf8(path.as_bytes())?);
        match &node.kind {
            Kind::Directory => fs::create_dir_all(&at),
            Kind::Symlink { target } => {
                std::os::unix::fs::symlink(std::str::from_utf8(target)?, &at)
            }
            Kind::File { content, .. } => {
                let mut bytes = vec![0; usize::try_from(content.size())?];
                match content {
                    baker_model::tree::Content::Inline(inline) => bytes.copy_from_slice(inline),
                    baker_model::tree::Content::Extern { digest, .. } => {
                        spool.read_exact_at(digest, 0, &mut bytes)?;
                    }
                }
                fs::write(&at, bytes)
            }
            _ => Ok(()),
        }
        .with_context(|| format!("cannot write {}", at.display()))?;
    }
    Ok(())
}
