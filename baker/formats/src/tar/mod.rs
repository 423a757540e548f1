//! Streams of `tar` archives: POSIX ustar and pax, and GNU's long names.
//!
//! Takes a reader; gives one [`Entry`] after the other, each with its whole [`Header`] and its
//! bytes as a reader. Never seeks, never holds a file in memory, never guesses: what cannot be
//! carried over faithfully (sparse files, ACLs, multi-volume parts) is an error with its offset.
//!
//! Paths come as written; whether they may be used is the taker's decision.

mod error;
mod header;
mod pax;
mod reader;

pub use error::TarError;
pub use header::{Header, Kind};
pub use reader::{Entry, Limits, Reader};

/// Bytes of a block: headers and padded data are multiples of it.
pub const BLOCK: usize = 512;
