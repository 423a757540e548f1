//! `[[directory]]`, `[[file]]` and `[[link]]` of the recipe.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use baker_model::lock::FileLock;
use baker_model::recipe::{FileEntry, FileSource, Mode, Recipe};
use baker_model::tree::{Content, INLINE_LIMIT, Kind, Metadata, Node, Origin, TreePath};
use baker_model::{Digest, Digester, Lock, Tree};

use super::OverlayError;
use super::accounts::Accounts;
use crate::assemble::{Difference, Fingerprint, landing};
use crate::spool::Lender;
use crate::{Spool, links};

/// What [`files`] needs.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Names the local files by digest; its epoch is the time of all entries.
    pub lock: &'a Lock,
    /// Where a local file lies.
    pub locate: &'a dyn Fn(&str) -> PathBuf,
    /// Where the store has the bytes of a digest, or would.
    pub stored: &'a dyn Fn(&Digest) -> PathBuf,
    /// Takes the contents of larger files.
    pub spool: &'a Spool,
}

/// Adds the recipe's directories, files and symbolic links; each replaces what a package put there.
///
/// Directories that are named only as part of a path get mode 0755 and owner root. Symlinks above
/// an entry are followed (merged `/usr`), one at its own place is replaced.
///
/// # Errors
/// See [`OverlayError`]; its `hint` says what mends it.
pub fn files(tree: &mut Tree, request: Request<'_>) -> Result<(), OverlayError> {
    let accounts = Accounts::read(tree, request.spool)?;
    let epoch = request.lock.epoch;
    for entry in &request.recipe.directories {
        let path = path(&entry.path)?;
        let metadata = metadata(
            &accounts,
            &path,
            (entry.mode, &entry.owner, &entry.group),
            epoch,
        )?;
        put(tree, &path, metadata, Kind::Directory)?;
    }
    for entry in request.recipe.all_files() {
        let path = path(&entry.path)?;
        let metadata = metadata(
            &accounts,
            &path,
            (entry.mode, &entry.owner, &entry.group),
            epoch,
        )?;
        let content = content(&entry, &path, &request)?;
        put(tree, &path, metadata, Kind::file(content))?;
    }
    for entry in &request.recipe.links {
        let path = path(&entry.path)?;
        let kind = Kind::Symlink {
            target: entry.target.clone().into_bytes(),
        };
        put(tree, &path, Metadata::of_root(0o777, epoch), kind)?;
    }
    links::settle(tree);
    Ok(())
}

fn path(text: &str) -> Result<TreePath, OverlayError> {
    TreePath::new(text).map_err(|source| OverlayError::Path {
        path: text.to_owned(),
        source,
    })
}

fn metadata(
    accounts: &Accounts,
    path: &TreePath,
    (mode, owner, group): (Mode, &str, &str),
    epoch: i64,
) -> Result<Metadata, OverlayError> {
    Ok(Metadata {
        mode: mode.0,
        uid: accounts.user(path, owner)?,
        gid: accounts.group(path, group)?,
        mtime: epoch,
        ..Metadata::default()
    })
}

/// Puts one entry of the recipe where `path` leads to.
pub(super) fn put(
    tree: &mut Tree,
    path: &TreePath,
    metadata: Metadata,
    kind: Kind,
) -> Result<(), OverlayError> {
    let refuse = |refusal| OverlayError::Refused {
        path: path.clone(),
        refusal,
    };
    // A directory reached by a symlink is that directory; anything else replaces the symlink.
    let landed = match kind {
        Kind::Directory => landing::directory(tree, path).or_else(|_| landing::entry(tree, path)),
        _ => landing::entry(tree, path),
    }
    .map_err(refuse)?;
    let fail = |source| OverlayError::Place {
        path: path.clone(),
        source,
    };
    tree.ensure_parents(&landed, metadata.mtime).map_err(fail)?;
    let node = Node {
        metadata,
        kind,
        origin: Origin::Recipe,
    };
    tree.insert(landed, node).map(drop).map_err(fail)
}

fn content(
    entry: &FileEntry,
    path: &TreePath,
    request: &Request<'_>,
) -> Result<Content, OverlayError> {
    let keep = |source| OverlayError::Content {
        path: path.clone(),
        source,
    };
    match entry.source() {
        FileSource::Content(text) => request
            .spool
            .add(&mut text.as_bytes(), text.len() as u64)
            .map_err(keep),
        FileSource::Local(file) => {
            let locked = request.lock.files.iter().find(|locked| locked.path == file);
            let locked = locked.ok_or_else(|| OverlayError::NotLocked {
                file: file.to_owned(),
            })?;
            match lent(locked, request) {
                Some(content) => Ok(content),
                None => local(locked, path, request),
            }
        }
    }
}

/// The content of a large local file, out of the store: nobody copies it. Whoever reads all of it
/// compares it with the digest that the lock names.
fn lent(locked: &FileLock, request: &Request<'_>) -> Option<Content> {
    let (digest, size) = (locked.sha256, locked.size);
    if size <= INLINE_LIMIT {
        return None;
    }
    let path = (request.stored)(&digest);
    let file = File::open(&path).ok()?;
    if file.metadata().ok()?.len() != size {
        return None;
    }
    let source = digest;
    let lender = Arc::new(Lender { file, path, source });
    request.spool.lend(&lender, [(digest, 0, size)].into_iter());
    Some(Content::Extern { digest, size })
}

/// The content of a local file, if it is what the lock names.
fn local(
    locked: &FileLock,
    path: &TreePath,
    request: &Request<'_>,
) -> Result<Content, OverlayError> {
    let file = (request.locate)(&locked.path);
    let fail = |source| OverlayError::Local {
        file: file.clone(),
        source,
    };
    let found = fingerprint(&mut File::open(&file).map_err(fail)?).map_err(fail)?;
    let expected = Fingerprint {
        size: locked.size,
        sha256: locked.sha256,
    };
    let altered = |found| OverlayError::Altered {
        file: locked.path.clone(),
        difference: Box::new(Difference { expected, found }),
    };
    if found != expected {
        return Err(altered(found));
    }
    let mut reader = File::open(&file).map_err(fail)?;
    let content = request
        .spool
        .add(&mut reader, locked.size)
        .map_err(|source| OverlayError::Content {
            path: path.clone(),
            source,
        })?;
    // Read twice, so that an altered file is named by size and digest; it may change in between.
    if content.digest() != locked.sha256 {
        return Err(altered(Fingerprint {
            size: locked.size,
            sha256: content.digest(),
        }));
    }
    Ok(content)
}

fn fingerprint(reader: &mut dyn Read) -> io::Result<Fingerprint> {
    let mut digester = Digester::new();
    let size = io::copy(reader, &mut digester)?;
    Ok(Fingerprint {
        size,
        sha256: digester.finish(),
    })
}
