//! What can go wrong with the recipe's own part of the root.

use std::io;
use std::path::PathBuf;

use baker_model::tree::{TreeError, TreePath, TreePathError};

use super::PatternError;
use crate::assemble::{Difference, Refusal};

/// The recipe's entries cannot be added to the tree.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// A path that cannot be in a tree.
    #[error("cannot add {path}")]
    Path {
        /// As the recipe has it.
        path: String,
        /// What is wrong with it.
        #[source]
        source: TreePathError,
    },
    /// The directories above an entry lead nowhere.
    #[error("cannot add {path}: {refusal}")]
    Refused {
        /// The entry.
        path: TreePath,
        /// Why.
        refusal: Refusal,
    },
    /// Something is in the way.
    #[error("cannot add {path}")]
    Place {
        /// The entry.
        path: TreePath,
        /// What is in the way.
        #[source]
        source: TreeError,
    },
    /// The owner is not known to the image.
    #[error("cannot add {path}: the image has no {what} `{name}`")]
    Unknown {
        /// The entry.
        path: TreePath,
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A local file is not in the lock.
    #[error("the lock does not name the local file {file}")]
    NotLocked {
        /// Path in the recipe's folder.
        file: String,
    },
    /// A local file cannot be read.
    #[error("cannot read the local file {}", file.display())]
    Local {
        /// The whole path.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A local file is not what the lock names.
    #[error("the local file {file} is not what the lock names: {difference}")]
    Altered {
        /// Path in the recipe's folder.
        file: String,
        /// What was expected and what is there.
        difference: Box<Difference>,
    },
    /// A file of the tree cannot be read, or a new one not be kept.
    #[error("cannot read or keep the content of {path}")]
    Content {
        /// The file.
        path: TreePath,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the tree that must be text is none.
    #[error("{path} of the tree is not a text file")]
    NotText {
        /// The file.
        path: TreePath,
    },
    /// Not a name that a host can have.
    #[error("`{name}` is no host name: use letters, digits, `-` and `.`, at most 64 characters")]
    HostName {
        /// The name.
        name: String,
    },
    /// Not a field that os-release can have.
    #[error("os-release cannot have `{key}` = `{value}`: {problem}")]
    OsRelease {
        /// The field.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A pattern under `exclude` cannot be read.
    #[error("cannot read the pattern `{pattern}` under exclude")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
}

impl OverlayError {
    /// What mends it, when that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotLocked { .. } | Self::Altered { .. } => {
                Some("run `baker lock` to take the file as it is now into the lock")
            }
            Self::Local { .. } => {
                Some("bring the file back, or correct `source` in the recipe and run `baker lock`")
            }
            Self::Unknown { .. } => {
                Some("add a [[user]] or [[group]] to the recipe, or write the number")
            }
            _ => None,
        }
    }
}
