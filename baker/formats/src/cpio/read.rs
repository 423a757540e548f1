//! Reading `newc` archives back.

use std::ops::Range;

use super::TRAILER;

/// Bytes of the header in front of each name.
const HEADER: usize = 110;

/// One member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name as written.
    pub name: Vec<u8>,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Number of names.
    pub links: u32,
    /// Seconds since 1970-01-01 UTC.
    pub mtime: u32,
    /// Number of the inode.
    pub inode: u32,
    /// Where its bytes lie in the archive.
    pub data: Range<usize>,
}

/// The bytes are no sound archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no cpio archive: {problem} (byte {offset})")]
pub struct CpioReadError {
    /// Where.
    pub offset: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// The members of an archive in their order, without the trailer. Archives that follow each other
/// are read as one, as the kernel does.
///
/// # Errors
/// A member is cut off, or something else than a member or zeros follows.
pub fn members(archive: &[u8]) -> Result<Vec<Member>, CpioReadError> {
    let mut members = Vec::new();
    let mut at = 0;
    while at < archive.len() {
        if archive[at] == 0 {
            at += 1;
            continue;
        }
        let (member, next) = member(archive, at)?;
        if member.name == TRAILER {
            // What follows is fill up to a block, or another archive.
            at = next;
        } else {
            at = next;
            members.push(member);
        }
    }
    Ok(members)
}

fn member(archive: &[u8], offset: usize) -> Result<(Member, usize), CpioReadError> {
    let wrong = |problem| CpioReadError { offset, problem };
    let header = archive
        .get(offset..offset + HEADER)
        .ok_or_else(|| wrong("a header is cut off"))?;
    if !header.starts_with(b"070701") {
        return Err(wrong("a member does not begin with 070701"));
    }
    let field = |index: usize| {
        let digits = header.get(6 + index * 8..14 + index * 8)?;
        u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    };
    let number = |index| field(index).ok_or_else(|| wrong("a field is no number"));
    let length = |index| number(index).map(|length| length as usize);
    let (name_size, size) = (length(11)?, length(6)?);
    let name_at = offset + HEADER;
    let data_at = (name_at + name_size).next_multiple_of(4);
    let name = archive.get(name_at..name_at + name_size);
    let name = name.and_then(|name| name.strip_suffix(b"\0"));
    let name = name.ok_or_else(|| wrong("a name is cut off"))?;
    let end = data_at + size;
    if end > archive.len() {
        return Err(wrong("the bytes of a member are cut off"));
    }
    let member = Member {
        name: name.to_vec(),
        mode: number(1)?,
        uid: number(2)?,
        gid: number(3)?,
        links: number(4)?,
        mtime: number(5)?,
        inode: number(0)?,
        data: data_at..end,
    };
    Ok((member, end.next_multiple_of(4)))
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Metadata, Writer};
    use super::*;

    fn archive(data: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        let metadata = Metadata {
            mode: 0o644,
            mtime: 7,
            ..Metadata::default()
        };
        writer.append(b"folder", metadata, Kind::Directory).unwrap();
        let file = Kind::File {
            size: data.len() as u64,
            data: &mut &data[..],
        };
        writer.append(b"folder/file", metadata, file).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn archives_are_read_back_also_one_after_the_other() {
        let one = archive(b"hello");
        let both = [one.clone(), archive(b"again!")].concat();
        let found = members(&both).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|member| {
                let data = &both[member.data.clone()];
                (member.name.as_slice(), member.mode, member.mtime, data)
            })
            .collect();
        let expected: [(&[u8], u32, u32, &[u8]); 4] = [
            (b"folder", 0o040_644, 7, b""),
            (b"folder/file", 0o100_644, 7, b"hello"),
            (b"folder", 0o040_644, 7, b""),
            (b"folder/file", 0o100_644, 7, b"again!"),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn damage_is_an_error() {
        let good = archive(b"hello");
        assert!(members(&good[..150]).is_err());
        assert!(members(b"070702").is_err());
        let mut bad = good.clone();
        bad[60] = b'x';
        assert!(members(&bad).is_err());
    }
}
