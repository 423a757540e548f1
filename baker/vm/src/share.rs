//! Folders of this host in a machine for a person, by virtio-fs.
//!
//! Takes a folder and what the guest may do with it; gives a socket for QEMU and a daemon that
//! serves the folder until QEMU hangs up. Debian's cloud kernels have virtio-fs built in and know
//! nothing of 9p, which would have needed no daemon.
//!
//! The daemon (QEMU's own up to 7.2, the one in Rust since) sees the host through a mount
//! namespace of its own in which a folder that is not to be written cannot be: a mount option
//! inside the guest would be the guest's to change. It wants to be root to start; for an ordinary
//! user it is root of a user namespace, in which that user's files are root's and all others those
//! of the range that /etc/subuid gives.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::fcntl::OFlag;
use nix::unistd::{Uid, pipe2};

use crate::child::{Enclosure, GO, enclose};
use crate::environment::{Environment, is_file};
use crate::ids;

/// Where distributions keep it; it is in no search path.
const PLACES: [&str; 4] = [
    "/usr/libexec/virtiofsd",
    "/usr/lib/virtiofsd",
    "/usr/lib/qemu/virtiofsd",
    "/usr/libexec/qemu/virtiofsd",
];

/// What a guest may do with a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    #[default]
    ReadOnly,
    /// Write to it, too.
    ReadWrite,
}

/// A folder that a guest gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The folder, absolute.
    pub folder: PathBuf,
    /// Where the guest mounts it: an absolute path of plain components.
    pub guest: String,
    /// What the guest may do.
    pub access: Access,
}

/// Why a folder cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The daemon is not installed.
    #[error("there is no virtiofsd on this machine, which serves shared folders")]
    NoDaemon,
    /// An ordinary user cannot have the namespace.
    #[error("no namespace can be had to share {} from: {why}", folder.display())]
    Namespace {
        /// The folder.
        folder: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The daemon cannot be started.
    #[error("cannot share {}", folder.display())]
    Start {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A daemon that serves one folder; it ends when this is dropped, or QEMU hangs up.
#[derive(Debug)]
pub struct Sharing {
    child: Child,
    log: PathBuf,
    /// The socket for QEMU.
    pub socket: PathBuf,
}

impl Share {
    /// Name by which the guest's kernel knows share `number`.
    pub(crate) fn tag(number: usize) -> String {
        format!("share{number}")
    }

    /// System credentials that mount it, before any service starts. The image is as it was.
    #[must_use]
    pub fn credentials(&self, number: usize) -> [(String, Vec<u8>); 2] {
        let (unit, tag) = (unit_name(&self.guest), Self::tag(number));
        let options = match self.access {
            Access::ReadOnly => "ro,nosuid,nodev",
            Access::ReadWrite => "rw,nosuid,nodev",
        };
        let mount = format!(
            "[Unit]\n\
             Description=Folder of the host\n\
             \n\
             [Mount]\n\
             What={tag}\n\
             Where={}\n\
             Type=virtiofs\n\
             Options={options}\n",
            self.guest
        );
        // Wanted, not required: a folder that cannot be mounted is no reason not to start.
        let wish = format!("[Unit]\nWants={unit}\n");
        [
            (format!("systemd.extra-unit.{unit}"), mount.into_bytes()),
            (
                format!("systemd.unit-dropin.local-fs.target~baker-{tag}"),
                wish.into_bytes(),
            ),
        ]
    }

    /// Serves it on a socket in `private`, which only the caller can enter.
    ///
    /// # Errors
    /// There is no daemon, or it cannot be enclosed.
    pub fn serve(
        &self,
        environment: &Environment,
        private: &Path,
        number: usize,
    ) -> Result<Sharing, ShareError> {
        let places = PLACES.iter().map(PathBuf::from);
        let program = environment
            .find_program("virtiofsd")
            .or_else(|| places.into_iter().find(|place| is_file(place)))
            .ok_or(ShareError::NoDaemon)?;
        let failed = |source| ShareError::Start {
            folder: self.folder.clone(),
            source,
        };
        let socket = private.join(Self::tag(number));
        let log = private.join(format!("{}.log", Self::tag(number)));
        // Its own words for folders split at commas, so it is told of a place that has none; what
        // is relative would be the root of the host to it.
        let place = private.join(format!("{}.folder", Self::tag(number)));
        fs::create_dir(&place).map_err(failed)?;
        let mut source = OsString::from("source=");
        source.push(&place);
        // The daemon is handed a socket that listens, so that QEMU need not wait for one.
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        let mut command = Command::new(program);
        command
            .args(["-f", "--fd=0", "--rlimit-nofile=0"])
            .args(["-o", "sandbox=chroot", "-o"])
            .arg(source)
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .stderr(File::create(&log).map_err(failed)?);
        let child = self.spawn(command, &place)?;
        Ok(Sharing { child, log, socket })
    }

    fn spawn(&self, mut command: Command, place: &Path) -> Result<Child, ShareError> {
        let failed = |source| ShareError::Start {
            folder: self.folder.clone(),
            source,
        };
        let path = |path: &Path| {
            CString::new(path.as_os_str().as_bytes()).map_err(|error| failed(error.into()))
        };
        let (asked, asks) = pipe2(OFlag::O_CLOEXEC).map_err(|error| failed(error.into()))?;
        let (answers, answer) = pipe2(OFlag::O_CLOEXEC).map_err(|error| failed(error.into()))?;
        let enclosure = Enclosure {
            folder: path(&self.folder)?,
            place: path(place)?,
            read_only: self.access == Access::ReadOnly,
            users: (!Uid::effective().is_root()).then_some((asks, answers)),
        };
        // The map of users is written from outside, while the child waits before its exec.
        let mapper = thread::spawn(move || {
            let mut id = [0; 4];
            let mut answer = File::from(answer);
            match File::from(asked).read_exact(&mut id) {
                Ok(()) => {
                    let mapped = ids::map(u32::from_ne_bytes(id), ids::Root::Caller);
                    // The child has the end of the pipe, too: only a word ends its wait.
                    let word = if mapped.is_ok() { GO } else { [0] };
                    answer.write_all(&word).ok();
                    mapped
                }
                // Nobody asks: the child is root's, or could not be started at all.
                Err(_) => Ok(()),
            }
        });
        let spawned = enclose(&mut command, enclosure).spawn();
        // Closes this side's copy of the child's end of the pipe, on which the mapper waits.
        drop(command);
        let mapped = mapper.join().unwrap_or(Ok(()));
        match (spawned, mapped) {
            (_, Err(why)) => Err(ShareError::Namespace {
                folder: self.folder.clone(),
                why,
            }),
            (spawned, Ok(())) => spawned.map_err(failed),
        }
    }
}

impl Sharing {
    /// What the daemon said last, when it has failed.
    pub fn failure(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        if status.success() {
            return None;
        }
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().last().unwrap_or("nothing");
        Some(format!("virtiofsd ended with {status} and said: {last}"))
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The name of a mount unit after its folder, `systemd-escape --path`.
fn unit_name(path: &str) -> String {
    let mut name = String::new();
    for (place, byte) in path.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if place == 0 => name.push_str("\\x2e"),
            byte if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => {
                name.push(char::from(byte));
            }
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name + ".mount"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_after_their_folders() {
        for (path, name) in [
            ("/run/share/src", "run-share-src.mount"),
            ("/srv/my-data", "srv-my\\x2ddata.mount"),
            ("/.a/b c", "\\x2ea-b\\x20c.mount"),
        ] {
            assert_eq!(unit_name(path), name);
        }
    }

    #[test]
    fn a_share_is_mounted_as_it_may_be_used() {
        let mut share = Share {
            folder: "/home/ann/src".into(),
            guest: "/run/share/src".to_owned(),
            access: Access::ReadOnly,
        };
        let [(unit, text), (wish, wants)] = share.credentials(1);
        assert_eq!(unit, "systemd.extra-unit.run-share-src.mount");
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.contains("What=share1\nWhere=/run/share/src\n"),
            "{text}"
        );
        assert!(text.contains("Options=ro,"), "{text}");
        assert_eq!(wish, "systemd.unit-dropin.local-fs.target~baker-share1");
        assert_eq!(wants, b"[Unit]\nWants=run-share-src.mount\n");
        share.access = Access::ReadWrite;
        let [(_, text), _] = share.credentials(1);
        assert!(String::from_utf8(text).unwrap().contains("Options=rw,"));
    }
}
