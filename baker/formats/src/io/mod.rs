//! Small adapters of byte streams.

mod paged;
mod part;
mod source;
mod sparse;

pub(crate) use paged::Paged;
pub use part::Part;
pub use source::{Slice, Source};
pub use sparse::{SPARSE_BLOCK, copy_sparse};
pub(crate) use sparse::{is_zero, write_sparse};

#[cfg(test)]
mod failing;
