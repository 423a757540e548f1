//! Packages into one tree, by the rules that dpkg has for shared paths.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use baker_model::Tree;
use baker_model::tree::{Kind, LinkGroup, Metadata, Node, Origin, TreePath};

use super::control::Paragraph;
use super::error::{AssembleError, Conflict, Conflicts, Refusal};
use super::{Clashes, landing};
use crate::Package;
use crate::links;

/// A package decoded but not yet part of the tree.
pub(crate) struct Unpacked {
    pub(crate) package: Package,
    pub(super) paragraph: Paragraph,
    pub(crate) entries: Vec<Entry>,
}

/// One entry of `data.tar`.
pub(crate) struct Entry {
    pub(crate) path: TreePath,
    /// Offset of its header in the uncompressed `data.tar`.
    pub(crate) offset: u64,
    pub(crate) metadata: Metadata,
    pub(crate) what: What,
}

/// What an entry adds.
pub(crate) enum What {
    /// A node of its own.
    Node(Kind),
    /// One more name of the file with this index among the package's entries.
    HardLink(usize),
}

/// Merges packages in the order given.
pub(super) struct Merge {
    tree: Tree,
    epoch: i64,
    merged: Vec<Merged>,
    /// Who owns what is no directory: index into `merged`.
    owners: HashMap<TreePath, usize>,
    conflicts: Vec<Conflict>,
    next_group: u32,
}

/// What must be known of a package that is in the tree.
struct Merged {
    package: Package,
    paragraph: Paragraph,
    origin: Arc<str>,
}

impl Merge {
    pub(super) fn new(epoch: i64) -> Self {
        Self {
            tree: Tree::new(epoch),
            epoch,
            merged: Vec::new(),
            owners: HashMap::new(),
            conflicts: Vec::new(),
            next_group: 0,
        }
    }

    /// Adds one package.
    pub(super) fn add(&mut self, unpacked: Unpacked) -> Result<(), AssembleError> {
        let Unpacked {
            package,
            paragraph,
            mut entries,
        } = unpacked;
        let name = package.lock.name.clone();
        self.merged.push(Merged {
            package,
            paragraph,
            origin: name.as_str().into(),
        });
        self.number_links(&mut entries);
        for index in 0..entries.len() {
            let entry = &entries[index];
            let refuse = |refusal| AssembleError::Refused {
                package: name.clone(),
                entry: entry.path.to_string(),
                offset: entry.offset,
                refusal,
            };
            let (metadata, kind) = match &entry.what {
                What::Node(kind) => (&entry.metadata, kind),
                What::HardLink(target) => match &entries[*target] {
                    Entry {
                        what: What::Node(kind),
                        metadata,
                        ..
                    } => (metadata, kind),
                    _ => return Err(refuse(Refusal::HardLink(entry.path.to_string()))),
                },
            };
            let (metadata, kind) = (metadata.clone(), kind.clone());
            if kind == Kind::Directory {
                self.add_directory(&entry.path, metadata).map_err(refuse)?;
            } else {
                self.add_other(&entry.path, metadata, kind)
                    .map_err(refuse)?;
            }
        }
        Ok(())
    }

    /// The tree and its packages, once all of them are in.
    pub(super) fn finish(self, clashes: Clashes) -> Result<(Tree, Vec<Package>), AssembleError> {
        if clashes == Clashes::Refused && !self.conflicts.is_empty() {
            return Err(AssembleError::Conflicts {
                conflicts: Conflicts(self.conflicts),
            });
        }
        let mut tree = self.tree;
        links::settle(&mut tree);
        Ok((
            tree,
            self.merged
                .into_iter()
                .map(|merged| merged.package)
                .collect(),
        ))
    }

    /// Gives a number to every file that has more than one name.
    fn number_links(&mut self, entries: &mut [Entry]) {
        let shared: BTreeSet<usize> = entries
            .iter()
            .filter_map(|entry| match entry.what {
                What::HardLink(target) => Some(target),
                What::Node(_) => None,
            })
            .collect();
        for index in shared {
            if let Some(What::Node(Kind::File { link, .. })) =
                entries.get_mut(index).map(|entry| &mut entry.what)
            {
                *link = Some(LinkGroup(self.next_group));
                self.next_group += 1;
            }
        }
    }

    /// A directory that is there already stays as it is, also when it is there by way of a
    /// symlink: dpkg neither replaces it nor changes its owner or mode.
    fn add_directory(&mut self, path: &TreePath, metadata: Metadata) -> Result<(), Refusal> {
        let origin = self.origin();
        let landed = match landing::directory(&self.tree, path) {
            Ok(landed) => landed,
            Err(Refusal::NotADirectory(at)) if at == *path || self.owners.contains_key(&at) => {
                return self.conflict(at);
            }
            Err(refusal) => return Err(refusal),
        };
        match self.tree.get_mut(&landed) {
            Some(node) if node.origin != Origin::Implied => Ok(()),
            Some(node) => {
                (node.metadata, node.origin) = (metadata, origin);
                Ok(())
            }
            None => self.insert(
                landed,
                Node {
                    metadata,
                    kind: Kind::Directory,
                    origin,
                },
            ),
        }
    }

    fn add_other(
        &mut self,
        path: &TreePath,
        metadata: Metadata,
        kind: Kind,
    ) -> Result<(), Refusal> {
        let landed = landing::entry(&self.tree, path)?;
        let node = Node {
            metadata,
            kind,
            origin: self.origin(),
        };
        let Some(existing) = self.tree.get(&landed) else {
            return self.insert(landed, node);
        };
        if existing.kind == Kind::Directory {
            // A symlink onto a directory that is there: dpkg keeps the directory.
            return match node.kind {
                Kind::Symlink { .. } => Ok(()),
                _ => self.conflict(landed),
            };
        }
        match self.precedence(&landed, existing, &node) {
            Precedence::Newcomer => self.insert(landed, node),
            Precedence::Existing => Ok(()),
            Precedence::SamePackage => Err(Refusal::Twice(landed)),
            Precedence::Neither => self.conflict(landed),
        }
    }

    fn precedence(&self, path: &TreePath, existing: &Node, newcomer: &Node) -> Precedence {
        let (Some(new), Some(old)) = (self.merged.last(), self.owner(path)) else {
            return Precedence::Neither;
        };
        let (new_lock, old_lock) = (&new.package.lock, &old.package.lock);
        if new_lock.name == old_lock.name {
            // Multi-Arch: same packages share files of equal content.
            return match new_lock.architecture == old_lock.architecture {
                true => Precedence::SamePackage,
                false if existing.kind == newcomer.kind => Precedence::Existing,
                false => Precedence::Neither,
            };
        }
        if new.paragraph.replaces(&old_lock.name, &old_lock.version) {
            Precedence::Newcomer
        } else if old.paragraph.replaces(&new_lock.name, &new_lock.version) {
            Precedence::Existing
        } else {
            Precedence::Neither
        }
    }

    fn owner(&self, path: &TreePath) -> Option<&Merged> {
        self.owners
            .get(path)
            .and_then(|&index| self.merged.get(index))
    }

    fn origin(&self) -> Origin {
        let origin = self
            .merged
            .last()
            .map_or_else(|| Arc::from(""), |last| last.origin.clone());
        Origin::Package(origin)
    }

    fn insert(&mut self, path: TreePath, node: Node) -> Result<(), Refusal> {
        let above = |_| Refusal::NotADirectory(path.clone());
        self.tree.ensure_parents(&path, self.epoch).map_err(above)?;
        if node.kind != Kind::Directory {
            self.owners.insert(path.clone(), self.merged.len() - 1);
        }
        self.tree.insert(path.clone(), node).map_err(above)?;
        Ok(())
    }

    fn conflict(&mut self, path: TreePath) -> Result<(), Refusal> {
        let name = |merged: &Merged| merged.package.lock.name.clone();
        let first = match self.owner(&path) {
            Some(owner) => name(owner),
            None => match self.tree.get(&path).map(|node| &node.origin) {
                Some(Origin::Package(package)) => package.to_string(),
                _ => "several".to_owned(),
            },
        };
        let second = self.merged.last().map(name).unwrap_or_default();
        self.conflicts.push(Conflict {
            path,
            first,
            second,
        });
        Ok(())
    }
}

/// Whose file a shared path is.
enum Precedence {
    Newcomer,
    Existing,
    SamePackage,
    Neither,
}

/// The order in which packages are merged: base-files first, since its symlinks are what makes
/// the merged `/usr` (every way to bootstrap Debian begins with it); then by name and architecture.
pub(super) fn order(packages: &[&baker_model::lock::PackageLock]) -> Vec<usize> {
    let keyed: BTreeMap<_, usize> = packages
        .iter()
        .enumerate()
        .map(|(index, lock)| {
            let late = lock.name != "base-files";
            (
                (late, &lock.name, &lock.architecture, &lock.version, index),
                index,
            )
        })
        .collect();
    keyed.into_values().collect()
}
