//! What scripts leave behind that is no part of an image, by a written list with reasons.

use std::collections::BTreeSet;

use baker_model::Tree;
use baker_model::tree::{Kind, TreePath};
use serde::Deserialize;

use super::ScriptsError;
use crate::overlay::Pattern;

/// The list.
const LIST: &str = include_str!("../../scripts/leftovers.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct List {
    remove: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    path: String,
    #[serde(default)]
    keep_directories: bool,
    /// For people.
    #[serde(rename = "reason")]
    _reason: String,
}

/// Whether something is one of them.
pub(super) struct Leftovers(Vec<(Pattern, bool)>);

impl Leftovers {
    /// Reads the list.
    pub(super) fn read() -> Result<Self, ScriptsError> {
        let problem = |problem: String| ScriptsError::Database {
            path: "baker's list of leftovers".to_owned(),
            problem,
        };
        let list: List = toml::from_str(LIST).map_err(|error| problem(error.to_string()))?;
        let entries = list.remove.iter().map(|entry| {
            let pattern = Pattern::parse(&entry.path);
            let pattern = pattern.map_err(|error| problem(error.to_string()))?;
            Ok((pattern, entry.keep_directories))
        });
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// Whether it is one.
    pub(super) fn has(&self, path: &TreePath, is_directory: bool) -> bool {
        let mut entries = self.0.iter();
        entries.any(|(pattern, keeps)| !(*keeps && is_directory) && pattern.matches(path))
    }

    /// Removes them, and directories that only they were in; all but what is `wanted`.
    pub(super) fn remove(&self, tree: &mut Tree, wanted: &BTreeSet<TreePath>) {
        tree.retain(|path, node| {
            let is_directory = node.kind == Kind::Directory;
            path.is_root() || wanted.contains(path) || !self.has(path, is_directory)
        });
    }
}

#[cfg(test)]
mod tests {
    use baker_model::tree::{Content, Metadata, Node, Origin};

    use super::*;

    #[test]
    fn what_the_list_names_goes_and_the_rest_stays() {
        let mut tree = Tree::new(0);
        let paths = [
            ("etc/passwd", true),
            ("etc/passwd-", false),
            ("etc/ssh/ssh_host_rsa_key", false),
            ("etc/ssh/sshd_config", true),
            ("var/log/dpkg.log", false),
            ("var/lib/dpkg/status", false),
            ("usr/lib/python3/dist-packages/x/__pycache__/a.pyc", false),
            ("usr/lib/python3/dist-packages/x/a.py", true),
        ];
        for (path, _) in paths {
            let path = TreePath::new(path).unwrap();
            tree.ensure_parents(&path, 0).unwrap();
            let node = Node {
                metadata: Metadata::of_root(0o644, 0),
                kind: Kind::file(Content::inline("x")),
                origin: Origin::Implied,
            };
            tree.insert(path, node).unwrap();
        }
        let all = Leftovers::read().unwrap();
        all.remove(&mut tree, &BTreeSet::new());
        for (path, stays) in paths {
            let found = tree.get(&TreePath::new(path).unwrap()).is_some();
            assert_eq!(found, stays, "{path}");
        }
        // Programs expect the directory of logs.
        assert!(tree.get(&TreePath::new("var/log").unwrap()).is_some());
    }
}
