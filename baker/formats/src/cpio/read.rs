//! Reading `newc` archives back: the entries as slices of the bytes.

use super::TRAILER;

/// Bytes of a header.
const HEADER: usize = 110;

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name, as written.
    pub name: &'a [u8],
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Its data: content of a file, target of a link.
    pub data: &'a [u8],
}

/// The bytes are no archive that this module would write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cpio archive is damaged at byte {offset}: {problem}")]
pub struct ReadError {
    /// Where.
    pub offset: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// The entries of an archive, up to its trailer; behind it there may only be zeros.
///
/// # Errors
/// A header or its data is cut off or malformed, there is no trailer, or something follows it.
pub fn members(bytes: &[u8]) -> Result<Vec<Member<'_>>, ReadError> {
    let mut members = Vec::new();
    let mut at = 0;
    loop {
        let fail = |problem| ReadError {
            offset: at,
            problem,
        };
        let cut = || fail("it is cut off");
        let header = bytes.get(at..at.saturating_add(HEADER)).ok_or_else(cut)?;
        if !header.starts_with(b"070701") {
            return Err(fail("no header begins here"));
        }
        // Fields 1 (mode), 6 (size) and 11 (length of the name) of thirteen, eight digits each.
        let field = |index: usize| {
            let digits = &header[6 + index * 8..14 + index * 8];
            let text = std::str::from_utf8(digits).ok();
            let number = text.and_then(|text| u32::from_str_radix(text, 16).ok());
            number.ok_or_else(|| fail("a field is no hexadecimal number"))
        };
        let (mode, size, length) = (field(1)?, field(6)?, field(11)?);
        let wide = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let start = at + HEADER;
        let end = start.saturating_add(wide(length));
        let name = bytes.get(start..end).ok_or_else(cut)?;
        let name = name
            .strip_suffix(b"\0")
            .ok_or_else(|| fail("a name has no end"))?;
        let start = end.next_multiple_of(4);
        let end = start.saturating_add(wide(size));
        let data = bytes.get(start..end).ok_or_else(cut)?;
        if name == TRAILER {
            let rest = bytes.get(end..).unwrap_or_default();
            return match rest.iter().all(|byte| *byte == 0) {
                true => Ok(members),
                false => Err(fail("something follows the trailer")),
            };
        }
        members.push(Member { name, mode, data });
        at = end.next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Metadata, Writer};
    use super::*;

    #[test]
    fn what_is_written_comes_back_and_damage_is_named() {
        let mut writer = Writer::new(Vec::new());
        let metadata = Metadata {
            mode: 0o755,
            ..Metadata::default()
        };
        let kind = Kind::File {
            size: 5,
            data: &mut &b"hello"[..],
        };
        writer.append(b"init", metadata, Kind::Directory).unwrap();
        writer.append(b"a/b", metadata, kind).unwrap();
        let bytes = writer.finish().unwrap();
        let found = members(&bytes).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].name, found[1].data), (&b"a/b"[..], &b"hello"[..]));
        assert_eq!((found[0].mode, found[1].mode), (0o40_755, 0o100_755));

        let mut junk = bytes.clone();
        *junk.last_mut().unwrap() = 1;
        let mut digit = bytes.clone();
        digit[20] = b'x';
        for (bytes, words) in [
            (&junk[..], "follows the trailer"),
            (&digit[..], "no hexadecimal"),
            (&bytes[..200], "cut off"),
            (&b"070702"[..], "cut off"),
        ] {
            let error = members(bytes).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
