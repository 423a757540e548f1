//! From mirrors into the store.

mod download;
mod hasher;
mod transport;

pub use download::{Alteration, DownloadError, Downloader, Wanted};

/// Bytes read at a time from a `file:` mirror.
const BUFFER: u64 = 256 * 1024;
