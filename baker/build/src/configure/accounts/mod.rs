//! Users and groups: the four files of `/etc`, `sysusers.d`, and the recipe's own accounts.

mod database;
mod recipe;
mod sysusers;

pub(super) use database::Accounts;
pub(super) use recipe::add_recipe_accounts;
pub(super) use sysusers::{run_lines, run_named, run_remaining};
