//! What the neighbours of a machine under test boot: the image's own kernel, with an initramfs
//! that holds the driver of a network card and baker's neighbour, and nothing else.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use baker_build::look::look;
use baker_build::{initrd, modules};
use baker_formats::io::Part;
use baker_formats::volume::{EntryKind, Volume};
use baker_model::Tree;
use baker_model::manifest::FileRole;
use baker_model::plan::{Firmware, TestPlan};
use baker_model::recipe::RootFormat;
use baker_model::tree::{Content, Kind, Metadata, NoContents, Node, Origin, TreePath};
use baker_vm::{Boot, NEIGHBOUR_MODULES, NeighbourFiles};

use super::Host;
use super::host::architecture;
use super::smoke::Booted;
use crate::exit::{Exit, Failure};
use crate::guest::NATIVE;
use crate::program::NEIGHBOUR;

/// Where images have their modules.
const MODULES: &str = "usr/lib/modules";

/// No module and no list of modules is larger.
const LARGEST: u64 = 64 << 20;

/// Makes them in `folder`; none when no plan has neighbours.
///
/// # Errors
/// The image is for other machines, has no driver for the card, or cannot be read.
pub(super) fn files(
    booted: &Booted,
    plans: &[TestPlan],
    host: &Host,
    folder: &Path,
) -> Result<Option<NeighbourFiles>, Failure> {
    if plans.iter().all(|plan| plan.neighbours.is_empty()) {
        return Ok(None);
    }
    let wanted = architecture(booted.manifest())?;
    if wanted != NATIVE {
        let problem = format!(
            "this baker has no neighbours for tests of {} machines: it carries the program for {} \
             only",
            wanted.name(),
            NATIVE.name()
        );
        return Err(Failure::message(Exit::Environment, problem)
            .help("test the image on a machine of its own kind"));
    }
    let Boot::Direct(direct) = booted.boot(Firmware::Direct, host, folder)? else {
        let problem = "a direct boot has a kernel";
        return Err(Failure::message(Exit::Internal, problem));
    };
    let initrd = folder.join("neighbour.initrd");
    let packed = packed(booted)?;
    fs::write(&initrd, packed).map_err(|error| {
        Failure::new(Exit::Internal, error).context(format!("cannot write {}", initrd.display()))
    })?;
    Ok(Some(NeighbourFiles {
        kernel: direct.kernel,
        initrd,
    }))
}

fn packed(booted: &Booted) -> Result<Vec<u8>, Failure> {
    let (disk, _) = booted.file(FileRole::Disk)?;
    let failed = |error: anyhow::Error| {
        let doing = format!(
            "cannot take the drivers of a network card from {}",
            disk.display()
        );
        Failure::new(Exit::Verify, error)
            .context(doing)
            .help("tests with neighbours need virtio_net among the `root-modules` of [kernel]")
    };
    let tree = kernel_tree(&disk).map_err(failed)?;
    let known = modules::Modules::read(&tree, &NoContents).map_err(|error| failed(error.into()))?;
    let names = NEIGHBOUR_MODULES.map(str::to_owned);
    let loaded = known.closure(&NoContents, &names);
    let loaded = loaded.map_err(|error| failed(error.into()))?.into_iter();
    let modules: Vec<initrd::Module> = loaded
        .map(|module| initrd::Module {
            path: format!("/lib/modules/{}.ko", module.name),
            bytes: module.bytes,
            is_driver: false,
            hardware: Vec::new(),
        })
        .collect();
    let request = initrd::Request {
        guest: NEIGHBOUR,
        modules: &modules,
        // Named in every initrd of baker's; there is no root here.
        root_format: RootFormat::Erofs,
        epoch: 0,
        packing: initrd::Packing::Plain,
        budget: None,
    };
    let initrd = initrd::initrd(&request).map_err(|error| failed(error.into()))?;
    Ok(initrd.bytes)
}

/// The modules of the disk's root, with their lists, as the tree of a kernel package has them.
fn kernel_tree(disk: &Path) -> anyhow::Result<Tree> {
    let file = File::open(disk)?;
    let size = file.metadata()?.len();
    let look = look(Part::new(Arc::new(file), size))?;
    let Some((_, volume)) = look.root else {
        anyhow::bail!("there is no root on it");
    };
    let mut tree = Tree::new(0);
    for (path, entry) in volume.entries() {
        let is_below = path.to_string().starts_with(&format!("/{MODULES}/"));
        if is_below && matches!(entry.kind, EntryKind::File { .. }) {
            add(&mut tree, &volume, path)?;
        }
    }
    Ok(tree)
}

fn add(tree: &mut Tree, volume: &Volume, path: &TreePath) -> anyhow::Result<()> {
    let Some(bytes) = volume.read(path, LARGEST)? else {
        return Ok(());
    };
    tree.ensure_parents(path, 0)?;
    let node = Node {
        metadata: Metadata::of_root(0o644, 0),
        kind: Kind::file(Content::inline(bytes)),
        origin: Origin::Implied,
    };
    tree.insert(path.clone(), node)?;
    Ok(())
}
