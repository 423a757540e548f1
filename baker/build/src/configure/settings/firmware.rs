//! `[kernel] firmware`: of all the blobs in packages, those that the machines need.

use baker_model::Recipe;
use baker_model::tree::{Kind, TreePath};

use crate::configure::error::ConfigureError;
use crate::configure::image::{Image, parse};
use crate::overlay::Pattern;

const FOLDER: &str = "/usr/lib/firmware";

/// Removes what no pattern names; a pattern that names nothing is an error.
pub(super) fn choose(image: &mut Image<'_>, recipe: &Recipe) -> Result<(), ConfigureError> {
    let Some(patterns) = &recipe.kernel.firmware else {
        return Ok(());
    };
    let refuse = |problem| ConfigureError::Setting {
        table: "[kernel] firmware",
        problem,
    };
    let folder = parse(FOLDER)?;
    let paths: Vec<TreePath> = image
        .tree
        .walk_below(&folder)
        .filter(|(_, node)| node.kind != Kind::Directory)
        .map(|(path, _)| path.clone())
        .collect();
    let mut kept = std::collections::BTreeSet::new();
    for text in patterns {
        let pattern = Pattern::parse(&format!("{FOLDER}/{text}"));
        let pattern = pattern.map_err(|error| refuse(format!("`{text}`: {error}")))?;
        let before = kept.len();
        // A driver asks for the plain name; the kernel looks for compressed ones by itself.
        let packed = [".xz", ".zst"].map(|end| Pattern::parse(&format!("{FOLDER}/{text}{end}")));
        for path in &paths {
            let is_packed = packed.iter().flatten().any(|packed| packed.matches(path));
            if pattern.matches(path) || is_packed {
                kept.insert(path.clone());
            }
        }
        if kept.len() == before && !paths.iter().any(|path| pattern.matches(path)) {
            let mend = "is its package in [debian] packages, its component in `components`?";
            return Err(refuse(format!(
                "nothing in {FOLDER} is called `{text}`; {mend}"
            )));
        }
    }
    let targets: Vec<TreePath> = kept
        .iter()
        .filter_map(|path| target(image, path).transpose())
        .collect::<Result<_, _>>()?;
    kept.extend(targets);
    for path in paths.iter().filter(|path| !kept.contains(path)) {
        image.tree.remove(path);
    }
    prune(image, &folder);
    Ok(())
}

/// What a link leads to, which must stay with it.
fn target(image: &Image<'_>, path: &TreePath) -> Result<Option<TreePath>, ConfigureError> {
    image.locate(&path.to_string(), baker_model::tree::LastLink::Follow)
}

/// Removes folders that have become empty.
fn prune(image: &mut Image<'_>, folder: &TreePath) {
    loop {
        let folders = image.tree.walk_below(folder);
        let empty: Vec<TreePath> = folders
            .filter(|(path, node)| {
                node.kind == Kind::Directory && image.tree.children(path).next().is_none()
            })
            .map(|(path, _)| path.clone())
            .collect();
        if empty.is_empty() {
            return;
        }
        for path in empty {
            image.tree.remove(&path);
        }
    }
}
