//! One package from the store into memory and spool.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use baker_formats::tar;
use baker_model::lock::PackageLock;
use baker_model::tree::{Kind, Metadata, TreePath};
use baker_model::{Interrupt, Objects};

use super::control::Paragraph;
use super::error::{AssembleError, Refusal};
use super::merge::{Entry, Unpacked, What};
use super::{Limits, stored};
use crate::{Package, Script, Spool};

/// The longest symlink target (`PATH_MAX` less its NUL).
const TARGET_LIMIT: usize = 4095;

/// What all packages of one run share.
pub(super) struct Shared<'a> {
    pub(super) inputs: &'a dyn Objects,
    pub(super) spool: &'a Spool,
    pub(super) interrupt: &'a Interrupt,
    pub(super) epoch: i64,
    pub(super) limits: Limits,
    /// Bytes of file contents that all packages together have asked for.
    pub(super) total: AtomicU64,
}

/// Decodes one package; large contents go to the spool.
pub(super) fn unpack(lock: &PackageLock, shared: &Shared<'_>) -> Result<Unpacked, AssembleError> {
    let limits = shared.limits.of_package(1);
    stored::read(lock, shared.inputs, &limits, |deb| {
        let (control, paragraph) = check_control(lock, deb.control())?;
        let (scripts, members) = sort_members(deb.take_control());
        let mut taker = Taker {
            lock,
            shared,
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
        let entries = taker.entries;
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
    })
}

fn sort_members(
    mut members: BTreeMap<String, Vec<u8>>,
) -> (BTreeMap<Script, Vec<u8>>, BTreeMap<String, Vec<u8>>) {
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
    members: &BTreeMap<String, Vec<u8>>,
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
struct Taker<'a> {
    lock: &'a PackageLock,
    shared: &'a Shared<'a>,
    entries: Vec<Entry>,
    /// Regular files by path, for the hard links that name them.
    files: HashMap<TreePath, usize>,
}

impl Taker<'_> {
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
            // A file system image has no times before 1970, and none may be newer than the lock.
            mtime: header.mtime.min(self.shared.epoch).max(0),
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
        &self,
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
        &self,
        header: &tar::Header,
        entry: &mut tar::Entry<'_>,
    ) -> Result<Kind, AssembleError> {
        let before = self.shared.total.fetch_add(header.size, Ordering::Relaxed);
        let limit = self.shared.limits.total_bytes;
        if before.saturating_add(header.size) > limit {
            let what = "all packages together are too large";
            return Err(self.refuse(header, Refusal::TooMuch { what, limit }));
        }
        let added = self.shared.spool.add(entry, header.size);
        added
            .map(Kind::file)
            .map_err(|source| stored::damaged(self.lock, header, source))
    }

    fn refuse(&self, header: &tar::Header, refusal: Refusal) -> AssembleError {
        stored::refused(self.lock, header, refusal)
    }
}
