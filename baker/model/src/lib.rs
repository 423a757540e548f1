//! The vocabulary of baker: the types that the rooms hand to each other.
//!
//! Takes nothing, gives nothing, does nothing: no file, no network, no clock, no chance. A type
//! lives here when two rooms speak of it. Everything that is written to disk (recipe, lock,
//! manifest) parses strictly: an unknown key is an error, never ignored.

pub mod digest;
pub mod event;
pub mod layout;
pub mod lock;
pub mod manifest;
pub mod object;
mod path;
pub mod plan;
pub mod recipe;
pub mod tree;
pub mod verdict;
pub mod version;

pub use digest::{Digest, Digester};
pub use event::{Event, Interrupt, Listener, Silent};
pub use lock::Lock;
pub use manifest::Manifest;
pub use object::{ObjectError, Objects};
pub use recipe::Recipe;
pub use tree::Tree;
pub use verdict::{Failure, Verdict};
