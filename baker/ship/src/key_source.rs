//! Where a private key is: what stands behind `--key`.
//!
//! ```text
//! release.key                      a file, PKCS#8 PEM
//! command:/usr/local/bin/sign      a program (see [`crate::hook`]); `?timeout=SECONDS` may follow
//! pkcs11:token=release;object=sig  a token (see [`crate::token`])
//! reply:signed.json                a request that came back signed (see [`crate::request`])
//! ```

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::hook::{self, Hook, HookError};
use crate::key::{self, Key, KeyError, Passphrase};
use crate::request::{Reply, Request, RequestError};
use crate::signer::Signer;
use crate::token::{Token, TokenError, TokenUri, UriError};

/// Holds the passphrase of a key file.
pub const PASSPHRASE_VARIABLE: &str = "BAKER_KEY_PASSPHRASE";

/// Holds the PIN of a token.
pub const PIN_VARIABLE: &str = "BAKER_PKCS11_PIN";

/// Names the PKCS#11 module for keys whose URI names none.
pub const MODULE_VARIABLE: &str = "BAKER_PKCS11_MODULE";

/// What no program that baker runs gets to see.
pub(crate) const SECRET_VARIABLES: [&str; 2] = [PASSPHRASE_VARIABLE, PIN_VARIABLE];

/// Where a private key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// Behind a program.
    Command {
        /// The program.
        program: PathBuf,
        /// How long it may take.
        timeout: Duration,
    },
    /// In a token.
    Token(TokenUri),
    /// Elsewhere: a request came back with its signatures.
    Reply(PathBuf),
}

/// What opens keys, and never stands on a command line.
#[derive(Debug, Default)]
pub struct Secrets {
    /// Of key files.
    pub passphrase: Option<Passphrase>,
    /// Of tokens, when the URI names no file of it.
    pub pin: Option<Passphrase>,
    /// The PKCS#11 module, when the URI names none.
    pub module: Option<PathBuf>,
}

/// A key cannot be named so, or not be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeySourceError {
    /// A URI that cannot be used.
    #[error("cannot use the key `pkcs11:…`")]
    Uri(#[source] UriError),
    /// A command that cannot be used.
    #[error("`command:{text}` names no key program")]
    Command {
        /// What follows `command:`.
        text: String,
    },
    /// A key file.
    #[error(transparent)]
    File(KeyError),
    /// A key program.
    #[error(transparent)]
    Hook(HookError),
    /// A token.
    #[error(transparent)]
    Token(TokenError),
    /// A request that came back.
    #[error("cannot use the signed request {}", path.display())]
    Reply {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<RequestError>,
    },
    /// Several keys signed where one is wanted.
    #[error("several keys have signed the request {}, and one is wanted", path.display())]
    Several {
        /// The file.
        path: PathBuf,
    },
    /// A request that came back cannot be read.
    #[error("cannot read the signed request {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl KeySourceError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Uri(UriError::Pin) => Some(format!(
                "give it in a file (`?pin-source=file:/FILE`) or in {PIN_VARIABLE}"
            )),
            Self::Uri(_) => Some("write it like pkcs11:token=LABEL;object=KEY".to_owned()),
            Self::Command { .. } => {
                Some("write it like command:/path/to/program?timeout=60".to_owned())
            }
            Self::File(error) => error.help(),
            Self::Hook(error) => Some(error.help()),
            Self::Token(error) => error.help(),
            Self::Reply { source, .. } if matches!(**source, RequestError::Unsigned) => {
                Some("have it signed: baker sign REQUEST --key KEY".to_owned())
            }
            Self::Reply { .. } | Self::Read { .. } | Self::Several { .. } => None,
        }
    }
}

impl KeySource {
    /// Reads what a person wrote; nothing is opened.
    ///
    /// # Errors
    /// It begins like a token or a program and goes on otherwise.
    pub fn parse(text: &str) -> Result<Self, KeySourceError> {
        if let Some(rest) = text.strip_prefix("pkcs11:") {
            let uri = TokenUri::parse(rest).map_err(KeySourceError::Uri)?;
            return Ok(Self::Token(uri));
        }
        if let Some(path) = text.strip_prefix("reply:") {
            return Ok(Self::Reply(path.into()));
        }
        let Some(rest) = text.strip_prefix("command:") else {
            return Ok(Self::File(text.into()));
        };
        let refused = || KeySourceError::Command {
            text: rest.to_owned(),
        };
        let (program, timeout) = match rest.rsplit_once("?timeout=") {
            Some((program, seconds)) => match seconds.parse() {
                Ok(seconds @ 1..=86_400) => (program, Duration::from_secs(seconds)),
                _ => return Err(refused()),
            },
            None => (rest, hook::TIMEOUT),
        };
        // A bare name would be looked for in PATH, which is no place to find a signer by.
        if !program.contains('/') {
            return Err(refused());
        }
        Ok(Self::Command {
            program: program.into(),
            timeout,
        })
    }

    /// Opens the key.
    ///
    /// # Errors
    /// It is not there, or what opens it does not fit.
    pub fn open(&self, secrets: &Secrets) -> Result<Box<dyn Signer>, KeySourceError> {
        match self {
            Self::File(path) => {
                let key = Key::load(path, secrets.passphrase.as_ref());
                Ok(Box::new(key.map_err(KeySourceError::File)?))
            }
            Self::Command { program, timeout } => {
                let hook = Hook::open(program, *timeout).map_err(KeySourceError::Hook)?;
                Ok(Box::new(hook))
            }
            Self::Token(uri) => {
                let file = uri.pin_file.as_deref().map(|path| {
                    let text = key::read_private(path)?;
                    Passphrase::new(text.trim_end_matches(['\r', '\n']).to_owned())
                });
                let file = file.transpose().map_err(KeySourceError::File)?;
                let pin = file.as_ref().or(secrets.pin.as_ref());
                let token = Token::open(uri, secrets.module.as_deref(), pin);
                Ok(Box::new(token.map_err(KeySourceError::Token)?))
            }
            Self::Reply(path) => {
                let mut replies = replies(path)?;
                match replies.pop() {
                    Some(reply) if replies.is_empty() => Ok(Box::new(reply)),
                    _ => Err(KeySourceError::Several { path: path.clone() }),
                }
            }
        }
    }
}

/// Reads a request that came back: a signer for each key that signed it.
///
/// # Errors
/// It cannot be read, nobody has signed it, or a signature is wrong.
pub fn replies(path: &Path) -> Result<Vec<Reply>, KeySourceError> {
    let bytes = std::fs::read(path).map_err(|source| KeySourceError::Read {
        path: path.to_owned(),
        source,
    })?;
    Request::parse(&bytes)
        .and_then(|request| request.replies())
        .map_err(|source| KeySourceError::Reply {
            path: path.to_owned(),
            source: Box::new(source),
        })
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Command { program, .. } => write!(f, "command:{}", program.display()),
            Self::Token(_) => f.write_str("a PKCS#11 token"),
            Self::Reply(path) => write!(f, "reply:{}", path.display()),
        }
    }
}
