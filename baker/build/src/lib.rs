//! The stages from inputs to disk.
//!
//! Synchronous, no network crate below it, no program of the host run. Each stage is one module
//! with one public door; no stage calls a stage, `cli` composes them.

pub mod anatomy;
pub mod archive;
pub mod assemble;
pub mod assembled;
pub mod configure;
pub mod convert;
pub mod describe;
pub mod diff;
pub mod disk;
pub mod dpkg_database;
pub mod hygiene;
pub mod image;
pub mod initrd;
pub mod inventory;
pub mod keep;
pub mod kernel;
pub mod links;
pub mod look;
pub mod modules;
pub mod netboot;
pub mod oci;
pub mod overlay;
pub mod pins;
pub mod rebuild;
pub mod sbom;
pub mod scripts;
pub mod slots;
pub mod spool;
pub mod uki;
pub mod verity;

pub use assembled::{Assembled, Package, PackageText, Script};
pub use keep::Keep;
pub use spool::Spool;

#[cfg(test)]
mod judge;
