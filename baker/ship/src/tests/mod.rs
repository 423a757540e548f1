//! Whole flows: what one part writes, another part and foreign tools must take.

mod algorithms;
mod attesting;
mod caches;
mod catalogue;
mod elsewhere;
pub(crate) mod fixture;
mod keys;
mod kills;
mod provenance;
mod publishing;
mod pulling;
mod released;
mod servers;
mod signing;
mod tampering;
mod targets;
