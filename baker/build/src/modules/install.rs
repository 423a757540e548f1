//! Modules of the root file system.

use baker_model::Tree;
use baker_model::recipe::{ModuleWord, RootModules};
use baker_model::tree::{Content, Contents, Kind, Metadata, Node, Origin, TreePath};

use super::ModulesError;
use super::kernel::Modules;

/// Where the root has its modules; `/lib` is a link to `/usr/lib` there.
const FOLDER: &str = "usr/lib/modules";

/// Lists of the kernel package that go along as they are.
const LISTS: [&str; 3] = [
    "modules.builtin",
    "modules.builtin.modinfo",
    "modules.order",
];

/// Name of this effect in the evidence.
const EFFECT: &str = "depmod";

/// What was put into the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Release of the kernel.
    pub release: String,
    /// Number of modules.
    pub modules: usize,
}

/// Puts the selected modules of the `kernel` package's tree into `root`, compressed as they are,
/// with the lists and indexes that kmod wants. With no module selected the lists and indexes
/// still go in: asking for what is built in then succeeds, as it must.
///
/// The contents of `root` must be found where those of `kernel` are.
///
/// # Errors
/// See [`ModulesError`].
pub fn install(
    root: &mut Tree,
    kernel: &Tree,
    contents: &dyn Contents,
    selection: &RootModules,
    mtime: i64,
) -> Result<Installed, ModulesError> {
    let modules = Modules::read(kernel, contents)?;
    let which = modules.select(contents, selection)?;
    let target = TreePath::new(FOLDER)?.join(&modules.release)?;
    let listed = LISTS
        .iter()
        .map(|name| Ok((modules.folder.join(name)?, *name)));
    let listed = listed.collect::<Result<Vec<_>, ModulesError>>()?;
    let chosen = which.iter().map(|&index| &modules.modules[index]);
    let chosen = chosen.map(|module| (module.path.clone(), &module.relative[..]));
    for (source, relative) in listed.into_iter().chain(chosen) {
        if let Some(node) = kernel.get(&source) {
            put(root, target.join(relative)?, node.clone(), mtime)?;
        }
    }
    for (name, bytes) in modules.indexes(contents, &which)? {
        let node = Node {
            metadata: Metadata::of_root(0o644, mtime),
            kind: Kind::file(Content::inline(bytes)),
            origin: Origin::Effect(EFFECT),
        };
        put(root, target.join(name)?, node, mtime)?;
    }
    Ok(Installed {
        release: modules.release,
        modules: which.len(),
    })
}

fn put(root: &mut Tree, path: TreePath, node: Node, mtime: i64) -> Result<(), ModulesError> {
    root.ensure_parents(&path, mtime)?;
    root.insert(path, node)?;
    Ok(())
}

impl Modules {
    /// Indexes of the selected modules, ascending.
    fn select(
        &self,
        contents: &dyn Contents,
        selection: &RootModules,
    ) -> Result<Vec<usize>, ModulesError> {
        let mut which: Vec<usize> = match selection {
            RootModules::Word(ModuleWord::All) => (0..self.modules.len()).collect(),
            RootModules::Word(ModuleWord::None) => Vec::new(),
            RootModules::Named(names) => {
                let closure = self.closure(contents, names)?;
                closure
                    .iter()
                    .filter_map(|module| self.find(&module.name))
                    .collect()
            }
        };
        which.sort_unstable();
        Ok(which)
    }
}
