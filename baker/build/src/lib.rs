//! The stages from inputs to disk.
//!
//! Synchronous, no network crate below it, no program of the host run. Each stage is one module
//! with one public door; no stage calls a stage, `cli` composes them.

pub mod assemble;
pub mod assembled;
pub mod describe;
pub mod dpkg_database;
pub mod kernel;
pub mod links;
pub mod overlay;
pub mod spool;

pub use assembled::{Assembled, Package, Script};
pub use spool::Spool;
