//! Outputs of a stage, put into the image.

use baker_model::recipe::Output;
use baker_model::tree::{Kind, Node, Origin, TreePath};
use baker_model::{Tree, tree};

use super::ScriptsError;
use crate::assemble::landing;
use crate::links;

/// Who made what came out of a stage.
pub const STAGE_EFFECT: &str = "stage";

/// Puts what `output` names of the tree `made` at its place; it shows the time `epoch`.
///
/// # Errors
/// It is not there, or its place is taken.
pub fn graft(
    root: &mut Tree,
    made: &Tree,
    output: &Output,
    epoch: i64,
) -> Result<(), ScriptsError> {
    let refuse = |problem: String| ScriptsError::Output {
        from: output.from.clone(),
        path: output.place().to_owned(),
        problem,
    };
    let path = |text: &str| TreePath::new(text).map_err(|error| refuse(error.to_string()));
    let (from, to) = (path(&output.from)?, path(output.place())?);
    if made.get(&from).is_none() {
        return Err(refuse("the stage did not make it".to_owned()));
    }
    let free = links::free_group(root).0;
    for (at, node) in made.walk_below(&from) {
        let below = at.components().skip(from.components().count());
        let place = below
            .into_iter()
            .try_fold(to.clone(), |at, part| at.join(part));
        let place = place.map_err(|error| refuse(error.to_string()))?;
        let mut node = moved(node, free, epoch);
        if let (Some(mode), Kind::File { .. }) = (output.mode, &node.kind) {
            node.metadata.mode = mode.0;
        }
        put(root, &place, node).map_err(refuse)?;
    }
    links::settle(root);
    Ok(())
}

fn moved(node: &Node, free: u32, epoch: i64) -> Node {
    let mut node = node.clone();
    node.metadata.mtime = epoch;
    node.origin = Origin::Effect(STAGE_EFFECT);
    if let Kind::File {
        link: Some(group), ..
    } = &mut node.kind
    {
        *group = tree::LinkGroup(group.0.saturating_add(free));
    }
    node
}

fn put(root: &mut Tree, place: &TreePath, node: Node) -> Result<(), String> {
    let is_directory = node.kind == Kind::Directory;
    if is_directory
        && let Ok(there) = landing::directory(root, place)
        && root.get(&there).is_some()
    {
        return Ok(());
    }
    let landed = landing::entry(root, place).map_err(|refusal| refusal.to_string())?;
    let parents = root.ensure_parents(&landed, node.metadata.mtime);
    parents.map_err(|error| error.to_string())?;
    let put = root.insert(landed, node);
    put.map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use baker_model::tree::{Content, LastLink, Metadata};

    use super::*;

    fn add(tree: &mut Tree, path: &str, kind: Kind) {
        let path = TreePath::new(path).unwrap();
        tree.ensure_parents(&path, 0).unwrap();
        let node = Node {
            metadata: Metadata::of_root(0o755, 3),
            kind,
            origin: Origin::Implied,
        };
        tree.insert(path, node).unwrap();
    }

    fn output(from: &str, path: &str) -> Output {
        let text = format!("from = \"{from}\"\npath = \"{path}\"\nmode = \"0711\"\n");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn files_and_folders_land_where_links_lead() {
        let (mut root, mut made) = (Tree::new(0), Tree::new(0));
        add(&mut root, "usr/bin/sh", Kind::file(Content::inline("x")));
        let target = b"usr/bin".to_vec();
        add(&mut root, "bin", Kind::Symlink { target });
        add(&mut made, "out/hello", Kind::file(Content::inline("h")));
        add(&mut made, "out/lib/a", Kind::file(Content::inline("a")));
        graft(&mut root, &made, &output("/out/hello", "/bin/hello"), 9).unwrap();
        graft(&mut root, &made, &output("/out/lib", "/usr/lib/hello"), 9).unwrap();
        let at = |path: &str| {
            let path = root.resolve(&TreePath::new(path).unwrap(), LastLink::Follow);
            root.get(&path.unwrap()).unwrap()
        };
        let hello = at("usr/bin/hello");
        assert_eq!((hello.metadata.mode, hello.metadata.mtime), (0o711, 9));
        assert_eq!(hello.origin, Origin::Effect(STAGE_EFFECT));
        assert!(matches!(at("usr/lib/hello/a").kind, Kind::File { .. }));
        assert!(matches!(at("bin/sh").kind, Kind::File { .. }));
        let error = graft(&mut root, &made, &output("/out/gone", "/x"), 9).unwrap_err();
        assert!(error.to_string().contains("did not make it"), "{error}");
        let error = graft(&mut root, &made, &output("/out/hello", "/bin/sh/x"), 9);
        assert!(error.is_err());
    }
}
