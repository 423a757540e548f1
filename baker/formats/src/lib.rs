//! Formats: bytes in, bytes out.
//!
//! Takes bytes, readers and plain descriptions; gives bytes. It opens no file, runs no program and knows no
//! clock, chance or environment, so equal input gives equal output.

pub mod ar;
pub mod deb;
pub mod tar;

#[cfg(test)]
mod judge;
