//! What processes in the sandbox see: the tree in memory, and beside it the least that programs
//! take for granted.
//!
//! Both ways in give the same world, or the same scripts could do different things: `/sys` is
//! empty, `/tmp` and `/run` are memory of their own that is gone at the end, and devices are those
//! that need no hardware.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{chdir, chroot, pivot_root};

use crate::{Fault, doing};

/// Device nodes by name, major and minor number.
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links that programs expect beside them.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Directories of the host that a tree can be put over; one is there on any.
const PLACES: [&str; 5] = ["/tmp", "/mnt", "/run", "/var", "/usr"];

/// What lies over the tree, in the order in which it is put there.
const OVERLAYS: [&str; 4] = ["dev", "proc", "run", "tmp"];

/// How devices come about.
#[derive(Clone, Copy)]
enum Devices {
    /// Made: this is a machine of its own.
    Made,
    /// Those of the host, shown here: a user namespace may not make any.
    Shown,
}

/// Mounts something.
pub fn mount(
    source: &str,
    target: impl AsRef<Path>,
    kind: &str,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<(), Fault> {
    let target = target.as_ref();
    nix::mount::mount(Some(source), target, Some(kind), flags, options)
        .map_err(doing(format!("mount {source} on {}", target.display())))
}

/// The place of the tree, before anything runs in it.
pub struct Place {
    base: PathBuf,
    devices: Devices,
}

impl Place {
    /// In namespaces: over some directory of the host, which nobody else sees covered.
    pub fn in_namespaces() -> Result<Self, Fault> {
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(none, "/", none, private, none)
            .map_err(doing("keep mounts to itself"))?;
        let place = PLACES.into_iter().find(|place| Path::new(place).is_dir());
        let base = place.ok_or("the host has none of the usual directories")?;
        Self::at(base, Devices::Shown)
    }

    /// In a machine.
    pub fn in_machine() -> Result<Self, Fault> {
        let base = "/tree";
        fs::create_dir(base).map_err(doing("make the place of the tree"))?;
        Self::at(base, Devices::Made)
    }

    fn at(base: &str, devices: Devices) -> Result<Self, Fault> {
        // Half of the memory is the default, and too little where the tree is all that there is.
        let options = "mode=755,size=90%,nr_inodes=0";
        mount("tree", base, "tmpfs", MsFlags::empty(), Some(options))?;
        let base = PathBuf::from(base);
        Ok(Self { base, devices })
    }

    /// Where the tree is unpacked.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Makes the tree the root and leaves what was there.
    pub fn enter(self) -> Result<(), Fault> {
        cover(&self.base, self.devices)?;
        chdir(&self.base).map_err(doing("enter the tree"))?;
        match self.devices {
            Devices::Shown => {
                pivot_root(".", ".").map_err(doing("make the tree the root"))?;
                // The host's root lies over the new one now.
                umount2(".", MntFlags::MNT_DETACH).map_err(doing("leave the host's root"))?;
            }
            Devices::Made => {
                // The first root of a kernel cannot be pivoted away.
                let none = None::<&str>;
                nix::mount::mount(Some("."), "/", none, MsFlags::MS_MOVE, none)
                    .map_err(doing("make the tree the root"))?;
                chroot(".").map_err(doing("enter the tree"))?;
            }
        }
        settle()
    }
}

fn settle() -> Result<(), Fault> {
    chdir("/").map_err(doing("enter the root"))?;
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    Ok(())
}

/// Takes away what lies over the tree.
pub fn uncover() -> Result<(), Fault> {
    for name in ["dev/pts", "dev/shm"].into_iter().chain(OVERLAYS) {
        let path = format!("/{name}");
        umount2(path.as_str(), MntFlags::MNT_DETACH).map_err(doing(format!("unmount {path}")))?;
    }
    Ok(())
}

/// Puts over the tree what belongs to no image.
fn cover(base: &Path, devices: Devices) -> Result<(), Fault> {
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    for name in OVERLAYS {
        fs::create_dir_all(base.join(name)).map_err(doing(format!("make /{name}")))?;
    }
    mount("run", base.join("run"), "tmpfs", hardened, Some("mode=755"))?;
    mount(
        "tmp",
        base.join("tmp"),
        "tmpfs",
        hardened,
        Some("mode=1777,size=90%"),
    )?;
    let secured = hardened | MsFlags::MS_NOEXEC;
    mount("proc", base.join("proc"), "proc", secured, None)?;
    build_devices(&base.join("dev"), devices)
}

fn build_devices(at: &Path, devices: Devices) -> Result<(), Fault> {
    // Not sticky and world-writable: the kernel would refuse to open nodes of another owner.
    mount("dev", at, "tmpfs", MsFlags::MS_NOSUID, Some("mode=755"))?;
    for (name, major, minor) in DEVICES {
        let node = at.join(name);
        let made = match devices {
            Devices::Made => {
                let mode = Mode::from_bits_truncate(0o666);
                mknod(&node, SFlag::S_IFCHR, mode, makedev(major, minor))
            }
            Devices::Shown => {
                File::create(&node).map_err(doing(format!("make /dev/{name}")))?;
                let (source, none) = (Path::new("/dev").join(name), None::<&str>);
                nix::mount::mount(Some(&source), &node, none, MsFlags::MS_BIND, none)
            }
        };
        made.map_err(doing(format!("make /dev/{name}")))?;
    }
    for (name, target) in LINKS {
        symlink(target, at.join(name)).map_err(doing(format!("make /dev/{name}")))?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(at.join(name)).map_err(doing(format!("make /dev/{name}")))?;
    }
    let terminals = "newinstance,ptmxmode=0666,mode=620";
    mount(
        "devpts",
        at.join("pts"),
        "devpts",
        MsFlags::MS_NOSUID,
        Some(terminals),
    )?;
    mount(
        "shm",
        at.join("shm"),
        "tmpfs",
        MsFlags::MS_NOSUID,
        Some("mode=1777"),
    )?;
    // Only makes a difference where the umask of the first process is another one.
    fs::set_permissions(at, Permissions::from_mode(0o755)).map_err(doing("finish /dev"))
}
