//! The recipe's own part of the root: identity, files, and what is left out.
//!
//! Three doors, because other work lies between them. The order is:
//!
//! 1. `assemble`, `dpkg_database::record`, then the accounts of `configure`;
//! 2. [`identity`]: host name and os-release;
//! 3. [`files`]: `[[directory]]`, `[[file]]`, `[[link]]`, whose owners are looked up in the tree's
//!    own `/etc/passwd` and `/etc/group`; a recipe may replace what `identity` wrote;
//! 4. the rest of `configure` (units, presets, loader cache), which sees the recipe's files;
//! 5. [`exclude`]: last, so that nothing comes back.
//!
//! Takes the tree and the recipe, changes the tree. Local files must be what the lock names: large ones are lent
//! by the store, others are read from the recipe's folder; nothing else is read, nothing is written but
//! the spool.

mod accounts;
mod entries;
mod error;
mod exclude;
mod glob;
mod identity;
#[cfg(test)]
mod tests;

pub use entries::{Request, files};
pub use error::OverlayError;
pub use exclude::exclude;
pub use glob::{Pattern, PatternError};
pub use identity::identity;
