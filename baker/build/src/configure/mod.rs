//! The configure stage in `builtin` mode: no script runs, known effects are done on the tree.
//!
//! Takes the assembled root with the packages' scripts, the recipe and the spool; gives the tree
//! as the scripts would have left it, ready to be sealed, and a report of what covers which
//! script. Never runs a program, never reads the machine it works on, never guesses: a script
//! that neither the ledger (`baker/build/ledger`) nor a waiver covers stops the bake.
//!
//! It has two doors, because the recipe's files belong between them: their owners must exist, and
//! their units can be enabled. [`prepare`] does the effects of all `preinst`, then of all
//! `postinst`, packages after what they depend on; then the rest of `sysusers.d` and the recipe's
//! accounts. [`finish`] does the recipe's settings, units, the loader cache, stamps, and `/var`, which at run time is a
//! file system of its own.
//!
//! Not done: the hardware database of udev is not compiled (udev works without it; its names of
//! devices are for people), nor is the message catalogue of the journal.

mod accounts;
mod alternatives;
mod boilerplate;
mod coverage;
mod effect;
mod error;
mod image;
mod ledger;
mod loader;
pub(crate) mod order;
mod pam;
mod report;
mod run_levels;
mod sealed;
mod settings;
mod slots;
mod stage;
#[cfg(test)]
mod testing;
mod tmpfiles;
mod units;
mod updates;
mod var;
mod words;

pub use error::{ConfigureError, UncoveredScript};
pub use report::{ConfigureReport, Coverage, CoveredScript};
pub use settings::{ETC_MODULE, data_modules};
pub use slots::{ESP_LABEL, ESP_MODULES};
pub use stage::{Configured, STAGE, finish, prepare};
pub use var::DATA_LABEL;
