//! Debian packages (`deb(5)`, format 2.x).
//!
//! Takes a buffered reader and [`Limits`]; gives the control members as bytes and then the
//! entries of `data.tar` one by one, streamed. Never seeks, never holds a file of the package in
//! memory; nothing is written anywhere.
//!
//! ```text
//! ar: debian-binary "2.0\n"
//!     control.tar[.gz|.xz|.zst]
//!     data.tar[.gz|.xz|.zst]
//!     anything more is skipped, as deb(5) asks; so are names that begin with `_`
//! ```
//!
//! ```
//! # fn show(file: impl std::io::BufRead) -> Result<(), baker_formats::deb::DebError> {
//! use baker_formats::deb::{Deb, Limits};
//! let mut deb = Deb::open(file, &Limits::default())?;
//! println!("{}", String::from_utf8_lossy(&deb.control()["control"]));
//! while let Some(entry) = deb.next_entry()? {
//!     println!("{}", String::from_utf8_lossy(&entry.header.path)); // bytes: `impl Read for Entry`
//! }
//! # Ok(())
//! # }
//! ```

mod codec;
mod control;
mod error;
mod plain;

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use self::codec::{Codec, Decoder};
use crate::ar::{Archive, Member};
use crate::tar;
pub use error::DebError;
pub use plain::{PlainError, write_plain};

/// What a package may ask for; more is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of `control.tar`, uncompressed.
    pub control_bytes: u64,
    /// Bytes and entries of `data.tar`, uncompressed.
    pub data: tar::Limits,
    /// Bytes of memory that the decompressor of `data.tar` may use.
    pub decoder_memory: u64,
    /// Threads of the decompressor (xz of several blocks only); the bytes are the same for any
    /// number.
    pub threads: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control_bytes: 64 << 20,
            data: tar::Limits::default(),
            decoder_memory: 192 << 20,
            threads: 1,
        }
    }
}

/// A package being read.
pub struct Deb<R: BufRead> {
    control: BTreeMap<String, Vec<u8>>,
    data: Data<R>,
    member: Member,
}

/// Where in `data.tar` the reader is.
enum Data<R: BufRead> {
    Open(Box<tar::Reader<Decoder<Archive<R>>>>),
    /// It came to its proper end, or failed.
    Closed,
}

impl<R: BufRead> Deb<R> {
    /// Reads all in front of `data.tar`.
    ///
    /// # Errors
    /// See [`DebError`].
    pub fn open(reader: R, limits: &Limits) -> Result<Self, DebError> {
        let mut archive = Archive::new(reader)?;
        check_version(&mut archive)?;
        let (member, codec) = find(&mut archive, "control.tar")?;
        let decoder = Decoder::new(codec, archive, limits.decoder_memory, 1).map_err(|source| {
            DebError::Decoder {
                member: member.name.clone(),
                source,
            }
        })?;
        let tar_limits = tar::Limits {
            bytes: limits.control_bytes,
            ..limits.data
        };
        let mut tar = tar::Reader::new(decoder, tar_limits);
        let control = control::read(&mut tar, &member)?;
        let mut archive = finish(tar, &member)?;
        let (member, codec) = find(&mut archive, "data.tar")?;
        let decoder = Decoder::new(codec, archive, limits.decoder_memory, limits.threads).map_err(
            |source| DebError::Decoder {
                member: member.name.clone(),
                source,
            },
        )?;
        let data = Data::Open(Box::new(tar::Reader::new(decoder, limits.data)));
        Ok(Self {
            control,
            data,
            member,
        })
    }

    /// Members of `control.tar` by name (`control`, `postinst`, `md5sums` ...); `control` is
    /// always there.
    pub fn control(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.control
    }

    /// Moves the members of `control.tar` out.
    pub fn take_control(&mut self) -> BTreeMap<String, Vec<u8>> {
        std::mem::take(&mut self.control)
    }

    /// The next entry of `data.tar`.
    ///
    /// **None is given only when the whole package has been read and found well-formed to its last
    /// byte**; a taker that stops early has not checked it.
    ///
    /// # Errors
    /// See [`DebError`]; errors while an entry's bytes are read come as [`std::io::Error`] around
    /// a [`tar::TarError`].
    pub fn next_entry(&mut self) -> Result<Option<tar::Entry<'_>>, DebError> {
        let Data::Open(tar) = &mut self.data else {
            return Ok(None);
        };
        let header = tar.advance().map_err(|source| DebError::Member {
            member: self.member.name.clone(),
            source,
        })?;
        let Some(header) = header else {
            if let Data::Open(tar) = std::mem::replace(&mut self.data, Data::Closed) {
                let mut archive = finish(*tar, &self.member)?;
                while archive.next_member()?.is_some() {}
            }
            return Ok(None);
        };
        // Looked up again, as a borrow returned from one branch would last through the others.
        Ok(match &mut self.data {
            Data::Open(tar) => Some(tar.entry(header)),
            Data::Closed => None,
        })
    }
}

/// The first member says which format the rest has.
fn check_version<R: BufRead>(archive: &mut Archive<R>) -> Result<(), DebError> {
    let first = archive.next_member()?;
    let member = first.filter(|member| member.name == "debian-binary");
    let Some(member) = member else {
        return Err(DebError::Missing {
            expected: "debian-binary",
        });
    };
    let mut text = Vec::new();
    let read = archive.by_ref().take(64).read_to_end(&mut text);
    read.map_err(|source| DebError::Decoder {
        member: member.name,
        source,
    })?;
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let minor = line.strip_prefix(b"2.").filter(|_| text.contains(&b'\n'));
    if minor.is_none_or(|minor| minor.is_empty() || !minor.iter().all(u8::is_ascii_digit)) {
        let found = String::from_utf8_lossy(line).into_owned();
        return Err(DebError::Version { found });
    }
    Ok(())
}

/// Goes on to the member `expected` with any known suffix, over members that begin with `_`.
fn find<R: BufRead>(
    archive: &mut Archive<R>,
    expected: &'static str,
) -> Result<(Member, Codec), DebError> {
    while let Some(member) = archive.next_member()? {
        if member.name.starts_with('_') {
            continue;
        }
        let Some(suffix) = member.name.strip_prefix(expected) else {
            return Err(DebError::Order {
                expected,
                found: member.name,
                offset: member.offset,
            });
        };
        let codec = Codec::from_suffix(suffix);
        return match codec {
            Some(codec) => Ok((member, codec)),
            None => Err(DebError::Compression {
                member: member.name,
                offset: member.offset,
            }),
        };
    }
    Err(DebError::Missing { expected })
}

/// The tar is read to its end: nothing of its member may be left.
fn finish<R: BufRead>(
    tar: tar::Reader<Decoder<Archive<R>>>,
    member: &Member,
) -> Result<Archive<R>, DebError> {
    let archive = tar.into_inner().into_inner();
    if archive.remaining() > 0 {
        let member = member.name.clone();
        return Err(DebError::Junk {
            member,
            offset: archive.position(),
        });
    }
    Ok(archive)
}

#[cfg(test)]
mod tests;
