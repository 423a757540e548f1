//! Kernel, modules, stub and boot loader out of their packages.
//!
//! Takes the lock and the store of inputs; gives the kernel image and the boot programs as bytes, and the modules as
//! a tree of their own, contents in the spool. The packages are checked against the lock while they are read;
//! nothing of them is configured, and their scripts do not run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use baker_model::lock::{PackageLock, PackageRole};
use baker_model::recipe::Architecture;
use baker_model::tree::{Content, Kind, Node, Origin, TreePath};
use baker_model::{Interrupt, Lock, Objects, Tree};

use crate::assemble::merge::{Entry, What};
use crate::assemble::unpack::{Shared, unpack};
use crate::assemble::{AssembleError, Limits, Refusal};
use crate::{Keep, PackageText, Spool};

/// A kernel or boot program larger than this is a mistake.
const IMAGE_LIMIT: u64 = 256 << 20;

/// Where modules lie since `/usr` is merged; packages may still say `lib/modules`.
const MODULES: &str = "usr/lib/modules";

/// The kernel and what belongs to it.
#[derive(Debug, Clone)]
pub struct KernelParts {
    /// What `uname -r` will say, from the name of the image.
    pub release: String,
    /// `boot/vmlinuz-<release>`.
    pub image: Vec<u8>,
    /// `usr/lib/modules/<release>` and all below it, contents in the spool.
    pub modules: Tree,
    /// `boot/config-<release>`.
    pub config: Option<Vec<u8>>,
    /// The packages.
    pub packages: Vec<PackageText>,
    /// True when all of them were unpacked before.
    pub is_reused: bool,
}

/// The UEFI programs.
#[derive(Debug, Clone)]
pub struct BootParts {
    /// systemd-stub, which becomes a UKI.
    pub stub: Vec<u8>,
    /// systemd-boot.
    pub loader: Vec<u8>,
    /// The packages.
    pub packages: Vec<PackageText>,
    /// True when all of them were unpacked before.
    pub is_reused: bool,
}

/// Where inputs come from, and how the work is done.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Which packages have the roles `kernel` and `boot`; its epoch is the newest time of a module.
    pub lock: &'a Lock,
    /// Where the package files are.
    pub inputs: &'a dyn Objects,
    /// Where packages lie that were unpacked before; none to unpack all of them, and keep nothing.
    pub keep: Option<&'a Keep>,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

/// Reads kernel and modules from the packages of role `kernel`.
///
/// # Errors
/// See [`AssembleError`]; no kernel, or more than one, are errors too.
pub fn kernel(request: Request<'_>, spool: &Spool) -> Result<KernelParts, AssembleError> {
    let mut found = Found::new(request.lock.epoch, spool);
    for package in of_role(request.lock, PackageRole::Kernel) {
        let Read {
            text,
            entries,
            is_reused,
        } = read(package, &request, spool)?;
        found.is_reused &= is_reused;
        for entry in &entries {
            found.take(package, &entries, entry)?;
        }
        found.packages.push(text);
    }
    let lacking = |what: String| AssembleError::Lacking {
        role: "kernel",
        what,
    };
    let (release, image) = found
        .image
        .ok_or_else(|| lacking("a kernel (boot/vmlinuz-*)".to_owned()))?;
    let home = TreePath::new(format!("{MODULES}/{release}"))
        .map_err(|error| lacking(error.to_string()))?;
    let mut modules = found.modules;
    // A package may bring modules of another kernel; they could never be loaded.
    modules.retain(|path, _| path.is_below(&home));
    if modules.get(&home).is_none() {
        return Err(lacking(format!("modules of the kernel ({home})")));
    }
    let config = found.configs.remove(&release);
    Ok(KernelParts {
        release,
        image,
        modules,
        config,
        packages: found.packages,
        is_reused: found.is_reused,
    })
}

/// Reads stub and boot loader from the packages of role `boot`.
///
/// # Errors
/// See [`AssembleError`]; it is an error when one of the two is nowhere.
pub fn boot_parts(
    request: Request<'_>,
    architecture: Architecture,
    spool: &Spool,
) -> Result<BootParts, AssembleError> {
    // UEFI's short names of machine types, as in the default file names of removable media.
    let machine = match architecture {
        Architecture::Amd64 => "x64",
        Architecture::Arm64 => "aa64",
    };
    let folder = "usr/lib/systemd/boot/efi";
    let names = [
        format!("{folder}/linux{machine}.efi.stub"),
        format!("{folder}/systemd-boot{machine}.efi"),
    ];
    let mut programs: HashMap<String, Vec<u8>> = HashMap::new();
    let (mut packages, mut is_reused) = (Vec::new(), true);
    for package in of_role(request.lock, PackageRole::Boot) {
        let Read {
            text,
            entries,
            is_reused: was_there,
        } = read(package, &request, spool)?;
        is_reused &= was_there;
        for entry in &entries {
            let mut names = names.iter();
            let name = names.find(|name| name.as_bytes() == entry.path.as_bytes());
            if let (Some(name), Some(content)) = (name, file(entry)) {
                programs.insert(name.clone(), bytes(package, entry, content, spool)?);
            }
        }
        packages.push(text);
    }
    let mut take = |name: &String| {
        let lacking = || AssembleError::Lacking {
            role: "boot",
            what: name.clone(),
        };
        programs.remove(name).ok_or_else(lacking)
    };
    Ok(BootParts {
        stub: take(&names[0])?,
        loader: take(&names[1])?,
        packages,
        is_reused,
    })
}

fn of_role(lock: &Lock, role: PackageRole) -> impl Iterator<Item = &PackageLock> {
    lock.packages
        .iter()
        .filter(move |package| package.role == role)
}

/// A package that was read.
struct Read {
    /// What it says of itself.
    text: PackageText,
    entries: Vec<Entry>,
    is_reused: bool,
}

fn read(
    package: &PackageLock,
    request: &Request<'_>,
    spool: &Spool,
) -> Result<Read, AssembleError> {
    let shared = Shared {
        inputs: request.inputs,
        keep: request.keep,
        spool,
        interrupt: request.interrupt,
        epoch: request.lock.epoch,
        limits: Limits::default(),
        total: AtomicU64::new(0),
        reused: AtomicUsize::new(0),
    };
    let unpacked = unpack(package, &shared)?;
    let place = format!("usr/share/doc/{}/copyright", package.name);
    let mut entries = unpacked.entries.iter();
    let copyright = entries.find(|entry| entry.path.as_bytes() == place.as_bytes());
    let copyright = copyright.and_then(|entry| Some((entry, file(entry)?)));
    let text = PackageText {
        lock: package.clone(),
        control: unpacked.package.control,
        copyright: copyright
            .map(|(entry, content)| bytes(package, entry, content, spool))
            .transpose()?,
    };
    Ok(Read {
        text,
        entries: unpacked.entries,
        is_reused: shared.reused.into_inner() > 0,
    })
}

/// The content of a regular file.
fn file(entry: &Entry) -> Option<&Content> {
    match &entry.what {
        What::Node(Kind::File { content, .. }) => Some(content),
        _ => None,
    }
}

fn refused(package: &PackageLock, entry: &Entry, refusal: Refusal) -> AssembleError {
    AssembleError::Refused {
        package: package.name.clone(),
        entry: entry.path.to_string(),
        offset: entry.offset,
        refusal,
    }
}

/// What has been found of the kernel so far.
struct Found<'a> {
    epoch: i64,
    spool: &'a Spool,
    image: Option<(String, Vec<u8>)>,
    configs: HashMap<String, Vec<u8>>,
    modules: Tree,
    packages: Vec<PackageText>,
    is_reused: bool,
}

impl<'a> Found<'a> {
    fn new(epoch: i64, spool: &'a Spool) -> Self {
        Self {
            epoch,
            spool,
            image: None,
            configs: HashMap::new(),
            modules: Tree::new(epoch),
            packages: Vec::new(),
            is_reused: true,
        }
    }

    fn take(
        &mut self,
        package: &PackageLock,
        entries: &[Entry],
        entry: &Entry,
    ) -> Result<(), AssembleError> {
        let text = String::from_utf8_lossy(entry.path.as_bytes()).into_owned();
        let (image, config) = (text.strip_prefix("boot/vmlinuz-"), "boot/config-");
        if let (Some(release), Some(content)) = (image, file(entry)) {
            if let Some((first, _)) = &self.image {
                let (first, second) = (first.clone(), release.to_owned());
                return Err(AssembleError::Ambiguous { first, second });
            }
            let bytes = bytes(package, entry, content, self.spool)?;
            self.image = Some((release.to_owned(), bytes));
        } else if let (Some(release), Some(content)) = (text.strip_prefix(config), file(entry)) {
            let bytes = bytes(package, entry, content, self.spool)?;
            self.configs.insert(release.to_owned(), bytes);
        } else if let Some(below) = text
            .strip_prefix("usr/")
            .unwrap_or(&text)
            .strip_prefix("lib/modules/")
        {
            let at = TreePath::new(format!("{MODULES}/{below}"));
            let at = at.map_err(|error| refused(package, entry, Refusal::Path(error.reason)))?;
            self.take_module(package, &at, entries, entry)?;
        }
        Ok(())
    }

    fn take_module(
        &mut self,
        package: &PackageLock,
        path: &TreePath,
        entries: &[Entry],
        entry: &Entry,
    ) -> Result<(), AssembleError> {
        let refuse = |refusal| refused(package, entry, refusal);
        let kind = match &entry.what {
            What::Node(kind @ (Kind::Directory | Kind::File { .. } | Kind::Symlink { .. })) => {
                kind.clone()
            }
            // Two plain files: nothing in a tree of modules is gained by sharing the inode.
            What::HardLink(target) => {
                let content = entries.get(*target).and_then(file).cloned();
                let missing = || refuse(Refusal::HardLink(entry.path.to_string()));
                Kind::file(content.ok_or_else(missing)?)
            }
            What::Node(_) => {
                return Err(refuse(Refusal::Path(
                    "is a device or pipe among kernel modules",
                )));
            }
        };
        let origin = Origin::Package(package.name.as_str().into());
        let above = |_| refuse(Refusal::NotADirectory(path.clone()));
        self.modules
            .ensure_parents(path, self.epoch)
            .map_err(above)?;
        let node = Node {
            metadata: entry.metadata.clone(),
            kind,
            origin,
        };
        let before = self.modules.insert(path.clone(), node).map_err(above)?;
        match before.filter(|before| before.kind != Kind::Directory) {
            Some(_) => Err(refuse(Refusal::Twice(path.clone()))),
            None => Ok(()),
        }
    }
}

fn bytes(
    package: &PackageLock,
    entry: &Entry,
    content: &Content,
    spool: &Spool,
) -> Result<Vec<u8>, AssembleError> {
    if content.size() > IMAGE_LIMIT {
        let refusal = Refusal::TooMuch {
            what: "it is too large to boot",
            limit: IMAGE_LIMIT,
        };
        return Err(refused(package, entry, refusal));
    }
    spool
        .read(content)
        .map_err(|source| AssembleError::Content {
            package: package.name.clone(),
            entry: entry.path.to_string(),
            offset: entry.offset,
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::fixture::{EPOCH, Fixture, Store, store};

    fn package(name: &'static str) -> Fixture {
        Fixture::new(name).role(PackageRole::Kernel)
    }

    fn request<'a>(lock: &'a Lock, inputs: &'a Store, interrupt: &'a Interrupt) -> Request<'a> {
        Request {
            lock,
            inputs,
            keep: None,
            interrupt,
        }
    }

    fn parts(packages: &[Fixture]) -> Result<KernelParts, AssembleError> {
        let (lock, store) = store(packages);
        let folder = tempfile::tempdir().unwrap();
        kernel(
            request(&lock, &store, &Interrupt::new()),
            &Spool::new(folder.path()).unwrap(),
        )
    }

    #[test]
    fn a_kernel_comes_with_its_modules() {
        let image = package("image")
            .file("./boot/vmlinuz-6.1", "kernel")
            .file("./boot/config-6.1", "CONFIG_X=y\n")
            .file("./boot/System.map-6.1", "no")
            .file("./lib/modules/6.1/kernel/a.ko-new", "a");
        let more = package("more")
            .directory("./usr/lib/modules/6.1/", 0o755)
            .file("./usr/lib/modules/6.1/kernel/b.ko", [1; 5000])
            .hard_link(
                "./usr/lib/modules/6.1/c.ko",
                "./usr/lib/modules/6.1/kernel/b.ko",
            )
            .file("./usr/lib/modules/5.0/other.ko", "o");
        let root = Fixture::new("root").file("./boot/vmlinuz-7", "not this role");
        let parts = parts(&[image, more, root]).unwrap();
        assert_eq!(
            (parts.release.as_str(), &parts.image[..]),
            ("6.1", &b"kernel"[..])
        );
        assert_eq!(parts.config.as_deref(), Some(&b"CONFIG_X=y\n"[..]));
        let files: Vec<String> = parts
            .modules
            .walk()
            .filter(|(_, node)| matches!(node.kind, Kind::File { .. }))
            .map(|(path, node)| format!("{path} {}", node.metadata.mtime))
            .collect();
        let home = "/usr/lib/modules/6.1";
        let expected = [
            format!("{home}/c.ko 2000"),
            format!("{home}/kernel/a.ko-new {EPOCH}"),
            format!("{home}/kernel/b.ko 2000"),
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn there_is_one_kernel_with_modules() {
        let module = |package: Fixture| package.file("./lib/modules/1/a.ko", "");
        let rows = [
            (parts(&[]), "no package of role kernel holds a kernel"),
            (
                parts(&[package("a").file("./boot/vmlinuz-1", "")]),
                "holds modules of the kernel",
            ),
            (
                parts(&[module(package("a").file("./boot/vmlinuz-1", "")), {
                    package("b").file("./boot/vmlinuz-2", "")
                }]),
                "more than one kernel is locked: 1 and 2",
            ),
            (
                parts(&[module(module(package("a")))]),
                "ships /usr/lib/modules/1/a.ko twice",
            ),
        ];
        for (result, words) in rows {
            let error = result.expect_err(words).to_string();
            assert!(error.contains(words), "{error} / {words}");
        }
    }

    #[test]
    fn boot_programs_are_found_by_architecture() {
        let folder = "./usr/lib/systemd/boot/efi";
        let package = Fixture::new("boot")
            .role(PackageRole::Boot)
            .file(&format!("{folder}/linuxx64.efi.stub"), "stub")
            .file(&format!("{folder}/systemd-bootx64.efi"), "loader")
            .file(&format!("{folder}/linuxaa64.efi.stub"), "arm stub");
        let (lock, store) = store(&[package]);
        let interrupt = Interrupt::new();
        let spool = Spool::new(&std::env::temp_dir()).unwrap();
        let of = |machine| boot_parts(request(&lock, &store, &interrupt), machine, &spool);
        let parts = of(Architecture::Amd64).unwrap();
        assert_eq!(
            (&parts.stub[..], &parts.loader[..]),
            (&b"stub"[..], &b"loader"[..])
        );
        let error = of(Architecture::Arm64).unwrap_err().to_string();
        assert!(error.ends_with("efi/systemd-bootaa64.efi"), "{error}");
    }
}
