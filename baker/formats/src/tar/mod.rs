//! `tar` archives: read as streams of POSIX ustar and pax and GNU's long names, written as pax.
//!
//! Reading takes a reader; gives one [`Entry`] after the other, each with its whole [`Header`] and its
//! bytes as a reader. Never seeks, never holds a file in memory, never guesses: what cannot be
//! carried over faithfully (sparse files, ACLs, multi-volume parts) is an error with its offset.
//!
//! Paths come as written; whether they may be used is the taker's decision.
//!
//! Writing takes headers and data, or a whole tree; gives an [`Archive`] that is read at any
//! place. Equal trees give equal bytes.

mod archive;
mod encode;
mod error;
mod header;
mod pax;
mod reader;

pub use archive::Archive;
pub use encode::encode;
pub use error::TarError;
pub use header::{Header, Kind};
pub use reader::{Entry, Limits, Reader};

/// Bytes of a block: headers and padded data are multiples of it.
pub const BLOCK: usize = 512;

/// Fills up the last block with zeros.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

#[cfg(test)]
mod tests;
