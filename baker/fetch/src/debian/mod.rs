//! Debian's formats and rules, as pure functions of bytes.

pub mod cache;
pub mod date;
pub mod deb822;
pub mod index;
pub mod records;
pub mod relation;
pub mod release;
pub mod signature;
