//! The only way in from the network: Debian archives, and the store of inputs.
//!
//! Two stages have their doors here. [`lock`] turns a recipe into a lock: it verifies the
//! archives' signatures, reads their indexes and resolves the packages. [`fetch`] brings what a
//! lock names into the [`Store`]. All else of baker reads that store and never the network.
//!
//! Never here: a clock or the environment read behind the caller's back (the time is an argument;
//! only the HTTP client looks at the usual proxy variables, and the store notes when its files
//! were used, which decides nothing but what it may forget), bytes used before their digest is
//! checked, text used that lies outside a good signature.

mod archive;
pub mod debian;
mod family;
mod fetch;
mod index_cache;
mod lock;
mod plan;
pub mod resolve;
pub mod sources;
pub mod store;
mod transfer;
mod update;

pub use archive::ArchiveError;
pub use debian::release::{Expiry, ReleaseError};
pub use fetch::{Check, FetchError, FetchOptions, Fetched, check, fetch};
pub use lock::{LockError, LockRequest, Parent, Updated, lock, update, why};
pub use resolve::{ResolveError, Why};
pub use sources::{Patience, Sources, SourcesError};
pub use store::{Act, Collected, Policy, Presence, Roots, RootsError, Store, StoreError};
pub use transfer::{Alteration, DownloadError};
pub use update::{Cause, Change, Moves};
