//! The configure stage in `sandbox` mode: the packages' own scripts run as dpkg runs them.
//!
//! Takes the lock and the store of inputs; gives the job that a sandbox has to do ([`plan`],
//! [`write_input`]), and makes a root of the tree that came back ([`import`], [`settle`]).
//! Never runs anything itself, and never decides where the job runs.
//!
//! dpkg is the one of the archive: order, triggers, diversions, alternatives and questions are its
//! own. The recipe's own commands ([`commands`]) run in the same sandbox: on that tree, which they
//! may change as far as they said ([`Survey`]), or in one of their own ([`graft`]).
//!
//! The packages that dpkg needs, and whatever else is Essential, are there while scripts run
//! and taken away afterwards unless the recipe has them.

mod changes;
mod error;
mod graft;
mod import;
mod input;
mod leftovers;
mod packages;
mod plan;
mod settle;
mod transcript;

pub use changes::Survey;
pub use error::ScriptsError;
pub use graft::{STAGE_EFFECT, graft};
pub use import::{ImportRequest, import, kept};
pub use input::{Files, Placed, PlacedBytes, Start, write_input};
pub use plan::{CommandRequest, Ground, Plan, PlanRequest, commands, plan};
pub use settle::{EFFECT, RUN_EFFECT, settle};
pub use transcript::{Digests, Failed, Ran, Transcript};
