//! What can be wrong with the modules of a kernel.

use std::io;

use baker_model::tree::{TreeError, TreePath, TreePathError};

/// The modules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// The kernel package has no modules folder.
    #[error("the kernel package has no folder /usr/lib/modules/<release> with a modules.builtin")]
    NoModules,
    /// The kernel package has modules for several kernels.
    #[error("the kernel package has modules for several kernels: {}", releases.join(", "))]
    SeveralReleases {
        /// The releases found, sorted.
        releases: Vec<String>,
    },
    /// A name that no module, built-in module or alias has.
    #[error("kernel {release} has no module `{name}`{}", hint(nearest))]
    Unknown {
        /// The name asked for.
        name: String,
        /// Release of the kernel.
        release: String,
        /// Names that are close to it.
        nearest: Vec<String>,
    },
    /// A module needs one that the package does not have.
    #[error("module {path} needs `{name}`, which kernel {release} does not have")]
    MissingDependency {
        /// The module.
        path: TreePath,
        /// What it needs.
        name: String,
        /// Release of the kernel.
        release: String,
    },
    /// Stored bytes could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: TreePath,
        /// What the store said.
        #[source]
        source: io::Error,
    },
    /// A module could not be decompressed.
    #[error("cannot decompress {path}")]
    Decompress {
        /// The module.
        path: TreePath,
        /// What is wrong with its stream.
        #[source]
        source: io::Error,
    },
    /// A module is no module.
    #[error("cannot read {path} as a kernel module")]
    Elf {
        /// The module.
        path: TreePath,
        /// What is wrong with it.
        #[source]
        source: ElfProblem,
    },
    /// A path of the package or of an index cannot be in a tree.
    #[error("cannot name a file of the modules")]
    Path(#[from] TreePathError),
    /// The root has something else where the modules go.
    #[error("cannot put the modules into the root")]
    Insert(#[from] TreeError),
    /// An index grew over what its format can hold.
    #[error("index {name} is larger than 256 MiB")]
    IndexSize {
        /// File name of the index.
        name: &'static str,
    },
}

fn hint(nearest: &[String]) -> String {
    if nearest.is_empty() {
        String::new()
    } else {
        format!("; the nearest names are {}", nearest.join(", "))
    }
}

/// Why bytes are no kernel module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfProblem {
    /// Not a 64-bit little-endian ELF file.
    #[error("it is no 64-bit little-endian ELF file")]
    Kind,
    /// Something lies outside the file.
    #[error("its {what} at offset {offset} lies outside its {size} bytes")]
    Outside {
        /// What was looked for.
        what: &'static str,
        /// Where it should be.
        offset: u64,
        /// Size of the file.
        size: u64,
    },
    /// No `.modinfo` section.
    #[error("it has no .modinfo section")]
    NoInfo,
}
