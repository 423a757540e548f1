//! The tree that came back, made the root of an image: tools and leftovers gone, owners known.

use std::collections::{BTreeMap, BTreeSet};

use baker_model::lock::PackageRole;
use baker_model::tree::{Kind, Node, Origin, TreePath};
use baker_model::{Lock, Tree};

use super::ScriptsError;
use super::leftovers::Leftovers;
use crate::{Assembled, Spool};

/// Who made what no package ships.
pub const EFFECT: &str = "package-scripts";

/// Where dpkg says what is whose.
const LISTS: &str = "var/lib/dpkg/info";

/// Where files were moved out of another package's way.
const DIVERSIONS: &str = "var/lib/dpkg/diversions";

/// Links of alternatives.
const ALTERNATIVES: &str = "etc/alternatives";

/// Passwords and their dates.
const SHADOW: &str = "etc/shadow";

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Who made what the recipe's commands made.
pub const RUN_EFFECT: &str = "run";

/// Puts the tree in the place of the assembled one. What is as a package shipped it keeps its
/// owner and its time; all else was made by scripts, or is `made` by commands of the recipe, and
/// shows the lock's time.
///
/// # Errors
/// dpkg's database cannot be read, or the tree does not hold together.
pub fn settle(
    mut tree: Tree,
    assembled: Assembled,
    lock: &Lock,
    made: &BTreeSet<TreePath>,
    spool: &Spool,
) -> Result<Assembled, ScriptsError> {
    remove_tools(&mut tree, &assembled.tree, (lock, made), spool)?;
    Leftovers::read()?.remove(&mut tree, made);
    remove_dangling(&mut tree)?;
    still_shadow(&mut tree, lock.epoch, spool)?;
    for (path, node) in tree.walk_mut() {
        let shipped = assembled.tree.get(path);
        match shipped.filter(|shipped| is_same(node, shipped)) {
            Some(shipped) => {
                node.metadata.mtime = shipped.metadata.mtime;
                node.origin = shipped.origin.clone();
            }
            None => {
                let effect = if made.contains(path) {
                    RUN_EFFECT
                } else {
                    EFFECT
                };
                node.metadata.mtime = lock.epoch;
                node.origin = Origin::Effect(effect);
            }
        }
    }
    take_over_database(&mut tree, &assembled.tree)?;
    crate::links::settle(&mut tree);
    Ok(Assembled { tree, ..assembled })
}

/// Whether a node is what a package ships; its owner and mode may have been changed.
fn is_same(node: &Node, shipped: &Node) -> bool {
    match (&node.kind, &shipped.kind) {
        (Kind::File { content: a, .. }, Kind::File { content: b, .. }) => a.digest() == b.digest(),
        (a, b) => a == b,
    }
}

/// The database that was written for the packages that stay.
fn take_over_database(tree: &mut Tree, assembled: &Tree) -> Result<(), ScriptsError> {
    let free = crate::links::free_group(tree).0;
    for (path, node) in assembled.walk() {
        let is_database = path.as_bytes().starts_with(b"var/lib/dpkg")
            || path.as_bytes().starts_with(b"usr/share/factory");
        if is_database && tree.get(path).is_none() {
            tree.ensure_parents(path, node.metadata.mtime)?;
            let mut node = node.clone();
            if let Kind::File {
                link: Some(group), ..
            } = &mut node.kind
            {
                group.0 += free;
            }
            tree.insert(path.clone(), node)?;
        }
    }
    Ok(())
}

/// Removes what only packages of role tool ship.
fn remove_tools(
    tree: &mut Tree,
    assembled: &Tree,
    (lock, made): (&Lock, &BTreeSet<TreePath>),
    spool: &Spool,
) -> Result<(), ScriptsError> {
    let diverted = diversions(tree, spool)?;
    let mut paths = BTreeSet::new();
    let mut stays = BTreeSet::new();
    for package in &lock.packages {
        let of = match package.role {
            PackageRole::Tool => &mut paths,
            PackageRole::Root => &mut stays,
            PackageRole::Kernel | PackageRole::Boot => continue,
        };
        let names = [
            format!("{LISTS}/{}.list", package.name),
            format!("{LISTS}/{}:{}.list", package.name, package.architecture),
        ];
        for name in names {
            let Some(text) = text(tree, &name, spool)? else {
                continue;
            };
            for line in text.lines().filter_map(|line| line.strip_prefix('/')) {
                of.extend(place(tree, line));
                let moved = diverted.get(line).filter(|(_, by)| *by != package.name);
                of.extend(moved.and_then(|(to, _)| place(tree, to)));
            }
        }
    }
    let is_tools = |path: &TreePath| {
        paths.contains(path)
            && !stays.contains(path)
            && !made.contains(path)
            && assembled.get(path).is_none()
    };
    tree.retain(|path, node| node.kind == Kind::Directory || !is_tools(path));
    // Directories go from the innermost out, when nothing is in them.
    let directories: Vec<TreePath> = tree
        .walk()
        .rev()
        .filter(|(path, node)| node.kind == Kind::Directory && is_tools(path))
        .map(|(path, _)| path.clone())
        .collect();
    for path in directories {
        if tree.children(&path).next().is_none() {
            tree.remove(&path);
        }
    }
    Ok(())
}

/// Where a path that a package names lies in the tree, `/usr` merged.
fn place(tree: &Tree, path: &str) -> Option<TreePath> {
    let path = TreePath::new(path).ok().filter(|path| !path.is_root())?;
    let parent = tree.resolve(&path.parent()?, baker_model::tree::LastLink::Follow)?;
    parent.join(path.file_name()).ok()
}

/// Path to where it was moved, and for which package.
fn diversions(
    tree: &Tree,
    spool: &Spool,
) -> Result<BTreeMap<String, (String, String)>, ScriptsError> {
    let text = text(tree, DIVERSIONS, spool)?.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let bare = |path: &str| path.trim_start_matches('/').to_owned();
    let moved = lines.chunks_exact(3);
    Ok(moved
        .map(|part| (bare(part[0]), (bare(part[1]), part[2].to_owned())))
        .collect())
}

/// Alternatives whose program is gone, and the links that lead to them.
fn remove_dangling(tree: &mut Tree) -> Result<(), ScriptsError> {
    let Ok(home) = TreePath::new(ALTERNATIVES) else {
        return Ok(());
    };
    let leads = |tree: &Tree, path: &TreePath| {
        tree.resolve(path, baker_model::tree::LastLink::Follow)
            .is_some_and(|at| tree.get(&at).is_some())
    };
    let dangling: Vec<TreePath> = tree
        .walk()
        .filter(|(path, node)| match &node.kind {
            Kind::Symlink { target } => {
                let is_alternative =
                    path.is_below(&home) || target.starts_with(b"/etc/alternatives/");
                is_alternative && !leads(tree, path)
            }
            _ => false,
        })
        .map(|(path, _)| path.clone())
        .collect();
    for path in dangling {
        tree.remove(&path);
    }
    Ok(())
}

/// The day of the last change of every password becomes that of the lock.
fn still_shadow(tree: &mut Tree, epoch: i64, spool: &Spool) -> Result<(), ScriptsError> {
    let Some(text) = text(tree, SHADOW, spool)? else {
        return Ok(());
    };
    let day = (epoch / DAY).to_string();
    let mut still = String::with_capacity(text.len());
    for line in text.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        if let Some(changed) = fields.get_mut(2).filter(|changed| !changed.is_empty()) {
            *changed = &day;
        }
        still.push_str(&fields.join(":"));
        still.push('\n');
    }
    let database = |problem: std::io::Error| ScriptsError::Database {
        path: SHADOW.to_owned(),
        problem: problem.to_string(),
    };
    let size = still.len() as u64;
    let kept = spool.add(&mut still.as_bytes(), size).map_err(database)?;
    let at = TreePath::new(SHADOW).ok();
    if let Some(node) = at.and_then(|at| tree.get_mut(&at)) {
        node.kind = Kind::file(kept);
    }
    Ok(())
}

/// The text of a file of the tree; none when there is none.
fn text(tree: &Tree, path: &str, spool: &Spool) -> Result<Option<String>, ScriptsError> {
    let database = |problem: String| ScriptsError::Database {
        path: path.to_owned(),
        problem,
    };
    let at = TreePath::new(path).map_err(|error| database(error.to_string()))?;
    let Some(Node {
        kind: Kind::File { content, .. },
        ..
    }) = tree.get(&at)
    else {
        return Ok(None);
    };
    let bytes = spool.read(content);
    let bytes = bytes.map_err(|error| database(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| database(error.to_string()))?;
    Ok(Some(text))
}
