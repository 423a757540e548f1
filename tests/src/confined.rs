//! A place with nothing but a processor and a little memory, as the strictest of CI systems give
//! it: the user is nobody, holds no capability and can gain none, may make no namespaces, sees no
//! network and no `/dev/kvm`, and writes nowhere but into a small file system in memory.
//!
//! Made by the kernel's own means, which the test asks about inside: whoever lives in a chroot may
//! make no user namespace (unshare(2), `EPERM`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::{Said, program, said};

/// Runs as root in mount, PID, network, IPC and host-name namespaces of its own. Arguments: an
/// empty folder, the root whose programs are there, the program, the folder to bring along, MiB of
/// memory, what to run.
const BUILD: &str = r#"
set -eu
root=$1 base=$2 program=$3 luggage=$4 size=$5
mount --make-rprivate /
mount -t tmpfs -o mode=755 confined "$root"
cd "$root"
mkdir usr etc dev proc tmp baker
mkdir -m 700 root
for name in bin sbin lib lib32 lib64 libx32; do
    [ ! -L "$base/$name" ] || cp -P "$base/$name" .
done
for folder in usr etc; do
    mount --bind "$base/$folder" "$folder"
    mount -o remount,bind,ro "$folder"
done
touch baker/baker
mount --bind "$program" baker/baker
mount -o remount,bind,ro baker/baker
for device in null zero full random urandom; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t tmpfs -o "mode=1777,nosuid,nodev,size=${size}m" tmp tmp
cp -r "$luggage/." tmp
chown -R 65534:65534 tmp
mount -o remount,ro "$root"
exec env -i PATH=/baker:/usr/bin:/usr/sbin BAKER_STORE=/tmp/store setpriv --no-new-privs \
    chroot --userspec=65534:65534 --groups= . sh -euc "cd /tmp; $6"
"#;

/// Such a place.
#[derive(Debug)]
pub struct Confined {
    /// The root whose `/usr` and `/etc` are there.
    base: PathBuf,
    /// The baker that is there.
    program: PathBuf,
    /// What is in its `/tmp` at the beginning.
    luggage: tempfile::TempDir,
    /// How much may be there.
    mib: u32,
}

impl Confined {
    /// With so many MiB to write to; none, loudly, where only root could make one and nobody is.
    ///
    /// # Panics
    /// When no temporary folder can be made, or when skipping is not allowed.
    #[must_use]
    pub fn new(test: &str, mib: u32) -> Option<Self> {
        let id = Command::new("id").arg("-u").output();
        let id = id.expect("there is a program to ask for the user");
        if id.stdout.trim_ascii() != b"0" {
            crate::skip(test, "only root can take all privileges away");
            return None;
        }
        let luggage = tempfile::tempdir().expect("a temporary folder can be made");
        Some(Self {
            base: PathBuf::from("/"),
            program: program().to_owned(),
            luggage,
            mib,
        })
    }

    /// The same with the programs of another root, baker among them.
    #[must_use]
    pub fn with_root(mut self, root: &Path) -> Self {
        self.program = root.join("usr/bin/baker");
        self.base = root.to_owned();
        self
    }

    /// The folder whose content will lie in `/tmp`.
    #[must_use]
    pub fn luggage(&self) -> &Path {
        self.luggage.path()
    }

    /// Brings along the recipe, as `recipe`, and what its lock names out of a store.
    ///
    /// # Panics
    /// When something of it is missing.
    pub fn bring(&self, recipe: &Path, store: &Path) {
        let (to, objects) = (self.luggage().join("recipe"), PathBuf::from("objects"));
        let copied = Command::new("cp").arg("-r").arg(recipe).arg(&to).status();
        assert!(copied.expect("cp can be started").success());
        let text = fs::read_to_string(to.join("recipe.lock")).expect("the recipe is locked");
        let lock = baker_model::Lock::parse(&text).expect("the lock is one");
        for package in &lock.packages {
            let name = package.sha256.to_string();
            let object = objects.join(&name[..2]).join(name);
            let to = self.luggage().join("store").join(&object);
            let folder = to.parent().expect("objects lie in folders");
            fs::create_dir_all(folder).expect("a folder can be made");
            fs::copy(store.join(&object), &to).expect("the store has what the lock names");
        }
    }

    /// Runs a shell's commands in it, in `/tmp`, with baker in the search path.
    ///
    /// # Panics
    /// When the place cannot be made.
    #[must_use]
    pub fn sh(&self, commands: &str) -> Said {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let output = Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--net",
                "--ipc",
                "--uts",
                "--fork",
                "--kill-child",
            ])
            .args(["sh", "-c", BUILD, "sh"])
            .args([root.path(), &self.base, &self.program, self.luggage()])
            .args([&self.mib.to_string(), commands])
            .stdin(Stdio::null())
            .output();
        said(&output.expect("unshare can be started"))
    }
}
