//! The modules of one kernel, by name.

use std::collections::{BTreeMap, BTreeSet};

use baker_model::tree::{Content, Contents, Kind, Node, TreePath};
use baker_model::{Digest, Tree};

use super::ModulesError;
use super::decompress::Packing;
use super::elf::pairs;
use super::info::canonical;

/// Where kernel packages put modules: merged `/usr` first, then as it was before.
const FOLDERS: [&str; 2] = ["usr/lib/modules", "lib/modules"];

/// The modules of a kernel package, not yet read.
#[derive(Debug)]
pub struct Modules {
    pub(super) release: String,
    /// `usr/lib/modules/<release>`.
    pub(super) folder: TreePath,
    /// In the order of `modules.order`, those it lacks after it by path. kmod gives precedence in
    /// this order.
    pub(super) modules: Vec<Module>,
    by_name: BTreeMap<String, usize>,
    /// Names of what is built in, in the order of `modules.builtin`.
    pub(super) builtin: Vec<String>,
    builtin_names: BTreeSet<String>,
    /// Pairs of alias and built-in module, in the order of `modules.builtin.modinfo`.
    pub(super) builtin_aliases: Vec<(String, String)>,
}

/// One module file.
#[derive(Debug, Clone)]
pub(super) struct Module {
    /// Canonical name.
    pub(super) name: String,
    /// Its path in the tree.
    pub(super) path: TreePath,
    /// Its path below the modules folder, as the indexes name it.
    pub(super) relative: String,
    packing: Packing,
    content: Content,
}

impl Module {
    /// The module's own bytes.
    pub(super) fn bytes(&self, contents: &dyn Contents) -> Result<Vec<u8>, ModulesError> {
        let stored = bytes_of(&self.path, &self.content, contents)?;
        self.packing
            .unpack(stored)
            .map_err(|source| ModulesError::Decompress {
                path: self.path.clone(),
                source,
            })
    }
}

impl Modules {
    /// Finds the modules in the tree of a kernel package. Reads only the lists beside them.
    ///
    /// # Errors
    /// There are none, or those of several kernels, or a list cannot be read.
    pub fn read(tree: &Tree, contents: &dyn Contents) -> Result<Self, ModulesError> {
        let (folder, release) = find_folder(tree)?;
        let list = |name| read_list(tree, contents, &folder, name);
        let builtin: Vec<String> = list("modules.builtin")?.lines().filter_map(stem).collect();
        let builtin_aliases = pairs(list("modules.builtin.modinfo")?.as_bytes())
            .into_iter()
            .filter_map(|(key, value)| {
                let module = key.strip_suffix(".alias")?;
                Some((value, module.to_owned()))
            })
            .collect();
        let modules = find_modules(tree, &folder, &list("modules.order")?);
        let by_name = modules
            .iter()
            .enumerate()
            .map(|(at, m)| (m.name.clone(), at))
            .collect();
        let builtin_names = builtin.iter().cloned().collect();
        Ok(Self {
            release,
            folder,
            modules,
            by_name,
            builtin,
            builtin_names,
            builtin_aliases,
        })
    }

    /// Release of the kernel, as `uname -r` says it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Number of modules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// True for a kernel that has everything built in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// Index of the module with this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&canonical(name)).copied()
    }

    /// True when this name or alias is built into the kernel.
    pub(super) fn is_builtin(&self, name: &str) -> bool {
        let name = canonical(name);
        self.builtin_names.contains(&name)
            || self
                .builtin_aliases
                .iter()
                .any(|(alias, _)| canonical(alias) == name)
    }

    /// The names closest to `name`, best first; none that are far from it.
    pub(super) fn nearest(&self, name: &str) -> Vec<String> {
        let name = canonical(name);
        let limit = 1 + name.len() / 4;
        let mut close: Vec<_> = self
            .by_name
            .keys()
            .map(|known| (distance(&name, known), known))
            .filter(|(distance, _)| *distance <= limit)
            .collect();
        close.sort();
        close
            .into_iter()
            .take(3)
            .map(|(_, known)| known.clone())
            .collect()
    }
}

fn find_folder(tree: &Tree) -> Result<(TreePath, String), ModulesError> {
    for folder in FOLDERS {
        let folder = TreePath::new(folder)?;
        let with_lists = |path: &&TreePath| {
            path.join("modules.builtin")
                .is_ok_and(|list| tree.get(&list).is_some())
        };
        let found: Vec<_> = tree
            .children(&folder)
            .map(|(path, _)| path)
            .filter(with_lists)
            .collect();
        let name = |path: &TreePath| String::from_utf8_lossy(path.file_name()).into_owned();
        match found[..] {
            [] => {}
            [path] => return Ok((path.clone(), name(path))),
            _ => {
                let releases = found.into_iter().map(name).collect();
                return Err(ModulesError::SeveralReleases { releases });
            }
        }
    }
    Err(ModulesError::NoModules)
}

/// The text of a list; empty when the package has none.
fn read_list(
    tree: &Tree,
    contents: &dyn Contents,
    folder: &TreePath,
    name: &str,
) -> Result<String, ModulesError> {
    let path = folder.join(name)?;
    match tree.get(&path) {
        Some(Node {
            kind: Kind::File { content, .. },
            ..
        }) => {
            let bytes = bytes_of(&path, content, contents)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => Ok(String::new()),
    }
}

fn find_modules(tree: &Tree, folder: &TreePath, order: &str) -> Vec<Module> {
    let ranks: BTreeMap<&str, usize> = order
        .lines()
        .enumerate()
        .map(|(rank, line)| (line.trim(), rank))
        .collect();
    let mut modules: Vec<_> = tree
        .walk_below(folder)
        .filter_map(|(path, node)| module(folder, path, node))
        .collect();
    modules.sort_by_cached_key(|module| {
        // The list names files as the kernel built them, before compression.
        let end = module.relative.rfind(".ko").map_or(0, |at| at + 3);
        let rank = ranks
            .get(&module.relative[..end])
            .copied()
            .unwrap_or(usize::MAX);
        (rank, module.relative.clone())
    });
    modules
}

fn module(folder: &TreePath, path: &TreePath, node: &Node) -> Option<Module> {
    let Kind::File { content, .. } = &node.kind else {
        return None;
    };
    let file_name = std::str::from_utf8(path.file_name()).ok()?;
    let (stem, packing) = Packing::of(file_name)?;
    let relative = path.as_bytes().get(folder.as_bytes().len() + 1..)?;
    Some(Module {
        name: canonical(stem),
        path: path.clone(),
        relative: String::from_utf8(relative.to_vec()).ok()?,
        packing,
        content: content.clone(),
    })
}

/// Canonical name of a line like `kernel/fs/ext4/ext4.ko`.
fn stem(line: &str) -> Option<String> {
    let file_name = line.trim().rsplit('/').next()?;
    Packing::of(file_name).map(|(stem, _)| canonical(stem))
}

fn bytes_of(
    path: &TreePath,
    content: &Content,
    contents: &dyn Contents,
) -> Result<Vec<u8>, ModulesError> {
    match content {
        Content::Inline(bytes) => Ok(bytes.to_vec()),
        Content::Extern { digest, size } => {
            let fail = |source| ModulesError::Read {
                path: path.clone(),
                source,
            };
            let size = usize::try_from(*size).map_err(|e| fail(std::io::Error::other(e)))?;
            let mut bytes = vec![0; size];
            contents
                .read_exact_at(digest, 0, &mut bytes)
                .and_then(|()| contents.check(digest, &Digest::of(&bytes)))
                .map_err(fail)?;
            Ok(bytes)
        }
    }
}

/// Levenshtein distance in bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
