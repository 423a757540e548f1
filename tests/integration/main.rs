//! The one integration binary.

mod bake;
mod boot;
mod configure;
mod errors;
mod fetch_archive;
mod fetch_store;
mod fetch_transfer;
mod release;
mod resolve_apt;
mod resolve_rules;
mod tidy;
