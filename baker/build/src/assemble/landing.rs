//! Where a shipped path really lies: directory symlinks (the merged `/usr`) followed.

use baker_model::Tree;
use baker_model::tree::{Kind, TreePath};

use super::error::Refusal;

/// The kernel's limit of symlinks in one walk (`MAXSYMLINKS`).
const LINK_LIMIT: u32 = 40;

/// The directory that `path` names in `tree` when every symlink on the way is followed.
///
/// Directories that are missing are taken as about to be made. In contrast to [`Tree::resolve`],
/// which answers as the kernel would, a symlink that climbs above the root is refused: no sound
/// package has one, and outside an image it would write to the host.
pub(crate) fn directory(tree: &Tree, path: &TreePath) -> Result<TreePath, Refusal> {
    let mut todo: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
    let mut at = TreePath::root();
    let mut last_link = TreePath::root();
    let mut links = 0;
    while let Some(component) = todo.pop() {
        if component == b".." {
            at = at
                .parent()
                .ok_or_else(|| Refusal::LeavesRoot(last_link.clone()))?;
            continue;
        }
        let next = at
            .join(&component)
            .map_err(|error| Refusal::Path(error.reason))?;
        match tree.get(&next).map(|node| &node.kind) {
            None | Some(Kind::Directory) => at = next,
            Some(Kind::Symlink { target }) => {
                links += 1;
                if links > LINK_LIMIT {
                    return Err(Refusal::Loop(next));
                }
                if target.first() == Some(&b'/') {
                    at = TreePath::root();
                }
                let parts = target.split(|&byte| byte == b'/').rev();
                todo.extend(
                    parts
                        .filter(|p| !p.is_empty() && *p != b".")
                        .map(<[u8]>::to_vec),
                );
                last_link = next;
            }
            Some(_) => return Err(Refusal::NotADirectory(next)),
        }
    }
    Ok(at)
}

/// Where the entry `path` itself lies: its directory followed, its own name kept.
pub(crate) fn entry(tree: &Tree, path: &TreePath) -> Result<TreePath, Refusal> {
    match path.parent() {
        None => Ok(TreePath::root()),
        Some(parent) => directory(tree, &parent)?
            .join(path.file_name())
            .map_err(|error| Refusal::Path(error.reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use baker_model::tree::{Content, Metadata, Node, Origin};

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    #[test]
    fn symlinks_are_followed_but_stay_inside() {
        let mut tree = Tree::new(0);
        let link = |target: &str| Kind::Symlink {
            target: target.into(),
        };
        let rows = [
            ("usr", Kind::Directory),
            ("bin", link("usr/bin")),
            ("abs", link("/usr/./lib/")),
            ("out", link("../../etc")),
            ("a", link("b")),
            ("b", link("a")),
            ("file", Kind::file(Content::inline(""))),
            ("up", link("usr/../opt")),
        ];
        for (name, kind) in rows {
            let metadata = Metadata::of_root(0o755, 0);
            tree.insert(
                path(name),
                Node {
                    metadata,
                    kind,
                    origin: Origin::Recipe,
                },
            )
            .unwrap();
        }
        assert_eq!(entry(&tree, &path("bin/x")), Ok(path("usr/bin/x")));
        assert_eq!(entry(&tree, &path("abs/x/y")), Ok(path("usr/lib/x/y")));
        assert_eq!(entry(&tree, &path("up/x")), Ok(path("opt/x")));
        assert_eq!(entry(&tree, &path("bin")), Ok(path("bin")));
        assert_eq!(directory(&tree, &path("bin")), Ok(path("usr/bin")));
        assert_eq!(
            entry(&tree, &path("out/x")),
            Err(Refusal::LeavesRoot(path("out")))
        );
        assert!(matches!(entry(&tree, &path("a/x")), Err(Refusal::Loop(_))));
        assert_eq!(
            entry(&tree, &path("file/x")),
            Err(Refusal::NotADirectory(path("file")))
        );
    }
}
