//! PKCS#11 URIs (RFC 7512), as far as they name a private key.
//!
//! ```text
//! pkcs11:token=release;object=signing;id=%01?module-path=/usr/lib/…/lib.so&pin-source=file:/run/pin
//! ```
//! A URI that says something which is not obeyed here is refused, not half obeyed; one with a PIN
//! in it is refused because everybody can read command lines.

use std::path::PathBuf;

/// Where a key lies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenUri {
    /// Label of the token.
    pub(crate) token: Option<String>,
    /// Serial number of the token.
    pub(crate) serial: Option<String>,
    /// Label of the key.
    pub(crate) object: Option<String>,
    /// Id of the key.
    pub(crate) id: Option<Vec<u8>>,
    /// The module that talks to the token.
    pub(crate) module: Option<PathBuf>,
    /// The file that holds the PIN.
    pub(crate) pin_file: Option<PathBuf>,
}

/// A text is no URI that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// An attribute without a value, or with a wrong `%`.
    #[error("`{part}` is no attribute of a PKCS#11 URI")]
    Malformed {
        /// The part.
        part: String,
    },
    /// An attribute that would not be obeyed.
    #[error("the attribute `{name}` of a PKCS#11 URI is not known here")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// An attribute given twice.
    #[error("the attribute `{name}` stands twice in the PKCS#11 URI")]
    Twice {
        /// Its name.
        name: String,
    },
    /// A PIN that everybody can read.
    #[error("a PIN must not stand in the PKCS#11 URI: everybody can read command lines")]
    Pin,
    /// It names no key.
    #[error("the PKCS#11 URI names neither `object` nor `id`")]
    NoKey,
}

impl TokenUri {
    /// Parses what follows `pkcs11:`.
    ///
    /// # Errors
    /// It is no URI that names a key, or says more than is obeyed.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let mut uri = Self::default();
        for part in path.split(';').chain(query.split('&')) {
            if !part.is_empty() {
                uri.take(part)?;
            }
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(UriError::NoKey);
        }
        Ok(uri)
    }

    fn take(&mut self, part: &str) -> Result<(), UriError> {
        let malformed = || UriError::Malformed {
            part: part.to_owned(),
        };
        let (name, value) = part.split_once('=').ok_or_else(malformed)?;
        if name == "pin-value" {
            return Err(UriError::Pin);
        }
        let bytes = decode(value).ok_or_else(malformed)?;
        let text = || String::from_utf8(bytes.clone()).map_err(|_| malformed());
        let taken = match name {
            "token" => self.token.replace(text()?).is_none(),
            "serial" => self.serial.replace(text()?).is_none(),
            "object" => self.object.replace(text()?).is_none(),
            "id" => self.id.replace(bytes).is_none(),
            "type" if value == "private" => true,
            "module-path" => self.module.replace(text()?.into()).is_none(),
            "pin-source" => {
                let text = text()?;
                let path = text.strip_prefix("file:").unwrap_or(&text);
                let path = path.strip_prefix("//").unwrap_or(path);
                // RFC 7512 also allows `|command`; that is what `command:` keys are for.
                if !path.starts_with('/') {
                    return Err(malformed());
                }
                self.pin_file.replace(path.into()).is_none()
            }
            _ => {
                return Err(UriError::Unknown {
                    name: name.to_owned(),
                });
            }
        };
        match taken {
            true => Ok(()),
            false => Err(UriError::Twice {
                name: name.to_owned(),
            }),
        }
    }
}

/// The bytes behind `%xx`.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let value = digit(digits[0])? * 16 + digit(digits[1])?;
        bytes.push(u8::try_from(value).ok()?);
        rest = tail;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_key_is_read_and_nothing_is_half_obeyed() {
        let uri = TokenUri::parse(
            "token=my%20token;serial=7;object=a;id=%01%ff;type=private\
             ?module-path=/usr/lib/m.so&pin-source=file:///run/pin",
        );
        let expected = TokenUri {
            token: Some("my token".to_owned()),
            serial: Some("7".to_owned()),
            object: Some("a".to_owned()),
            id: Some(vec![1, 255]),
            module: Some("/usr/lib/m.so".into()),
            pin_file: Some("/run/pin".into()),
        };
        assert_eq!(uri, Ok(expected));
        for (text, words) in [
            ("", "neither `object` nor `id`"),
            ("token=x", "neither `object` nor `id`"),
            ("object", "`object` is no attribute"),
            ("object=%4", "`object=%4` is no attribute"),
            ("object=%g0", "is no attribute"),
            ("object=a;object=b", "stands twice"),
            (
                "object=a;slot-id=1",
                "`slot-id` of a PKCS#11 URI is not known",
            ),
            (
                "object=a;type=public",
                "`type` of a PKCS#11 URI is not known",
            ),
            ("object=a?pin-value=1234", "a PIN must not stand"),
            ("object=a?pin-source=|cat pin", "is no attribute"),
        ] {
            let error = TokenUri::parse(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
            assert!(!error.contains("1234"));
        }
    }
}
