//! Small adapters of byte streams.

mod paged;
mod sparse;

pub(crate) use paged::Paged;
pub use sparse::{SPARSE_BLOCK, copy_sparse};

#[cfg(test)]
mod failing;
