//! The account of a release's disk: what is on it, made again from itself, and compared with its
//! bill of materials and the packages of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use baker_build::pins::{self, Account, Program, Rebuilt, Shipped};
use baker_build::sbom::{self, Record};
use baker_build::{Spool, anatomy, assemble, disk, image, initrd, kernel, uki, verity};
use baker_fetch::Store;
use baker_formats::erofs;
use baker_formats::gpt;
use baker_formats::io::{Slice, Source as _};
use baker_formats::pe::authenticode;
use baker_model::layout::Role;
use baker_model::lock::PackageRole;
use baker_model::manifest::FileRole;
use baker_model::recipe::FileSource;
use baker_model::tree::{Content, Contents, Kind};
use baker_model::{Digest, Lock, Manifest, Recipe, Tree};

use super::{bake, secure_boot};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Bytes compared at a time.
const STEP: usize = 1 << 20;

/// Differing bytes nearer to each other than this are one range.
const NEAR: u64 = 512;

/// Accounts for every byte of the disk of the release in `folder`.
pub fn account(folder: &Path, context: &Context) -> Result<Account, Failure> {
    let failed = |error: anyhow::Error| {
        context.failure(Exit::Verify, error).context(format!(
            "cannot account for the disk of {}",
            folder.display()
        ))
    };
    let release = Release::read(folder).map_err(failed)?;
    let store = context.store()?;
    let scratch = super::smoke::scratch()?;
    let bench = Bench {
        release: &release,
        store: &store,
        scratch: scratch.path(),
        spool: Spool::new(scratch.path()).map_err(|error| failed(error.into()))?,
        context,
    };
    bench.account().map_err(failed)
}

/// What a release says of itself, each file checked against the manifest.
struct Release<'a> {
    folder: &'a Path,
    manifest: Manifest,
    recipe: Recipe,
    lock: Lock,
    records: Vec<Record>,
    disk: PathBuf,
}

impl<'a> Release<'a> {
    fn read(folder: &'a Path) -> anyhow::Result<Self> {
        let manifest = Manifest::parse(&fs::read(folder.join(baker_ship::MANIFEST))?)?;
        let bytes = |role, what| {
            let file = manifest.file(role);
            let file = file.with_context(|| format!("the release has no {what}"))?;
            let bytes = fs::read(folder.join(&file.name))?;
            let is_named = Digest::of(&bytes) == file.sha256;
            anyhow::ensure!(is_named, "{} is not what the manifest names", file.name);
            Ok(bytes)
        };
        let recipe = String::from_utf8(bytes(FileRole::Recipe, "recipe")?)?;
        let recipe = Recipe::parse(&recipe)?;
        let lock = Lock::parse(&String::from_utf8(bytes(FileRole::Lock, "lock")?)?)?;
        let is_own = (recipe.digest(), lock.digest()) == (manifest.recipe, manifest.lock);
        anyhow::ensure!(
            is_own,
            "recipe and lock are not those that the manifest names"
        );
        let what = "bill of materials (CycloneDX); a newer baker writes one";
        let records = sbom::read(&bytes(FileRole::Cyclonedx, what)?)?;
        let disk = manifest
            .file(FileRole::Disk)
            .context("the release has no disk")?;
        Ok(Self {
            folder,
            disk: folder.join(&disk.name),
            records,
            recipe,
            lock,
            manifest,
        })
    }

    /// Digests that recipe and lock name.
    fn pinned(&self) -> BTreeSet<Digest> {
        let local = self.lock.files.iter().map(|file| file.sha256);
        let written = self
            .recipe
            .files
            .iter()
            .filter_map(|file| match file.source() {
                FileSource::Content(text) => Some(Digest::of(text.as_bytes())),
                FileSource::Local(_) => None,
            });
        let guest = self.lock.guest.sha256;
        local.chain(written).chain([guest]).collect()
    }
}

/// What the account is made with.
struct Bench<'a> {
    release: &'a Release<'a>,
    store: &'a Store,
    scratch: &'a Path,
    spool: Spool,
    context: &'a Context,
}

impl Bench<'_> {
    fn account(&self) -> anyhow::Result<Account> {
        let path = &self.release.disk;
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let size = file.metadata()?.len();
        let map = anatomy::anatomy(&file, size)?;
        let root = self.root(&file)?;
        let bytes = secure_boot::esp_programs(path)?;
        let programs = bytes.iter().map(|(path, bytes)| pins::program(path, bytes));
        let mut programs: Vec<Program> = programs.collect::<Result<_, _>>()?;
        let mut again = BTreeMap::new();
        let shipped = self.shipped(&root, &mut programs, &mut again)?;
        let again = self.signed_again(&bytes, again)?;
        let made = self.made_again(&root, &again, &programs)?;
        let differences = differences(&file, &File::open(&made)?, size)?;
        Ok(pins::account(&pins::Request {
            regions: map.regions(),
            records: &self.release.records,
            root: &root,
            programs: &programs,
            differences: &differences,
            shipped: shipped.as_ref(),
            pinned: &self.release.pinned(),
        }))
    }

    /// The root of the disk, its contents in the spool.
    fn root(&self, disk: &File) -> anyhow::Result<Tree> {
        let layout = gpt::read(&mut Slice::new(disk, 0..disk.metadata()?.len()))?;
        let mut roots = layout.partitions.iter().filter(|p| p.role == Role::Root);
        let root = roots.next().context("the disk has no root partition")?;
        let slice = Slice::new(disk, root.offset..root.offset + root.size);
        let (tree, contents) = erofs::read(&slice).context("cannot read the root file system")?;
        for (path, node) in tree.walk() {
            if let Kind::File { content, .. } = &node.kind
                && let Content::Extern { digest, size } = content
            {
                let mut reader = Reader {
                    contents: &contents,
                    digest,
                    position: 0,
                    size: *size,
                };
                let kept = self.spool.add(&mut reader, *size);
                kept.with_context(|| format!("cannot read {path}"))?;
            }
        }
        Ok(tree)
    }

    /// The programs as the packages make them, or without their signatures, with their signatures
    /// put together anew: nothing hides beside a signature, or in a checksum.
    fn signed_again(
        &self,
        found: &BTreeMap<String, Vec<u8>>,
        mut again: BTreeMap<String, Vec<u8>>,
    ) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let secure = self.release.manifest.secure_boot.as_ref();
        let keys = secure.map(|secure| secure_boot::read_keys(self.release.folder, secure));
        let keys = keys.transpose()?;
        let mut programs = BTreeMap::new();
        for (path, found) in found {
            let unsigned = match again.remove(path) {
                Some(made) => made,
                None => authenticode::strip(found)?,
            };
            let signed = keys.as_ref().map(|keys| {
                let signed = authenticode::carry_over(&unsigned, found, &keys.database);
                // Whether the signature holds is the question of who verifies the release.
                signed.unwrap_or_else(|_| found.clone())
            });
            programs.insert(path.clone(), signed.unwrap_or(unsigned));
        }
        Ok(programs)
    }

    /// A disk made of what lies on the disk.
    fn made_again(
        &self,
        root: &Tree,
        bytes: &BTreeMap<String, Vec<u8>>,
        programs: &[Program],
    ) -> anyhow::Result<PathBuf> {
        let (recipe, lock) = (&self.release.recipe, self.release.lock.digest());
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let image = self.scratch.join("root.image");
        image::image(image::Request {
            tree: root,
            contents: &self.spool,
            keep: None,
            root: &recipe.root,
            lock: &lock,
            epoch: self.release.lock.epoch,
            threads,
            out: &image,
            listener: self.context.listener(),
            interrupt: self.context.interrupt(),
        })?;
        let tree = self.scratch.join("root.verity");
        let hash_tree = verity::verity(&verity::Request {
            image: &image,
            tree: &tree,
            lock,
            threads: threads.get(),
        })?;
        let program = |is_uki: bool| {
            let found = programs
                .iter()
                .find(|program| program.uki.is_some() == is_uki);
            found.and_then(|program| bytes.get(&program.path))
        };
        let path = self.scratch.join("disk");
        disk::disk(&disk::Request {
            path: &path,
            name: &recipe.name,
            version: &recipe.version,
            architecture: recipe.architecture,
            lock,
            epoch: self.release.lock.epoch,
            disk: &recipe.disk,
            uki: program(true).context("the ESP holds no UKI")?,
            loader: program(false).map(|program| disk::Loader {
                program,
                menu_seconds: recipe.boot.menu_seconds,
            }),
            root: &image,
            tree: &tree,
            root_hash: hash_tree.root_hash,
        })?;
        Ok(path)
    }

    /// What the packages hold; none when the store lacks one. Makes the programs again of them,
    /// and puts those that are equal into `again`.
    fn shipped(
        &self,
        root: &Tree,
        programs: &mut [Program],
        again: &mut BTreeMap<String, Vec<u8>>,
    ) -> anyhow::Result<Option<Shipped>> {
        let (recipe, lock) = (&self.release.recipe, &self.release.lock);
        for package in &lock.packages {
            let presence = self.store.presence(&package.sha256, package.size)?;
            if presence != baker_fetch::Presence::Present {
                return Ok(None);
            }
        }
        let interrupt = self.context.interrupt();
        let assembled = assemble::assemble(assemble::Request {
            lock,
            inputs: self.store,
            // Whoever verifies believes no earlier work.
            keep: None,
            spool: &self.spool,
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            limits: assemble::Limits::default(),
            clashes: assemble::Clashes::of(recipe.debian.scripts),
            listener: self.context.listener(),
            interrupt,
        })?;
        let request = kernel::Request {
            lock,
            inputs: self.store,
            keep: None,
            interrupt,
        };
        let kernel = kernel::kernel(request, &self.spool)?;
        let boot = kernel::boot_parts(request, recipe.architecture, &self.spool)?;
        let initrd = bake::initrd_modules(recipe, &kernel, &self.spool)?;
        let mut shipped = Shipped::default();
        shipped.add_tree(&assembled.tree);
        shipped.add_tree(&kernel.modules);
        let named = |role: PackageRole| {
            lock.packages
                .iter()
                .find(move |package| package.role == role)
        };
        if let Some(package) = named(PackageRole::Kernel) {
            let name: Arc<str> = package.name.as_str().into();
            shipped.add(&name, Digest::of(&kernel.image));
            for module in &initrd {
                shipped.add(&name, Digest::of(&module.bytes));
            }
        }
        for program in programs {
            let bytes = match &program.uki {
                None => boot.loader.clone(),
                Some(parts) => self.uki(root, parts, &kernel, &boot.stub, &initrd)?,
            };
            let is_same = authenticode::digest(&bytes)? == program.authenticode;
            program.rebuilt = match is_same {
                true => Rebuilt::Same,
                false => Rebuilt::Other,
            };
            if is_same {
                again.insert(program.path.clone(), bytes);
            }
        }
        Ok(Some(shipped))
    }

    /// A UKI of the packages' parts, and of the guest program that lies on the disk.
    fn uki(
        &self,
        root: &Tree,
        parts: &pins::Uki,
        kernel: &kernel::KernelParts,
        stub: &[u8],
        modules: &[initrd::Module],
    ) -> anyhow::Result<Vec<u8>> {
        let packed = initrd::initrd(&initrd::Request {
            guest: &parts.init,
            modules,
            root_format: self.release.recipe.root.format,
            epoch: self.release.lock.epoch,
            packing: initrd::Packing::default(),
            budget: None,
        })?;
        let os_release = super::materials::file(root, &self.spool, "usr/lib/os-release")?;
        Ok(uki::uki(&uki::Request {
            stub,
            kernel: &kernel.image,
            initrd: &packed.bytes,
            command_line: &self.release.manifest.command_line,
            os_release: &os_release,
            release: &kernel.release,
        })?)
    }
}

/// A file of an image from its beginning.
struct Reader<'a> {
    contents: &'a dyn Contents,
    digest: &'a Digest,
    position: u64,
    size: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let part = &mut buffer[..length];
        self.contents
            .read_exact_at(self.digest, self.position, part)?;
        self.position += length as u64;
        Ok(length)
    }
}

/// Where two disks differ, sorted; what one has more than the other is a difference, too.
fn differences(disk: &File, made: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let both = size.min(made.metadata()?.len());
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let (mut left, mut right) = (vec![0; STEP], vec![0; STEP]);
    let mut at = 0;
    while at < both {
        let length = usize::try_from(both - at).unwrap_or(STEP).min(STEP);
        let (left, right) = (&mut left[..length], &mut right[..length]);
        disk.read_exact_at(at, left)?;
        made.read_exact_at(at, right)?;
        if left != right {
            for (byte, _) in (at..)
                .zip(left.iter().zip(&*right))
                .filter(|(_, (a, b))| a != b)
            {
                match ranges.last_mut().filter(|last| byte - last.end < NEAR) {
                    Some(last) => last.end = byte + 1,
                    None => ranges.push(byte..byte + 1),
                }
            }
        }
        at += length as u64;
    }
    if both < size {
        ranges.push(both..size);
    }
    Ok(ranges)
}
