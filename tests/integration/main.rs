//! The one integration binary.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed; helpers of tests are tests too"
)]

mod account;
mod arm64;
mod bake;
mod boot;
mod bundles;
mod cache;
mod configure;
mod coverage;
mod drill;
mod errors;
mod evidence;
mod family;
mod fetch_archive;
mod fetch_cache;
mod fetch_store;
mod fetch_transfer;
mod foreign;
mod formats;
mod gate;
mod instructions;
mod look;
mod neighbours;
mod pipelines;
mod publish;
mod reads;
mod recipes;
mod release;
mod resolve_apt;
mod resolve_rules;
mod reuse;
mod sandbox;
mod secure_boot;
mod self_update;
mod settings;
mod slots;
mod start;
mod store;
mod tidy;
mod unprivileged;
mod verdicts;
