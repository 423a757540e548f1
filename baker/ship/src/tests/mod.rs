//! Whole flows: what one part writes, another part and foreign tools must take.

mod algorithms;
mod attesting;
mod elsewhere;
pub(crate) mod fixture;
mod keys;
mod provenance;
mod publishing;
mod signing;
mod tampering;
