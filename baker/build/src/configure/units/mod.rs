//! Units: presets, enablement, and what the recipe says about services.

mod enable;
mod file;
mod mounts;
mod preset;
mod services;

pub(super) use enable::{Missing, Units};
pub(super) use mounts::mount_early;
pub(super) use preset::Presets;
pub(super) use services::apply_services;
