//! One package from the store into memory and spool.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use baker_formats::{deb, tar};
use baker_model::lock::PackageLock;
use baker_model::tree::{Kind, Metadata, TreePath};
use baker_model::{Interrupt, Objects};

use super::control::Paragraph;
use super::error::{AssembleError, Refusal};
use super::kept::{self, Shelf};
use super::merge::{Entry, Unpacked, What};
use super::{Limits, stored};
use crate::{Keep, Package, Script, Spool};

/// The longest symlink target (`PATH_MAX` less its NUL).
const TARGET_LIMIT: usize = 4095;

/// What all packages of one run share.
pub(crate) struct Shared<'a> {
    pub(crate) inputs: &'a dyn Objects,
    pub(crate) keep: Option<&'a Keep>,
    pub(crate) spool: &'a Spool,
    pub(crate) interrupt: &'a Interrupt,
    pub(crate) epoch: i64,
    pub(crate) limits: Limits,
    /// Bytes of file contents that all packages together have asked for.
    pub(crate) total: AtomicU64,
    /// How many packages an earlier run had unpacked.
    pub(crate) reused: AtomicUsize,
}

impl Shared<'_> {
    /// Counts a file content of this size.
    pub(super) fn count(&self, size: u64) -> Result<(), Refusal> {
        let before = self.total.fetch_add(size, Ordering::Relaxed);
        let limit = self.limits.total_bytes;
        match before.saturating_add(size) > limit {
            true => Err(Refusal::TooMuch {
                what: "all packages together are too large",
                limit,
            }),
            false => Ok(()),
        }
    }
}

/// One package: as an earlier run unpacked it, or decoded now. Large contents are in the spool then.
pub(crate) fn unpack(lock: &PackageLock, shared: &Shared<'_>) -> Result<Unpacked, AssembleError> {
    let mut unpacked = match kept::read(lock, shared)? {
        Some(unpacked) => {
            shared.reused.fetch_add(1, Ordering::Relaxed);
            unpacked
        }
        None => decode(lock, shared)?,
    };
    for entry in &mut unpacked.entries {
        // A file system image has no times before 1970, and none may be newer than the lock.
        let mtime = &mut entry.metadata.mtime;
        *mtime = (*mtime).min(shared.epoch).max(0);
    }
    Ok(unpacked)
}

fn decode(lock: &PackageLock, shared: &Shared<'_>) -> Result<Unpacked, AssembleError> {
    let limits = shared.limits.of_package(1);
    let spoiled = |source| AssembleError::Spool {
        package: lock.name.clone(),
        source,
    };
    let mut shelf = Shelf::new(shared.keep, shared.spool).map_err(spoiled)?;
    let (unpacked, members) = open(lock, shared, &limits, &mut shelf)?;
    shelf
        .finish(lock.sha256, &members, &unpacked.entries, shared.spool)
        .map_err(spoiled)?;
    Ok(unpacked)
}

/// Members of `control.tar` by name.
pub(crate) type Members = BTreeMap<String, Vec<u8>>;

fn open<'a>(
    lock: &PackageLock,
    shared: &Shared<'a>,
    limits: &deb::Limits,
    shelf: &mut Shelf<'a>,
) -> Result<(Unpacked, Members), AssembleError> {
    stored::read(lock, shared.inputs, limits, |deb| {
        let members = deb.take_control();
        // Before anything of it is unpacked: it may be another package.
        check_control(lock, &members)?;
        let mut taker = Taker {
            lock,
            shared,
            shelf,
            entries: Vec::new(),
            files: HashMap::new(),
        };
        while let Some(entry) = deb
            .next_entry()
            .map_err(|source| stored::broken(lock, source))?
        {
            if shared.interrupt.is_raised() {
                return Err(AssembleError::Interrupted);
            }
            taker.take(entry)?;
        }
        let unpacked = unpacked(lock, members.clone(), taker.entries)?;
        Ok((unpacked, members))
    })
}

/// Puts together what is known of a package.
pub(super) fn unpacked(
    lock: &PackageLock,
    members: Members,
    entries: Vec<Entry>,
) -> Result<Unpacked, AssembleError> {
    let (control, paragraph) = check_control(lock, &members)?;
    let (scripts, members) = sort_members(members);
    let paths = entries.iter().map(|entry| entry.path.clone()).collect();
    let package = Package {
        lock: lock.clone(),
        control,
        scripts,
        members,
        paths,
    };
    Ok(Unpacked {
        package,
        paragraph,
        entries,
    })
}

fn sort_members(mut members: Members) -> (BTreeMap<Script, Vec<u8>>, Members) {
    members.remove("control");
    let scripts = Script::ALL
        .into_iter()
        .filter_map(|script| Some((script, members.remove(script.name())?)))
        .collect();
    (scripts, members)
}

/// The control file as text and fields; it must be of the very package that the lock names.
fn check_control(
    lock: &PackageLock,
    members: &Members,
) -> Result<(String, Paragraph), AssembleError> {
    let text = members
        .get("control")
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .ok_or_else(|| AssembleError::NoControl {
            package: lock.name.clone(),
        })?;
    let paragraph = Paragraph::parse(text).map_err(|source| AssembleError::Control {
        package: lock.name.clone(),
        source,
    })?;
    let facts = [
        ("Package", &lock.name),
        ("Version", &lock.version),
        ("Architecture", &lock.architecture),
    ];
    for (field, expected) in facts {
        let found = paragraph.get(field).unwrap_or_default();
        if found != expected {
            return Err(AssembleError::Misnamed {
                package: lock.name.clone(),
                field,
                expected: expected.clone(),
                found: found.to_owned(),
            });
        }
    }
    Ok((text.to_owned(), paragraph))
}

/// Collects the entries of one package.
struct Taker<'a, 'b> {
    lock: &'a PackageLock,
    shared: &'a Shared<'b>,
    shelf: &'a mut Shelf<'b>,
    entries: Vec<Entry>,
    /// Regular files by path, for the hard links that name them.
    files: HashMap<TreePath, usize>,
}

impl Taker<'_, '_> {
    fn take(&mut self, mut entry: tar::Entry<'_>) -> Result<(), AssembleError> {
        let header = entry.header.clone();
        let path = TreePath::new(&header.path)
            .map_err(|error| self.refuse(&header, Refusal::Path(error.reason)))?;
        let what = self.what(&header, &mut entry)?;
        match &what {
            What::Node(Kind::File { .. }) => {
                self.files.insert(path.clone(), self.entries.len());
            }
            What::HardLink(target) => {
                self.files.insert(path.clone(), *target);
            }
            What::Node(_) => {}
        }
        let metadata = Metadata {
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            mtime: header.mtime,
            xattrs: header.xattrs,
        };
        self.entries.push(Entry {
            path,
            offset: header.offset,
            metadata,
            what,
        });
        Ok(())
    }

    fn what(
        &mut self,
        header: &tar::Header,
        entry: &mut tar::Entry<'_>,
    ) -> Result<What, AssembleError> {
        Ok(What::Node(match &header.kind {
            tar::Kind::Directory => Kind::Directory,
            tar::Kind::File => self.file(header, entry)?,
            tar::Kind::HardLink { target } => return self.hard_link(header, target),
            tar::Kind::Symlink { target } if (1..=TARGET_LIMIT).contains(&target.len()) => {
                Kind::Symlink {
                    target: target.clone(),
                }
            }
            tar::Kind::Symlink { .. } => return Err(self.refuse(header, Refusal::Target)),
            &tar::Kind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
            &tar::Kind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
            tar::Kind::Fifo => Kind::Fifo,
        }))
    }

    fn hard_link(&self, header: &tar::Header, target: &[u8]) -> Result<What, AssembleError> {
        let known = TreePath::new(target)
            .ok()
            .and_then(|path| self.files.get(&path));
        let target = String::from_utf8_lossy(target).into_owned();
        known
            .map(|&index| What::HardLink(index))
            .ok_or_else(|| self.refuse(header, Refusal::HardLink(target)))
    }

    fn file(
        &mut self,
        header: &tar::Header,
        entry: &mut tar::Entry<'_>,
    ) -> Result<Kind, AssembleError> {
        self.shared
            .count(header.size)
            .map_err(|refusal| self.refuse(header, refusal))?;
        let added = self.shelf.add(entry, header.size);
        added
            .map(Kind::file)
            .map_err(|source| stored::damaged(self.lock, header, source))
    }

    fn refuse(&self, header: &tar::Header, refusal: Refusal) -> AssembleError {
        stored::refused(self.lock, header, refusal)
    }
}
