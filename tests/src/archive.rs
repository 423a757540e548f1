//! Makes tiny signed Debian archives, sound or with one defect.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use baker_tests::archive::{Key, Suite};
//! use baker_tests::deb::Deb;
//!
//! let folder = tempfile::tempdir()?;
//! let key = Key::new("test archive")?;
//! key.write(&folder.path().join("archive.gpg"))?;
//! let suite = Suite::new("trixie").package(Deb::new("hello", "1.0").file("/usr/bin/hello", 0o755, "x"));
//! suite.write(folder.path(), &key)?;   // serve it as file: or through a Mirror
//! # Ok(()) }
//! ```

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use baker_model::Digest;
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertBuilder;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::Serialize;
use sequoia_openpgp::serialize::stream::{Message, Signer};
use sequoia_openpgp::types::ReasonForRevocation;

use crate::deb::{Compression, Deb, compress};

/// When test archives are dated: 2026-06-01 00:00:00 UTC.
pub const DATE: i64 = 1_780_272_000;

/// A day in seconds.
pub const DAY: i64 = 86_400;

/// A signing key, two years older than [`DATE`].
#[derive(Debug, Clone)]
pub struct Key {
    certificate: Cert,
}

impl Key {
    /// A key that does not expire.
    ///
    /// # Errors
    /// Key generation fails.
    pub fn new(name: &str) -> Result<Self> {
        Self::generate(name, None)
    }

    /// A key that expires at a time (seconds since 1970-01-01 UTC).
    ///
    /// # Errors
    /// Key generation fails.
    pub fn expiring(name: &str, at: i64) -> Result<Self> {
        Self::generate(name, Some(at))
    }

    fn generate(name: &str, until: Option<i64>) -> Result<Self> {
        let created = DATE - 730 * DAY;
        let validity = until.map(|until| seconds(until - created)).transpose()?;
        let (certificate, _) = CertBuilder::new()
            .add_userid(name)
            .set_creation_time(time(created)?)
            .set_validity_period(validity)
            .add_signing_subkey()
            .generate()?;
        Ok(Self { certificate })
    }

    /// The same key, revoked as compromised the day before [`DATE`].
    ///
    /// # Errors
    /// Signing fails.
    pub fn revoked(&self) -> Result<Self> {
        use sequoia_openpgp::cert::CertRevocationBuilder;
        let primary = self
            .certificate
            .primary_key()
            .key()
            .clone()
            .parts_into_secret()?;
        let signature = CertRevocationBuilder::new()
            .set_signature_creation_time(time(DATE - DAY)?)?
            .set_reason_for_revocation(ReasonForRevocation::KeyCompromised, b"stolen")?
            .build(&mut primary.into_keypair()?, &self.certificate, None)?;
        let (certificate, _) = self.certificate.clone().insert_packets(signature)?;
        Ok(Self { certificate })
    }

    /// Fingerprint of the primary key, upper-case hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.certificate.fingerprint().to_hex()
    }

    /// Writes the public part as a keyring.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        self.certificate.serialize(&mut bytes)?;
        fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Signs a text inline, dated `at`.
    ///
    /// # Errors
    /// Signing fails.
    pub fn sign(&self, text: &str, at: i64) -> Result<Vec<u8>> {
        let policy = StandardPolicy::new();
        let mut keys = self
            .certificate
            .keys()
            .with_policy(&policy, time(DATE - 700 * DAY)?)
            .for_signing()
            .secret();
        let key = keys.next().context("the key cannot sign")?;
        let mut bytes = Vec::new();
        let message = Message::new(&mut bytes);
        let signer = Signer::new(message, key.key().clone().into_keypair()?)?;
        let mut signer = signer.cleartext().creation_time(time(at)?).build()?;
        signer.write_all(text.as_bytes())?;
        signer.finalize()?;
        Ok(bytes)
    }
}

/// One suite of an archive being made.
#[derive(Debug, Clone)]
pub struct Suite {
    name: String,
    /// `Suite` and `Codename` as the Release file claims; the name when none.
    pub claims: Option<String>,
    /// `Date`.
    pub date: i64,
    /// `Valid-Until`.
    pub valid_until: Option<i64>,
    /// When the signature says that it was made.
    pub signed_at: i64,
    /// Whether indexes lie under their digest, too.
    pub by_hash: bool,
    /// Forms of the index, all of them named in the Release file.
    pub forms: Vec<Compression>,
    /// What is wrong with it.
    pub defects: Vec<Defect>,
    packages: Vec<Deb>,
}

/// Something wrong with a suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Defect {
    /// The Release file carries no signature.
    Unsigned,
    /// One byte of the signed text is another one.
    AlteredRelease,
    /// Text stands before the signed part that names another index.
    TextBeforeSignature,
    /// The index is named with MD5 and SHA-1 only.
    NoSha256,
    /// One byte of every index file is another one.
    AlteredIndex,
    /// Every index file lacks its end.
    TruncatedIndex,
    /// One byte of this package is another one.
    AlteredDeb(String),
    /// This package lacks its end.
    TruncatedDeb(String),
    /// This package is in the index only.
    MissingDeb(String),
}

impl Suite {
    /// A sound suite of [`DATE`] without packages, with an xz index by digest.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            claims: None,
            date: DATE,
            valid_until: Some(DATE + 7 * DAY),
            signed_at: DATE,
            by_hash: true,
            forms: vec![Compression::Xz],
            defects: Vec::new(),
            packages: Vec::new(),
        }
    }

    /// Adds a package; it takes the place of one with the same file name.
    #[must_use]
    pub fn package(mut self, package: Deb) -> Self {
        self.packages
            .retain(|other| other.pool_path() != package.pool_path());
        self.packages.push(package);
        self
    }

    /// Adds a defect.
    #[must_use]
    pub fn defect(mut self, defect: Defect) -> Self {
        self.defects.push(defect);
        self
    }

    /// Writes `dists/` and `pool/` below `root`.
    ///
    /// # Errors
    /// A file cannot be written, or signing fails.
    pub fn write(&self, root: &Path, key: &Key) -> Result<()> {
        let folder = format!("dists/{}", self.name);
        let index = self.index(root)?;
        let mut sums = Vec::new();
        for form in &self.forms {
            let ending = match form {
                Compression::None => "",
                Compression::Gzip => ".gz",
                Compression::Xz => ".xz",
            };
            let path = format!("main/binary-amd64/Packages{ending}");
            let mut bytes = compress(index.as_bytes(), *form);
            let digest = Digest::of(&bytes);
            sums.push(format!(" {digest} {} {path}", bytes.len()));
            self.damage(&mut bytes, &Defect::AlteredIndex, &Defect::TruncatedIndex);
            write(root, &format!("{folder}/{path}"), &bytes)?;
            if self.by_hash {
                let path = format!("{folder}/main/binary-amd64/by-hash/SHA256/{digest}");
                write(root, &path, &bytes)?;
            }
        }
        let release = self.release(&sums);
        let mut signed = match self.has(&Defect::Unsigned) {
            true => release.clone().into_bytes(),
            false => key.sign(&release, self.signed_at)?,
        };
        if self.has(&Defect::AlteredRelease) {
            let text = String::from_utf8_lossy(&signed).replace("Origin: Test", "Origin: Tess");
            signed = text.into_bytes();
        }
        if self.has(&Defect::TextBeforeSignature) {
            let mut text = release.replace("Origin: Test", "Origin: Evil").into_bytes();
            text.extend_from_slice(b"\n");
            text.extend_from_slice(&signed);
            signed = text;
        }
        write(root, &format!("{folder}/InRelease"), &signed)
    }

    fn index(&self, root: &Path) -> Result<String> {
        let mut index = String::new();
        for package in &self.packages {
            let mut bytes = package.build();
            let (path, digest) = (package.pool_path(), Digest::of(&bytes));
            let control = package.control_text();
            let size = bytes.len();
            index.push_str(&format!(
                "{control}Filename: {path}\nSize: {size}\nSHA256: {digest}\n\n"
            ));
            let name = package.name().to_owned();
            let (altered, truncated) = (
                Defect::AlteredDeb(name.clone()),
                Defect::TruncatedDeb(name.clone()),
            );
            self.damage(&mut bytes, &altered, &truncated);
            if !self.has(&Defect::MissingDeb(name)) {
                write(root, &path, &bytes)?;
            }
        }
        Ok(index)
    }

    fn release(&self, sums: &[String]) -> String {
        let claims = self.claims.as_ref().unwrap_or(&self.name);
        let mut text = format!("Origin: Test\nSuite: {claims}\nCodename: {claims}\n");
        text.push_str(&format!("Date: {}\n", rfc2822(self.date)));
        if let Some(until) = self.valid_until {
            text.push_str(&format!("Valid-Until: {}\n", rfc2822(until)));
        }
        let by_hash = if self.by_hash { "yes" } else { "no" };
        text.push_str(&format!(
            "Acquire-By-Hash: {by_hash}\nArchitectures: amd64\nComponents: main\n"
        ));
        let weak = |length: usize| {
            let lines = sums.iter().filter_map(|line| {
                let (digest, rest) = line.trim().split_once(' ')?;
                Some(format!(" {} {rest}\n", &digest[..length]))
            });
            lines.collect::<String>()
        };
        text.push_str(&format!("MD5Sum:\n{}SHA1:\n{}", weak(32), weak(40)));
        if !self.has(&Defect::NoSha256) {
            text.push_str(&format!("SHA256:\n{}\n", sums.join("\n")));
        }
        text
    }

    fn damage(&self, bytes: &mut Vec<u8>, altered: &Defect, truncated: &Defect) {
        if self.has(altered) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        if self.has(truncated) {
            bytes.truncate(bytes.len() * 2 / 3);
        }
    }

    fn has(&self, defect: &Defect) -> bool {
        self.defects.contains(defect)
    }
}

fn write(root: &Path, path: &str, bytes: &[u8]) -> Result<()> {
    let path = root.join(path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn seconds(number: i64) -> Result<Duration> {
    Ok(Duration::from_secs(u64::try_from(number)?))
}

fn time(at: i64) -> Result<SystemTime> {
    Ok(SystemTime::UNIX_EPOCH + seconds(at)?)
}

/// `Mon, 01 Jun 2026 00:00:00 UTC`; readers ignore the name of the day.
fn rfc2822(at: i64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = baker_fetch::debian::date::text(at);
    let month: usize = text[5..7].parse().unwrap_or(1);
    format!(
        "Mon, {} {} {} {} UTC",
        &text[8..10],
        MONTHS[month - 1],
        &text[..4],
        &text[11..19]
    )
}
