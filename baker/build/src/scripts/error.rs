//! Why there is no root in sandbox mode.

use std::io;

use baker_formats::deb::PlainError;
use baker_formats::tar::TarError;
use baker_model::tree::{TreeError, TreePath, TreePathError};

use crate::assemble::AssembleError;

/// A job cannot be made, or what came of it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScriptsError {
    /// A package cannot be read.
    #[error(transparent)]
    Package(#[from] AssembleError),
    /// A package cannot be decompressed for the sandbox.
    #[error("package `{package}` ({file}) cannot be unpacked")]
    Decompress {
        /// Its name.
        package: String,
        /// Its path in the archive.
        file: String,
        /// What is wrong.
        #[source]
        source: Box<PlainError>,
    },
    /// The lock has no dpkg.
    #[error("the lock has no package `dpkg`, which runs the scripts")]
    NoDpkg,
    /// An input of a command cannot be read.
    #[error("cannot read the input {path} of a command")]
    Placed {
        /// Where the command finds it.
        path: String,
        /// What is wrong.
        #[source]
        source: baker_model::ObjectError,
    },
    /// A pattern of outputs is none.
    #[error("cannot read the pattern `{pattern}` of outputs")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: crate::overlay::PatternError,
    },
    /// A command changed what it may not.
    #[error("it changed what is not among its outputs: {}", listed(.paths))]
    Undeclared {
        /// What it changed.
        paths: Vec<TreePath>,
    },
    /// An output cannot be put into the image.
    #[error("cannot put the output {from} of a stage at {path}: {problem}")]
    Output {
        /// Where it is in the stage.
        from: String,
        /// Where it belongs.
        path: String,
        /// What is in the way.
        problem: String,
    },
    /// The input cannot be written.
    #[error("cannot write the input of the sandbox")]
    Write(#[source] io::Error),
    /// The archive of the tree is damaged.
    #[error("cannot read the tree that the sandbox gave")]
    Archive(#[source] TarError),
    /// A file of the tree cannot be kept.
    #[error("cannot keep {path} of the tree that the sandbox gave")]
    Keep {
        /// The file.
        path: TreePath,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A path of the tree is none.
    #[error("the sandbox gave a tree with the path `{path}`")]
    Path {
        /// As written.
        path: String,
        /// What is wrong.
        #[source]
        source: TreePathError,
    },
    /// A node of the tree does not fit.
    #[error("the sandbox gave a tree that does not hold together")]
    Tree(#[from] TreeError),
    /// A hard link to nothing.
    #[error("the sandbox gave a tree in which {path} links to something that is not there")]
    Link {
        /// The link.
        path: TreePath,
    },
    /// A file of dpkg's or of the accounts is none.
    #[error("{path} of the tree that the sandbox gave cannot be understood: {problem}")]
    Database {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// How many paths an error names.
const NAMED: usize = 5;

fn listed(paths: &[TreePath]) -> String {
    let named: Vec<String> = paths.iter().take(NAMED).map(TreePath::to_string).collect();
    match paths.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
