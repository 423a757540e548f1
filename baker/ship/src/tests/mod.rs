//! Whole flows: what one part writes, another part and foreign tools must take.

mod attesting;
mod boot_keys;
mod fixture;
mod keys;
mod publishing;
mod signing;
mod tampering;
