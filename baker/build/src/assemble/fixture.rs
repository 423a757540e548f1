//! Tiny packages made in tests, and a store that holds them.

use std::collections::BTreeMap;
use std::io::Cursor;

use baker_model::lock::{GuestLock, LOCK_VERSION, Lock, PackageLock, PackageRole};
use baker_model::object::{ObjectError, Objects, ReadSeek};
use baker_model::{Digest, Interrupt, Silent};

use super::{AssembleError, Clashes, Limits, Request, assemble};
use crate::{Assembled, Spool};

/// The epoch of all locks made here.
pub(crate) const EPOCH: i64 = 1_000_000;

/// A package in the making.
pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) role: PackageRole,
    control: String,
    members: Vec<(&'static str, Vec<u8>)>,
    data: Vec<u8>,
}

impl Fixture {
    pub(crate) fn new(name: &'static str) -> Self {
        let control = format!("Package: {name}\nVersion: 1.0\nArchitecture: amd64\n");
        let data = tar_entry("./", b'5', 0o755, "", b"");
        Self {
            name,
            role: PackageRole::Root,
            control,
            members: Vec::new(),
            data,
        }
    }

    pub(crate) fn role(mut self, role: PackageRole) -> Self {
        self.role = role;
        self
    }

    pub(crate) fn field(mut self, line: &str) -> Self {
        self.control += line;
        self.control.push('\n');
        self
    }

    pub(crate) fn member(mut self, name: &'static str, text: &str) -> Self {
        self.members.push((name, text.into()));
        self
    }

    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(path, b'0', 0o644, "", content.as_ref())
    }

    pub(crate) fn directory(self, path: &str, mode: u16) -> Self {
        self.entry(path, b'5', mode, "", b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, b'2', 0o777, target, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(path, b'1', 0o644, target, b"")
    }

    pub(crate) fn entry(
        mut self,
        path: &str,
        flag: u8,
        mode: u16,
        link: &str,
        content: &[u8],
    ) -> Self {
        self.data.extend(tar_entry(path, flag, mode, link, content));
        self
    }

    /// Whole tar blocks, as they are.
    pub(crate) fn raw(mut self, blocks: &[u8]) -> Self {
        self.data.extend_from_slice(blocks);
        self
    }

    /// The bytes of the `.deb`, members not compressed.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut control = tar_entry("./control", b'0', 0o644, "", self.control.as_bytes());
        for (name, content) in &self.members {
            control.extend(tar_entry(&format!("./{name}"), b'0', 0o755, "", content));
        }
        let mut deb = b"!<arch>\n".to_vec();
        let end = [0; 1024];
        let members = [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar", [&control[..], &end].concat()),
            ("data.tar", [&self.data[..], &end].concat()),
        ];
        for (name, data) in members {
            let size = data.len();
            deb.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644).bytes(),
            );
            deb.extend(data);
            deb.resize(deb.len().next_multiple_of(2), b'\n');
        }
        deb
    }
}

/// One tar entry of owner 10:11 and time 2000 days: header with the right checksum, data, padding.
pub(crate) fn tar_entry(path: &str, flag: u8, mode: u16, link: &str, data: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 512];
    let mut put = |offset: usize, text: &str| {
        block[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, path);
    put(100, &format!("{mode:07o}"));
    put(108, "0000012");
    put(116, "0000013");
    put(124, &format!("{:011o}", data.len()));
    put(
        136,
        &format!(
            "{:011o}",
            if path.ends_with("new") {
                2 * EPOCH
            } else {
                2000
            }
        ),
    );
    put(157, link);
    put(257, "ustar\x0000");
    put(329, "0000005");
    put(337, "0000001");
    block[156] = flag;
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut bytes = block.to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A store in memory.
#[derive(Default)]
pub(crate) struct Store(pub(crate) BTreeMap<Digest, Vec<u8>>);

impl Objects for Store {
    fn open(&self, digest: &Digest) -> Result<Box<dyn ReadSeek>, ObjectError> {
        let bytes = self
            .0
            .get(digest)
            .ok_or(ObjectError::Missing { digest: *digest })?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }
}

/// A store with these packages, and the lock that names them.
pub(crate) fn store(packages: &[Fixture]) -> (Lock, Store) {
    let mut lock = Lock {
        version: LOCK_VERSION,
        recipe: Digest::of(b"recipe"),
        epoch: EPOCH,
        guest: GuestLock {
            size: 0,
            sha256: Digest::of(b""),
        },
        files: Vec::new(),
        archives: Vec::new(),
        packages: Vec::new(),
        layers: Vec::new(),
        stages: Vec::new(),
    };
    let mut store = Store::default();
    for package in packages {
        let bytes = package.bytes();
        lock.packages.push(PackageLock {
            name: package.name.to_owned(),
            version: "1.0".to_owned(),
            architecture: "amd64".to_owned(),
            role: package.role,
            archive: "debian".to_owned(),
            path: format!("pool/{}.deb", package.name),
            size: bytes.len() as u64,
            sha256: Digest::of(&bytes),
        });
        store.0.insert(Digest::of(&bytes), bytes);
    }
    lock.packages.sort();
    (lock, store)
}

/// Assembles with a spool of its own.
pub(crate) fn run(lock: &Lock, store: &Store) -> Result<Assembled, AssembleError> {
    run_with(lock, store, 2, Limits::default())
}

pub(crate) fn run_with(
    lock: &Lock,
    store: &Store,
    threads: usize,
    limits: Limits,
) -> Result<Assembled, AssembleError> {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path()).unwrap();
    run_all(lock, store, &spool, threads, limits)
}

/// Assembles into a spool that the test goes on to read.
pub(crate) fn run_in(
    lock: &Lock,
    store: &Store,
    spool: &Spool,
) -> Result<Assembled, AssembleError> {
    run_all(lock, store, spool, 2, Limits::default())
}

fn run_all(
    lock: &Lock,
    store: &Store,
    spool: &Spool,
    threads: usize,
    limits: Limits,
) -> Result<Assembled, AssembleError> {
    assemble(Request {
        lock,
        inputs: store,
        keep: None,
        spool,
        threads: threads.try_into().unwrap(),
        limits,
        clashes: Clashes::Refused,
        listener: &Silent,
        interrupt: &Interrupt::new(),
    })
}
