//! Folders of this host for a machine: whether its image can mount them, and who serves them.

use std::path::Path;

use baker_build::look::Look;
use baker_model::tree::TreePath;
use baker_vm::{Environment, Share, ShareError, Sharing};

use super::{Artefact, Booted};
use crate::exit::{Exit, Failure};

/// systemd's generator that makes units of credentials.
const GENERATOR: &str = "/usr/lib/systemd/system-generators/systemd-debug-generator";

/// The first systemd whose generator does.
const SYSTEMD: &str = "256~";

/// Lists of a kernel's modules are smaller.
const LIST_LIMIT: u64 = 16 << 20;

/// Refuses an image that could not mount shared folders, naming what it lacks.
pub(super) fn check(booted: &Booted, shares: &[Share]) -> Result<(), Failure> {
    if shares.is_empty() {
        return Ok(());
    }
    let packages = &booted.manifest().packages;
    let systemd = packages.iter().find(|package| package.name == "systemd");
    let new = systemd.is_some_and(|it| baker_model::version::compare(&it.version, SYSTEMD).is_ge());
    let look = Artefact::read(booted.folder())?.look()?;
    let mounts = new && look.as_ref().is_some_and(|look| exists(look, GENERATOR));
    if !mounts {
        let problem = "the image cannot mount a shared folder: systemd 256 or newer does so";
        return Err(Failure::message(Exit::Usage, problem)
            .help("add \"systemd\" to [debian] packages, or leave --share out"));
    }
    match look.as_ref().map(knows_virtiofs) {
        Some(Ok(true)) => Ok(()),
        Some(Err(error)) => Err(Failure::new(Exit::Verify, error)
            .context("cannot read the list of modules of the image's kernel")),
        _ => Err(Failure::message(
            Exit::Usage,
            "the image's kernel cannot mount a shared folder: it has no virtiofs",
        )
        .help("add \"virtiofs\" to root-modules in [kernel], and bake again")),
    }
}

/// Starts the daemons; they end when what is given is dropped.
pub(super) fn serve(
    shares: &[Share],
    environment: &Environment,
    scratch: &Path,
) -> Result<Vec<Sharing>, Failure> {
    let served = shares
        .iter()
        .enumerate()
        .map(|(number, share)| share.serve(environment, scratch, number));
    served
        .collect::<Result<_, _>>()
        .map_err(|error: ShareError| {
            let mend = match &error {
                ShareError::NoDaemon => Some(
                    "install it: apt-get install virtiofsd (Debian 12: qemu-system-common has it)",
                ),
                ShareError::Namespace { .. } => Some(
                    "as root: apt-get install uidmap, and usermod --add-subuids 100000-165535 \
                     --add-subgids 100000-165535 USER",
                ),
                ShareError::Start { .. } => None,
            };
            Failure::new(Exit::Environment, error).help_if(mend)
        })
}

/// The first daemon that failed, when the machine could not be had.
pub(super) fn failure(served: &mut [Sharing]) -> Option<Failure> {
    let said = served.iter_mut().find_map(Sharing::failure)?;
    Some(Failure::message(Exit::Environment, said).context("a shared folder is not served"))
}

fn exists(look: &Look, path: &str) -> bool {
    let found = look
        .root
        .as_ref()
        .zip(TreePath::new(path).ok())
        .and_then(|((_, volume), path)| volume.find(&path).map(drop));
    found.is_some()
}

/// Built in, or a module of the root.
fn knows_virtiofs(look: &Look) -> std::io::Result<bool> {
    let Some((_, volume)) = &look.root else {
        return Ok(false);
    };
    let lists = volume.entries().keys().filter(|path| {
        let name = path.components().next_back();
        matches!(name, Some(b"modules.builtin" | b"modules.dep"))
    });
    for path in lists {
        let text = volume.read(path, LIST_LIMIT)?.unwrap_or_default();
        if text
            .windows(b"/virtiofs.ko".len())
            .any(|part| part == b"/virtiofs.ko")
        {
            return Ok(true);
        }
    }
    Ok(false)
}
