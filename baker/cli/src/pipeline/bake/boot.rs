//! The stages that make what firmware starts: initrd, UKI, their signatures, and the disk.

use std::path::Path;
use std::{fs, io};

use baker_build::keep::{Key, Piece};
use baker_build::modules::ModulesError;
use baker_build::{Spool, disk, initrd, kernel, modules, slots, uki};
use baker_contract::ROOT_HASH_KEY;
use baker_model::Digest;
use baker_model::event::Outcome;
use baker_model::lock::{PackageLock, PackageRole};
use baker_model::recipe::Recipe;
use serde::{Deserialize, Serialize};

use super::super::materials::{self, Packed};
use super::super::{LOCK, Names, RECIPE, formats};
use super::root::Sealed;
use super::{Baking, size};
use crate::exit::{Exit, Failure};
use crate::guest;

/// First word of the names of kept initrds.
pub(super) const INITRD: &str = "initrd";

/// Version of the initrd: another one makes another archive of the same inputs.
const INITRD_VERSION: &str = "baker-initrd-1";

/// An initrd as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptInitrd {
    archive: Piece,
    files: Vec<(String, Piece)>,
}

/// What a request to sign calls the boot loader.
const LOADER: &str = "systemd-boot";

/// What firmware starts.
#[derive(Clone)]
pub(super) struct Uki {
    pub(super) bytes: Vec<u8>,
    /// systemd-boot, for disks with more than one version on them.
    pub(super) loader: Option<Vec<u8>>,
    /// The UKI that carries the root, for netboot.
    pub(super) netboot: Option<Vec<u8>>,
}

/// The modules that the initrd of a recipe brings.
pub(in super::super) fn initrd_modules(
    recipe: &Recipe,
    kernel: &kernel::KernelParts,
    spool: &Spool,
) -> Result<Vec<initrd::Module>, ModulesError> {
    let request = modules::InitrdRequest {
        kernel: &kernel.modules,
        contents: spool,
        names: &formats::initrd_modules(recipe),
        optional: slots::optional_initrd_modules(recipe),
        root_format: recipe.root.format,
    };
    let modules = modules::initrd_modules(request)?;
    let entry = |module: modules::InitrdModule| initrd::Module {
        path: module.path,
        bytes: module.bytes,
        is_driver: module.is_driver,
        hardware: module.hardware,
    };
    Ok(modules.into_iter().map(entry).collect())
}

fn is_kernel(package: &&PackageLock) -> bool {
    package.role == PackageRole::Kernel
}

impl Baking<'_> {
    pub(super) fn initrd(
        &self,
        kernel: &kernel::KernelParts,
        spool: &Spool,
    ) -> Result<Packed, Failure> {
        let work = || {
            let key = self.initrd_key();
            if let Some(kept) = self.kept_initrd(&key) {
                return Ok((kept, Outcome::Reused));
            }
            let made = self.packed_initrd(kernel, spool)?;
            self.keep_initrd(&key, &made)
                .map_err(|error| self.failed(error))?;
            Ok((made, Outcome::Done))
        };
        let summary = |(initrd, how): &(Packed, _)| (*how, size(initrd.bytes.len() as u64));
        self.stage_as("initrd", work, summary)
            .map(|(initrd, _)| initrd)
    }

    /// Names an initrd by all that decides over it.
    pub(super) fn initrd_key(&self) -> Digest {
        let recipe = &self.folder.recipe;
        let mut key = Key::new(INITRD_VERSION);
        key.add(self.lock.guest.sha256.as_bytes());
        key.add(&self.lock.epoch.to_le_bytes());
        key.add(recipe.architecture.name().as_bytes());
        key.add(format!("{:?}", recipe.root.format).as_bytes());
        for package in self.lock.packages.iter().filter(is_kernel) {
            key.add(package.sha256.as_bytes());
        }
        key.add(b"modules");
        for name in formats::initrd_modules(recipe) {
            key.add(name.as_bytes());
        }
        key.add(b"optional");
        for name in slots::optional_initrd_modules(recipe) {
            key.add(name.as_bytes());
        }
        key.finish()
    }

    fn kept_initrd(&self, key: &Digest) -> Option<Packed> {
        let book = self.keep.open::<KeptInitrd>(INITRD, key)?;
        let files = book.index.files.iter();
        let files = files.map(|(path, piece)| Some((path.clone(), book.piece(piece)?)));
        Some(Packed {
            bytes: book.piece(&book.index.archive)?,
            files: files.collect::<Option<_>>()?,
        })
    }

    fn keep_initrd(&self, key: &Digest, made: &Packed) -> io::Result<()> {
        let mut writer = self.keep.create()?;
        let archive = writer.append(&made.bytes)?;
        let files = made.files.iter();
        let files = files.map(|(path, bytes)| Ok((path.clone(), writer.append(bytes)?)));
        let files = files.collect::<io::Result<_>>()?;
        writer.finish(INITRD, key, &KeptInitrd { archive, files })?;
        Ok(())
    }

    fn packed_initrd(
        &self,
        kernel: &kernel::KernelParts,
        spool: &Spool,
    ) -> Result<Packed, Failure> {
        let recipe = &self.folder.recipe;
        let modules = initrd_modules(recipe, kernel, spool).map_err(|error| self.failed(error))?;
        let guest = guest::program(recipe.architecture)?;
        if Digest::of(&guest) != self.lock.guest.sha256 {
            let problem = "the guest program changed since the lock was checked";
            return Err(Failure::message(Exit::Fetch, problem));
        }
        let request = initrd::Request {
            guest: &guest,
            modules: &modules,
            root_format: recipe.root.format,
            epoch: self.lock.epoch,
            packing: initrd::Packing::default(),
            budget: None,
        };
        let packed = initrd::initrd(&request).map_err(|error| self.failed(error))?;
        let members = initrd::members(&request).map_err(|error| self.failed(error))?;
        let files = members
            .into_iter()
            .map(|(path, bytes)| (path.to_owned(), bytes.into_owned()));
        Ok(Packed {
            bytes: packed.bytes,
            files: files.collect(),
        })
    }

    pub(super) fn command_line(&self, root_hash: &Digest) -> String {
        let mut words = slots::command_line(&self.folder.recipe);
        words.push(format!("{ROOT_HASH_KEY}={root_hash}"));
        words.join(" ")
    }

    /// A disk with one version has nothing to choose, and no loader on it.
    pub(super) fn has_loader(&self) -> bool {
        self.folder.recipe.disk.slots > 1
    }

    /// The UKI of the disk; and that of netboot when `netboot` is its initrd.
    pub(super) fn uki(
        &self,
        os_release: &[u8],
        kernel: &kernel::KernelParts,
        boot: &kernel::BootParts,
        (initrd, netboot): (&[u8], Option<&[u8]>),
        sealed: &Sealed,
    ) -> Result<Uki, Failure> {
        let make = |initrd| {
            let request = uki::Request {
                stub: &boot.stub,
                kernel: &kernel.image,
                initrd,
                command_line: &self.command_line(&sealed.root_hash),
                os_release,
                release: &kernel.release,
            };
            uki::uki(&request).map_err(|error| self.failed(error))
        };
        Ok(Uki {
            bytes: make(initrd)?,
            loader: self.has_loader().then(|| boot.loader.clone()),
            netboot: netboot.map(make).transpose()?,
        })
    }

    /// Puts signatures over UKIs and loader when there is a key.
    pub(super) fn sign_boot(&self, unsigned: &Uki) -> Result<Uki, Failure> {
        let Some(keys) = self.boot_keys else {
            return Ok(self.adopt_signatures(unsigned.clone()));
        };
        let sign = |name: &str, program: &[u8]| {
            keys.sign(name, program).map_err(|error| self.failed(error))
        };
        let names = Names::of(&self.folder.recipe);
        self.stage(
            materials::SIGN_BOOT,
            || {
                let netboot = unsigned.netboot.as_deref();
                let netboot = netboot.map(|program| sign(&names.netboot_uki, program));
                Ok(Uki {
                    bytes: sign(&names.uki, &unsigned.bytes)?,
                    loader: unsigned
                        .loader
                        .as_deref()
                        .map(|loader| sign(LOADER, loader))
                        .transpose()?,
                    netboot: netboot.transpose()?,
                })
            },
            |_| format!("by {}", keys.keys().database.name()),
        )
        .and_then(|signed| match keys.requested().is_empty() {
            true => Ok(signed),
            false => Err(Failure::message(
                Exit::Publish,
                "the boot programs are yet to be signed elsewhere",
            )),
        })
    }

    /// Puts the signatures of another release over the programs, when one is named.
    fn adopt_signatures(&self, unsigned: Uki) -> Uki {
        let Some(adopted) = self.adopted else {
            return unsigned;
        };
        Uki {
            bytes: adopted.attach("the UKI", unsigned.bytes, self.context),
            loader: unsigned
                .loader
                .map(|loader| adopted.attach("the boot loader", loader, self.context)),
            netboot: unsigned
                .netboot
                .map(|program| adopted.attach("the netboot UKI", program, self.context)),
        }
    }

    /// The raw disk, and what stands alone beside it.
    pub(super) fn disk(
        &self,
        out: &Path,
        sealed: &Sealed,
        uki: &Uki,
    ) -> Result<disk::RawDisk, Failure> {
        let names = Names::of(&self.folder.recipe);
        let failed = |error: io::Error| self.failed(error).context("cannot write the draft");
        fs::write(out.join(&names.uki), &uki.bytes).map_err(failed)?;
        if let Some(netboot) = &uki.netboot {
            fs::write(out.join(&names.netboot_uki), netboot).map_err(failed)?;
        }
        fs::write(out.join(RECIPE), &self.folder.text).map_err(failed)?;
        fs::write(out.join(LOCK), self.lock.to_text()).map_err(failed)?;
        let recipe = &self.folder.recipe;
        let loader = uki.loader.as_deref().map(|program| disk::Loader {
            program,
            menu_seconds: recipe.boot.menu_seconds,
        });
        let request = disk::Request {
            path: &out.join(&names.disk),
            name: &recipe.name,
            version: &recipe.version,
            architecture: recipe.architecture,
            lock: self.digest,
            epoch: self.lock.epoch,
            disk: &recipe.disk,
            uki: &uki.bytes,
            loader,
            root: &sealed.image,
            tree: &sealed.tree,
            root_hash: *sealed.root_hash.as_bytes(),
        };
        self.stage(
            "disk",
            || disk::disk(&request).map_err(|error| self.failed(error)),
            |disk| format!("{} of data", size(disk.data)),
        )
    }
}
