//! Formats: bytes in, bytes out.
//!
//! Takes bytes, readers and plain descriptions; gives bytes. It opens no file, runs no program
//! and knows no clock, chance or environment, so equal input gives equal output.

pub mod ar;
pub mod cpio;
pub mod deb;
pub mod erofs;
pub mod fat;
pub mod gpt;
pub mod io;
pub mod pe;
pub mod squashfs;
pub mod tar;
pub mod verity;

#[cfg(test)]
mod judge;
