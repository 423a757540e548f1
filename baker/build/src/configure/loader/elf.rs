//! What `ldconfig` wants to know of a shared library: its kind and its soname.

use crate::configure::image::Image;
use baker_model::tree::Content;

/// Longest soname that is read, in bytes.
const NAME_LIMIT: usize = 256;
/// More program headers or dynamic entries than any library has.
const TABLE_LIMIT: u64 = 4096;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
const ET_DYN: u64 = 3;

/// A shared library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Library {
    /// `DT_SONAME`, when it has one.
    pub(super) soname: Option<String>,
    /// Flags of its entries in the cache.
    pub(super) flags: u32,
}

/// Reads a library; none when it is something else (a linker script, an executable, another
/// machine's).
///
/// # Errors
/// What is broken: the file claims to be ELF but its tables lie outside of it.
pub(super) fn read(image: &Image<'_>, content: &Content) -> Result<Option<Library>, &'static str> {
    let file = Source { image, content };
    let Ok(ident) = file.bytes::<20>(0) else {
        return Ok(None);
    };
    // Little-endian only: no machine of Debian that baker knows is big-endian.
    if !ident.starts_with(b"\x7fELF") || ident[5] != 1 || word(&ident, 16, 2) != ET_DYN {
        return Ok(None);
    }
    let wide = ident[4] == 2;
    // Flags of glibc's sysdeps/generic/ldconfig.h: 3 is "ELF, libc6", the second byte the machine.
    let flags = match (word(&ident, 18, 2), wide) {
        (62, true) => 0x0303,
        (62, false) => 0x0803,
        (3, false) => 0x0003,
        (183, true) => 0x0a03,
        _ => return Ok(None),
    };
    let soname = file.soname(wide)?;
    Ok(Some(Library { soname, flags }))
}

struct Source<'a, 'b> {
    image: &'a Image<'b>,
    content: &'a Content,
}

/// A loadable part: file offset, address, size.
struct Part {
    offset: u64,
    address: u64,
    size: u64,
}

impl Source<'_, '_> {
    fn bytes<const N: usize>(&self, offset: u64) -> Result<[u8; N], &'static str> {
        let mut bytes = [0; N];
        let read = self.image.read_at(self.content, offset, &mut bytes);
        read.map(|()| bytes)
            .map_err(|_| "a table lies outside of the file")
    }

    fn soname(&self, wide: bool) -> Result<Option<String>, &'static str> {
        let header = self.bytes::<52>(0)?;
        let (table, size, count) = if wide {
            let more = self.bytes::<64>(0)?;
            (word(&more, 32, 8), word(&more, 54, 2), word(&more, 56, 2))
        } else {
            (
                word(&header, 28, 4),
                word(&header, 42, 2),
                word(&header, 44, 2),
            )
        };
        let (mut parts, mut dynamic) = (Vec::new(), None);
        for index in 0..count.min(TABLE_LIMIT) {
            let (kind, part) = self.part(wide, table.saturating_add(index * size))?;
            match kind {
                PT_LOAD => parts.push(part),
                PT_DYNAMIC => dynamic = Some(part),
                _ => {}
            }
        }
        let Some(dynamic) = dynamic else {
            return Ok(None);
        };
        let (strings, soname) = self.dynamic(wide, &dynamic)?;
        let (Some(strings), Some(soname)) = (strings, soname) else {
            return Ok(None);
        };
        let place = parts.iter().find_map(|part| {
            let inside = strings
                .checked_sub(part.address)
                .filter(|at| *at < part.size)?;
            part.offset.checked_add(inside)?.checked_add(soname)
        });
        self.text(place.ok_or("the string table lies in no loaded part")?)
            .map(Some)
    }

    fn part(&self, wide: bool, at: u64) -> Result<(u32, Part), &'static str> {
        let (kind, offset, address, size) = if wide {
            let raw = self.bytes::<56>(at)?;
            (
                word(&raw, 0, 4),
                word(&raw, 8, 8),
                word(&raw, 16, 8),
                word(&raw, 32, 8),
            )
        } else {
            let raw = self.bytes::<32>(at)?;
            (
                word(&raw, 0, 4),
                word(&raw, 4, 4),
                word(&raw, 8, 4),
                word(&raw, 16, 4),
            )
        };
        let kind = u32::try_from(kind).unwrap_or_default();
        Ok((
            kind,
            Part {
                offset,
                address,
                size,
            },
        ))
    }

    /// Address of the string table, and the soname's place in it.
    fn dynamic(&self, wide: bool, part: &Part) -> Result<(Option<u64>, Option<u64>), &'static str> {
        let step: u64 = if wide { 16 } else { 8 };
        let (mut strings, mut soname) = (None, None);
        for index in 0..(part.size / step).min(TABLE_LIMIT) {
            let at = part.offset.saturating_add(index * step);
            let (tag, value) = if wide {
                let raw = self.bytes::<16>(at)?;
                (word(&raw, 0, 8), word(&raw, 8, 8))
            } else {
                let raw = self.bytes::<8>(at)?;
                (word(&raw, 0, 4), word(&raw, 4, 4))
            };
            match tag {
                0 => break,
                DT_STRTAB => strings = Some(value),
                DT_SONAME => soname = Some(value),
                _ => {}
            }
        }
        Ok((strings, soname))
    }

    fn text(&self, mut at: u64) -> Result<String, &'static str> {
        let mut name = Vec::new();
        while name.len() < NAME_LIMIT {
            match self.bytes::<1>(at)? {
                [0] => return String::from_utf8(name).map_err(|_| "the soname is no text"),
                [byte] => name.push(byte),
            }
            at += 1;
        }
        Err("the soname does not end")
    }
}

/// A little-endian number of `length` bytes.
fn word(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
