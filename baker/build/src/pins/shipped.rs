//! What the packages of the store hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use baker_model::tree::{Kind, Origin};
use baker_model::{Digest, Tree};

/// Contents by package. Where in its package a file lay is not asked: what counts is that the
/// package, and so its packager, brought these bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shipped {
    files: BTreeMap<Arc<str>, BTreeSet<Digest>>,
    links: BTreeMap<Arc<str>, BTreeSet<Vec<u8>>>,
}

impl Shipped {
    /// Adds all files of a tree as its packages left it.
    pub fn add_tree(&mut self, tree: &Tree) {
        for (_, node) in tree.walk() {
            let Origin::Package(package) = &node.origin else {
                continue;
            };
            match &node.kind {
                Kind::File { content, .. } => self.add(package, content.digest()),
                Kind::Symlink { target } => {
                    let links = self.links.entry(package.clone()).or_default();
                    links.insert(target.clone());
                }
                _ => {}
            }
        }
    }

    /// Adds one file.
    pub fn add(&mut self, package: &Arc<str>, content: Digest) {
        self.files
            .entry(package.clone())
            .or_default()
            .insert(content);
    }

    /// True when the package holds a file of this content.
    #[must_use]
    pub fn holds(&self, package: &str, content: &Digest) -> bool {
        self.files
            .get(package)
            .is_some_and(|files| files.contains(content))
    }

    /// True when the package holds a link to this target.
    #[must_use]
    pub fn links(&self, package: &str, target: &[u8]) -> bool {
        self.links
            .get(package)
            .is_some_and(|links| links.contains(target))
    }
}
