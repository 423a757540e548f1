//! The configure stage in `sandbox` mode: the packages' own scripts run as dpkg runs them.
//!
//! Takes the lock and the store of inputs; gives the job that a sandbox has to do ([`plan`],
//! [`write_input`]), and makes a root of the tree that came back ([`import`], [`settle`]).
//! Never runs anything itself, and never decides where the job runs.
//!
//! dpkg is the one of the archive: order, triggers, diversions, alternatives and questions are its
//! own. The packages that it needs, and whatever else is Essential, are there while scripts run
//! and taken away afterwards unless the recipe has them.

mod error;
mod import;
mod input;
mod leftovers;
mod packages;
mod plan;
mod settle;
mod transcript;

pub use error::ScriptsError;
pub use import::import;
pub use input::{Files, write_input, write_kept};
pub use plan::{Plan, PlanRequest, plan};
pub use settle::{EFFECT, settle};
pub use transcript::{Digests, Failed, Ran, Transcript};
