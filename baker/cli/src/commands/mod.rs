//! One file per command: its arguments, and what it does with them.

pub mod bake;
pub mod bundle;
pub mod diff;
pub mod drill;
pub mod fetch;
pub mod inspect;
pub mod key;
mod key_lists;
pub mod lock;
pub mod release;
pub mod run;
pub mod sign;
pub mod test;
pub mod verify;
