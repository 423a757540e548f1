//! What extended headers say of the entry that follows them (POSIX pax, GNU long names).

use std::collections::BTreeMap;

/// Values that replace or add to those of the header block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<i64>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Records {
    /// Adds the records of one extended header: `LENGTH KEY=VALUE\n` again and again.
    pub(super) fn add(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let (record, rest) = split_record(bytes).ok_or("a pax record is malformed")?;
            let equals = record.iter().position(|&byte| byte == b'=');
            let (key, value) = record.split_at(equals.ok_or("a pax record has no `=`")?);
            self.set(key, &value[1..])?;
            bytes = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let refuse = || format!("bad pax value of `{}`", String::from_utf8_lossy(key));
        // An empty value takes back what an earlier record said (POSIX pax, "extended header").
        let given = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = given.map(<[u8]>::to_vec),
            b"linkpath" => self.link_path = given.map(<[u8]>::to_vec),
            b"size" => self.size = given.map(|v| number(v).ok_or_else(refuse)).transpose()?,
            b"uid" => self.uid = given.map(|v| number(v).ok_or_else(refuse)).transpose()?,
            b"gid" => self.gid = given.map(|v| number(v).ok_or_else(refuse)).transpose()?,
            b"mtime" => self.mtime = given.map(|v| seconds(v).ok_or_else(refuse)).transpose()?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if name.is_empty() || name.contains(&0) {
                        return Err(refuse());
                    }
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                } else if let Some(meaning) = lossy(key) {
                    let key = String::from_utf8_lossy(key);
                    return Err(format!("pax record `{key}` ({meaning}) is not supported"));
                }
            }
        }
        Ok(())
    }
}

/// Records that must not be dropped in silence: without them the entry would be another one.
fn lossy(key: &[u8]) -> Option<&'static str> {
    let rows: [(&[u8], &str); 5] = [
        (b"GNU.sparse.", "sparse file"),
        (b"SCHILY.realsize", "sparse file"),
        (b"SCHILY.acl.", "access control list"),
        (b"LIBARCHIVE.xattr.", "encoded extended attribute"),
        (b"RHT.security.", "security label"),
    ];
    rows.into_iter()
        .find(|(prefix, _)| key.starts_with(prefix))
        .map(|(_, meaning)| meaning)
}

/// Splits off one record without its length and newline.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = bytes.iter().take(11).position(|&byte| byte == b' ')?;
    let length: usize = number(&bytes[..blank])?;
    if length > bytes.len() || length < blank + 2 {
        return None;
    }
    let (record, rest) = bytes.split_at(length);
    Some((record[blank + 1..].strip_suffix(b"\n")?, rest))
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with an optional sign and fraction, rounded down.
fn seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let between = fraction.bytes().any(|byte| byte != b'0');
    Some(if text.starts_with('-') && between {
        seconds.checked_sub(1)?
    } else {
        seconds
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_replace_and_take_back() {
        let mut records = Records::default();
        records.add(b"10 path=ab\n").unwrap_err();
        let mut records = Records::default();
        records
            .add(b"11 path=ab\n14 mtime=-1.5\n26 SCHILY.xattr.user.a=b\n\n")
            .unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"ab"[..]));
        assert_eq!(records.mtime, Some(-2));
        assert_eq!(
            records.xattrs.get(&b"user.a"[..]).map(Vec::as_slice),
            Some(&b"b\n"[..])
        );
        records.add(b"8 path=\n").unwrap();
        assert_eq!(records.path, None);
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        for (text, word) in [
            (&b"22 GNU.sparse.major=1\n"[..], "sparse"),
            (b"22 SCHILY.acl.access=\n", "access control"),
            (b"13 size=-100\n", "bad pax value"),
            (b"9999999999 a=b\n", "malformed"),
            (b"4 a\n", "no `=`"),
        ] {
            let error = Records::default().add(text).unwrap_err();
            assert!(error.contains(word), "{error} / {word}");
        }
    }
}
