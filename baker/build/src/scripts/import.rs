//! The archive that came back, as a tree.

use std::collections::{BTreeSet, HashMap};
use std::io::BufRead;

use baker_formats::tar::{self, Header, Limits, Reader};
use baker_model::tree::{Kind, LinkGroup, Metadata, Node, Origin, TreePath};
use baker_model::{Digest, Interrupt, Tree};

use super::ScriptsError;
use crate::assemble::kept::Shelf;
use crate::assemble::merge::{Entry, What};
use crate::assemble::unpack::Members;
use crate::{Keep, Spool, assemble};

/// What [`import`] needs, and [`kept`].
#[derive(Clone, Copy)]
pub struct ImportRequest<'a> {
    /// Digest of the archive.
    pub source: Digest,
    /// Where archives lie that were unpacked before; none to keep nothing.
    pub keep: Option<&'a Keep>,
    /// Takes the contents of larger files.
    pub spool: &'a Spool,
    /// No time is newer.
    pub epoch: i64,
    /// Ends the work early.
    pub interrupt: &'a Interrupt,
}

/// The tree of an archive that was unpacked before; none when it was not.
///
/// # Errors
/// What was kept is no tree.
pub fn kept(request: ImportRequest<'_>) -> Result<Option<Tree>, ScriptsError> {
    let open = |keep| assemble::kept::open(keep, request.source, request.spool);
    let kept = request.keep.and_then(open);
    kept.map(|(_, entries)| tree(entries, request.epoch))
        .transpose()
}

/// Reads the tree of an archive; large contents go to the spool. Nothing has an owner yet.
///
/// # Errors
/// The archive is damaged, or a file cannot be kept.
pub fn import(archive: impl BufRead, request: ImportRequest<'_>) -> Result<Tree, ScriptsError> {
    let limits = Limits {
        bytes: u64::MAX,
        ..Limits::default()
    };
    let mut reader = Reader::new(archive, limits);
    let spoiled = |source| ScriptsError::Keep {
        path: TreePath::root(),
        source,
    };
    let mut shelf = Shelf::new(request.keep, request.spool).map_err(spoiled)?;
    let mut entries: Vec<Entry> = Vec::new();
    // Files by path, for the hard links that name them.
    let mut files: HashMap<TreePath, usize> = HashMap::new();
    while let Some(mut entry) = reader.next_entry().map_err(ScriptsError::Archive)? {
        if request.interrupt.is_raised() {
            return Err(ScriptsError::Interrupted);
        }
        let header = entry.header.clone();
        let path = path(&header.path)?;
        let what = match &header.kind {
            tar::Kind::HardLink { target } => {
                let first = files.get(&self::path(target)?);
                let missing = || ScriptsError::Link { path: path.clone() };
                What::HardLink(*first.ok_or_else(missing)?)
            }
            tar::Kind::File => {
                let kept = shelf.add(&mut entry, header.size);
                let kept = kept.map_err(|source| ScriptsError::Keep {
                    path: path.clone(),
                    source,
                })?;
                files.insert(path.clone(), entries.len());
                What::Node(Kind::file(kept))
            }
            _ => What::Node(kind(&header)),
        };
        entries.push(Entry {
            path,
            offset: header.offset,
            metadata: Metadata {
                mode: header.mode,
                uid: header.uid,
                gid: header.gid,
                mtime: header.mtime,
                xattrs: header.xattrs,
            },
            what,
        });
    }
    let finished = shelf.finish(request.source, &Members::new(), &entries, request.spool);
    finished.map_err(spoiled)?;
    tree(entries, request.epoch)
}

/// The entries of an archive as a tree.
fn tree(mut entries: Vec<Entry>, epoch: i64) -> Result<Tree, ScriptsError> {
    let linked: BTreeSet<usize> = entries
        .iter()
        .filter_map(|entry| match entry.what {
            What::HardLink(first) => Some(first),
            What::Node(_) => None,
        })
        .collect();
    for (number, first) in linked.into_iter().enumerate() {
        let entry = entries.get_mut(first).map(|entry| &mut entry.what);
        if let Some(What::Node(Kind::File { link, .. })) = entry {
            let number = u32::try_from(number + 1).unwrap_or(u32::MAX);
            *link = Some(LinkGroup(number));
        }
    }
    let mut tree = Tree::new(epoch);
    for entry in &entries {
        let (metadata, kind) = match &entry.what {
            What::Node(kind) => (&entry.metadata, kind),
            What::HardLink(first) => {
                let first = entries
                    .get(*first)
                    .map(|first| (&first.metadata, &first.what));
                let Some((metadata, What::Node(kind @ Kind::File { .. }))) = first else {
                    let path = entry.path.clone();
                    return Err(ScriptsError::Link { path });
                };
                (metadata, kind)
            }
        };
        let node = Node {
            kind: kind.clone(),
            metadata: Metadata {
                mtime: metadata.mtime.clamp(0, epoch),
                ..metadata.clone()
            },
            origin: Origin::Implied,
        };
        let is_root = entry.path == TreePath::root();
        match tree.get_mut(&entry.path).filter(|_| is_root) {
            Some(root) => *root = node,
            None => {
                // What was asked for by its path comes without the directories above it.
                tree.ensure_parents(&entry.path, epoch)?;
                tree.insert(entry.path.clone(), node)?;
            }
        }
    }
    Ok(tree)
}

fn path(bytes: &[u8]) -> Result<TreePath, ScriptsError> {
    TreePath::new(bytes).map_err(|source| ScriptsError::Path {
        path: String::from_utf8_lossy(bytes).into_owned(),
        source,
    })
}

fn kind(header: &Header) -> Kind {
    match &header.kind {
        tar::Kind::Symlink { target } => Kind::Symlink {
            target: target.clone(),
        },
        &tar::Kind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
        &tar::Kind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
        tar::Kind::Fifo => Kind::Fifo,
        _ => Kind::Directory,
    }
}
