//! One file per command: its arguments, and what it does with them.

pub mod bake;
pub mod bundle;
pub mod channel;
pub mod completions;
pub mod diff;
pub mod drill;
pub mod fetch;
mod insight;
pub mod inspect;
pub mod key;
mod key_lists;
pub mod lock;
pub mod man;
pub mod new;
pub mod promote;
pub mod publish;
pub mod pull;
pub mod release;
pub mod run;
pub mod schema;
pub mod shell;
pub mod sign;
pub mod store;
mod template;
pub mod test;
pub mod verify;
pub mod withdraw;
