//! Formats: bytes in, bytes out.
//!
//! Takes bytes, readers and plain descriptions; gives bytes. It opens no file, runs no program
//! and knows no clock, chance or environment, so equal input gives equal output.

pub mod ar;
pub mod cpio;
pub mod deb;
mod der;
pub mod disk_image;
pub mod efivars;
pub mod erofs;
pub mod fat;
pub mod gpt;
pub mod gzip;
pub mod io;
pub mod iso;
pub mod medium;
pub mod openssh;
pub mod pe;
mod pipeline;
mod pkcs7;
pub mod squashfs;
pub mod tar;
pub mod verity;
pub mod volume;
pub mod x509;

#[cfg(test)]
mod judge;
#[cfg(test)]
mod testing;
