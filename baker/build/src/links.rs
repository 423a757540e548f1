//! Keeping the numbers of hard-linked files right while nodes come and go.

use std::collections::BTreeMap;

use baker_model::Tree;
use baker_model::tree::{Kind, LinkGroup};

/// Makes the link groups of `tree` true again: a file whose partners are gone becomes a plain
/// file, and the rest is numbered from 0 in the order of the tree.
pub fn settle(tree: &mut Tree) {
    let mut names: BTreeMap<LinkGroup, u32> = BTreeMap::new();
    for (_, node) in tree.walk() {
        if let Kind::File {
            link: Some(group), ..
        } = node.kind
        {
            *names.entry(group).or_default() += 1;
        }
    }
    let mut numbers: BTreeMap<LinkGroup, LinkGroup> = BTreeMap::new();
    for (_, node) in tree.walk_mut() {
        if let Kind::File { link, .. } = &mut node.kind
            && let Some(group) = *link
        {
            let next = LinkGroup(u32::try_from(numbers.len()).unwrap_or(u32::MAX));
            *link = (names[&group] > 1).then(|| *numbers.entry(group).or_insert(next));
        }
    }
}

/// A number that no file of `tree` has.
#[must_use]
pub fn free_group(tree: &Tree) -> LinkGroup {
    let used = tree.walk().filter_map(|(_, node)| match node.kind {
        Kind::File { link, .. } => link,
        _ => None,
    });
    LinkGroup(used.max().map_or(0, |group| group.0.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use baker_model::tree::{Content, Metadata, Node, Origin, TreePath};

    #[test]
    fn lone_names_become_plain_files() {
        let mut tree = Tree::new(0);
        for (name, group) in [("a", 7), ("b", 3), ("c", 7), ("d", 9), ("e", 9)] {
            let node = Node {
                metadata: Metadata::of_root(0o644, 0),
                kind: Kind::File {
                    content: Content::inline("x"),
                    link: Some(LinkGroup(group)),
                },
                origin: Origin::Recipe,
            };
            tree.insert(TreePath::new(name).unwrap(), node).unwrap();
        }
        settle(&mut tree);
        let links: Vec<_> = tree
            .walk()
            .filter_map(|(_, node)| match node.kind {
                Kind::File { link, .. } => Some(link.map(|group| group.0)),
                _ => None,
            })
            .collect();
        assert_eq!(links, [Some(0), None, Some(0), Some(1), Some(1)]);
        assert_eq!(free_group(&tree), LinkGroup(2));
    }
}
