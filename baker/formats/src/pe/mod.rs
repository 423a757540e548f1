//! Portable Executable files, as far as UEFI programs need it (PE32+).
//!
//! Takes bytes; gives the list of sections, a new file with sections appended, or one with a
//! signature that somebody else made ([`authenticode`]). Never runs anything, knows no key. All offsets of a file under inspection are checked.
//!
//! ```text
//! 0x3c     offset of "PE\0\0"
//! PE+4     COFF header, 20 bytes: machine, number of sections, size of the optional header ...
//! PE+24    optional header: alignments, SizeOfImage, SizeOfHeaders, CheckSum, data directories
//! then     section table, 40 bytes each; room for more up to SizeOfHeaders
//! then     the sections' bytes, each at a multiple of FileAlignment
//! at end   certificate table (data directory 4, a file offset): the Authenticode signature
//! ```
//! After Microsoft's "PE Format".

mod append;
pub mod authenticode;
mod image;

pub use append::{NewSection, append};
pub use image::{HeaderPlaces, Image, PeError, Section};

#[cfg(test)]
mod tests;
