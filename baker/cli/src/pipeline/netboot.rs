//! Booting the netboot pair of a draft or release: kernel and initrd, no disk.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, absolute};

use baker_model::manifest::FileRole;
use baker_model::{Digest, Digester};
use baker_vm::DirectBoot;

use super::smoke::Booted;
use crate::exit::{Exit, Failure};

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;

/// What QEMU starts, as a boot server would hand it out.
pub(super) fn boot(booted: &Booted) -> Result<DirectBoot, Failure> {
    let place = |role| {
        let (path, _) = booted.file(role)?;
        absolute(&path).map_err(|error| unreadable(&path, error))
    };
    Ok(DirectBoot {
        kernel: place(FileRole::Kernel)?,
        initrd: place(FileRole::NetbootInitrd)?,
        append: booted.manifest().command_line.clone(),
    })
}

/// The digest of both files, one behind the other; each has that of the manifest.
pub(super) fn digest(booted: &Booted) -> Result<Digest, Failure> {
    let mut both = Digester::new();
    for role in [FileRole::Kernel, FileRole::NetbootInitrd] {
        let (path, expected) = booted.file(role)?;
        let mut one = Digester::new();
        let mut file = File::open(&path).map_err(|error| unreadable(&path, error))?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    one.update(&buffer[..count]);
                    both.update(&buffer[..count]);
                }
                Err(error) => return Err(unreadable(&path, error)),
            }
        }
        if one.finish() != expected {
            let problem = format!("{} is not the file of the manifest", path.display());
            return Err(Failure::message(Exit::Verify, problem)
                .help("see all problems with: baker verify RELEASE"));
        }
    }
    Ok(both.finish())
}

fn unreadable(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Exit::Verify, error).context(format!("cannot read {}", path.display()))
}
