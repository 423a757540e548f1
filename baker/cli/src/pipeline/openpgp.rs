//! Signatures by a key of the user's own GnuPG.
//!
//! The keys that sign lists of updates live where GnuPG keeps them: in its home folder, on a card,
//! behind an agent that asks for a passphrase. So this is the one signature that another program
//! makes; baker never sees the secret.

use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use crate::exit::{Exit, Failure};

/// The program, found by `PATH`.
const PROGRAM: &str = "gpg";

/// An OpenPGP key by its whole fingerprint: shorter ids can be made to collide, and a name may be
/// that of several keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != ' ').collect();
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex && matches!(digits.len(), 40 | 64) {
            return Ok(Self(digits.to_uppercase()));
        }
        Err(format!(
            "`{text}` is no fingerprint of 40 or 64 hex digits; see: gpg --list-secret-keys"
        ))
    }
}

/// Writes the detached signature of `file` to `signature`.
pub fn sign(key: &Fingerprint, file: &Path, signature: &Path) -> Result<(), Failure> {
    let mut command = Command::new(PROGRAM);
    command
        .args(["--batch", "--yes", "--local-user"])
        // The exclamation mark is for this very key, not for one that it would be chosen for.
        .arg(format!("{}!", key.0))
        .args(["--detach-sign", "--output"])
        .arg(signature)
        .arg("--")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let output = command.output().map_err(|error| {
        Failure::new(Exit::Environment, error)
            .context(format!("cannot run {PROGRAM}"))
            .help("install GnuPG, which keeps the key: apt install gpg gpg-agent")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let problem = format!("{PROGRAM} does not sign by {}: {}", key.0, said.trim());
    Err(Failure::message(Exit::Publish, problem).help(
        "see the keys that it can sign with: gpg --list-secret-keys --with-subkey-fingerprint",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_fingerprints_name_a_key() {
        let spaced = "abcd abcd abcd abcd abcd  abcd abcd abcd abcd abcd";
        let plain = "ABCD".repeat(10);
        assert_eq!(spaced.parse(), Ok(Fingerprint(plain)));
        for bad in [
            "",
            "ada@example.org",
            "0xDEADBEEF",
            &"g".repeat(40),
            "--help",
        ] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
