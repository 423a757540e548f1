//! A folder of Secure Boot keys: made once, used by every bake, taken to machines.
//!
//! ```text
//! PK.key KEK.key db.key   private keys, PKCS#8 PEM, mode 0600; bakes need db.key alone
//! PK.crt KEK.crt db.crt   certificates, PEM
//! PK.cer KEK.cer db.cer   the same as DER, for the menus of firmware
//! PK.esl KEK.esl db.esl   the same as signature lists, for other tools
//! PK.auth KEK.auth db.auth  signed updates, for systemd-boot's loader/keys and for firmware menus
//! ```

use std::fs;
use std::path::Path;

use baker_formats::efivars::{KeyRole, Keys, Time, Update, signature_list};
use baker_formats::pe::authenticode;
use baker_formats::x509::{Certificate, PublicKey, Request};
use baker_ship::pem::{certificate_from_pem, certificate_to_pem};
use baker_ship::{Algorithm, Key, KeyError, Passphrase, Purpose, Signer};

use crate::commands::key::{key_failure, signing_failure};
use crate::exit::{Exit, Failure};

/// How long a certificate claims to be valid: 25 years. Firmware looks at no date, tools do.
const VALIDITY: u64 = 25 * 365 * 86_400;

/// A clock that runs late must not find a certificate of the future: a day.
const LATITUDE: u64 = 86_400;

/// What signs boot files.
pub struct BootKeys {
    signer: Box<dyn Signer>,
    keys: Keys,
}

impl BootKeys {
    /// Reads what a bake needs: the private key of `db`, and all three certificates.
    pub fn load(folder: &Path, passphrase: Option<&Passphrase>) -> Result<Self, Failure> {
        let read = |role| certificate(folder, role);
        let keys = Keys {
            platform: read(KeyRole::Platform)?,
            exchange: read(KeyRole::Exchange)?,
            database: read(KeyRole::Database)?,
        };
        let path = folder.join(file(KeyRole::Database, "key"));
        let key = Key::load(&path, passphrase).map_err(key_failure)?;
        if key.public().to_der() != keys.database.key().info() {
            let problem = format!("{} is not the key of db.crt beside it", path.display());
            return Err(Failure::message(Exit::Publish, problem)
                .help("name a folder made by `baker key secure-boot`"));
        }
        let signer = Box::new(key);
        Ok(Self { signer, keys })
    }

    /// The certificates.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The program with a signature that firmware takes.
    pub fn sign(&self, program: &[u8]) -> anyhow::Result<Vec<u8>> {
        let unsigned = authenticode::prepare(program, &self.keys.database)?;
        let signature = self.signer.sign(unsigned.message())?;
        Ok(unsigned.attach(&signature.bytes)?)
    }
}

fn file(role: KeyRole, kind: &str) -> String {
    format!("{}.{kind}", role.name())
}

fn certificate(folder: &Path, role: KeyRole) -> Result<Certificate, Failure> {
    let path = folder.join(file(role, "crt"));
    let failed = |error: anyhow::Error| {
        Failure::new(Exit::Usage, error)
            .context(format!("cannot use the certificate {}", path.display()))
            .help("name a folder made by `baker key secure-boot` with --secure-boot")
    };
    let text = fs::read_to_string(&path).map_err(|error| failed(error.into()))?;
    let der = certificate_from_pem(&text).map_err(|error| failed(error.into()))?;
    Certificate::parse(&der).map_err(|error| failed(error.into()))
}

/// New keys that are to be made.
pub struct NewKeys<'a> {
    /// The folder; must not be there.
    pub folder: &'a Path,
    /// Whose they are, for people who read the certificates.
    pub owner: &'a str,
    /// What they may be used for; stands in the certificates' names.
    pub purpose: Purpose,
    /// How they sign.
    pub algorithm: Algorithm,
    /// Encrypts the private keys.
    pub passphrase: Option<&'a Passphrase>,
    /// The time, seconds since 1970-01-01 UTC.
    pub now: u64,
}

/// A new key and its certificate.
struct Pair {
    key: Key,
    certificate: Certificate,
}

impl NewKeys<'_> {
    /// Makes the folder; all of it or nothing.
    pub fn make(&self) -> Result<Keys, Failure> {
        if self.folder.symlink_metadata().is_ok() {
            return Err(key_failure(KeyError::Exists {
                path: self.folder.to_owned(),
            }));
        }
        let failed = |error: std::io::Error| {
            Failure::new(Exit::Publish, error)
                .context(format!("cannot make the folder {}", self.folder.display()))
        };
        let parent = match self.folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let work = tempfile::Builder::new()
            .prefix(".secure-boot-")
            .tempdir_in(parent)
            .map_err(failed)?;
        let [platform, exchange, database] = [
            self.pair(KeyRole::Platform)?,
            self.pair(KeyRole::Exchange)?,
            self.pair(KeyRole::Database)?,
        ];
        let keys = Keys {
            platform: platform.certificate.clone(),
            exchange: exchange.certificate.clone(),
            database: database.certificate.clone(),
        };
        for (role, pair, signer) in [
            (KeyRole::Platform, &platform, &platform),
            (KeyRole::Exchange, &exchange, &platform),
            (KeyRole::Database, &database, &exchange),
        ] {
            let key = work.path().join(file(role, "key"));
            pair.key
                .save_private(&key, self.passphrase)
                .map_err(key_failure)?;
            for (kind, bytes) in self.public_files(role, pair, signer, &keys)? {
                fs::write(work.path().join(file(role, kind)), bytes).map_err(failed)?;
            }
        }
        fs::rename(work.path(), self.folder).map_err(failed)?;
        // What it would remove has another name now.
        drop(work.keep());
        Ok(keys)
    }

    fn pair(&self, role: KeyRole) -> Result<Pair, Failure> {
        let key = Key::generate(role.name(), self.purpose, self.algorithm).map_err(key_failure)?;
        let refused = |error| Failure::new(Exit::Usage, error);
        let mark = match self.purpose {
            Purpose::Development => " (LOCAL DEVELOPMENT)",
            Purpose::Release => "",
        };
        let request = Request {
            name: &format!("{} {}{mark}", self.owner, role.name()),
            key: &PublicKey::parse(key.public().to_der()).map_err(refused)?,
            not_before: self.now.saturating_sub(LATITUDE),
            not_after: self.now + VALIDITY,
        };
        let unsigned = request.prepare().map_err(refused)?;
        let signature = key.sign(unsigned.message()).map_err(signing_failure)?;
        let certificate = unsigned.attach(&signature.bytes).map_err(refused)?;
        Ok(Pair { key, certificate })
    }

    fn public_files(
        &self,
        role: KeyRole,
        pair: &Pair,
        signer: &Pair,
        keys: &Keys,
    ) -> Result<[(&'static str, Vec<u8>); 4], Failure> {
        let internal = |error: anyhow::Error| Failure::new(Exit::Internal, error);
        let der = pair.certificate.der();
        let pem = certificate_to_pem(der).map_err(|error| internal(error.into()))?;
        let list = signature_list(keys.owner(), &pair.certificate);
        let update = Update {
            role,
            value: &list,
            time: Time::of_unix(self.now),
            signer: &signer.certificate,
        };
        let unsigned = update.prepare();
        let signature = signer
            .key
            .sign(unsigned.message())
            .map_err(signing_failure)?;
        let update = unsigned
            .attach(&signature.bytes)
            .map_err(|error| internal(error.into()))?;
        Ok([
            ("crt", pem.into_bytes()),
            ("cer", der.to_vec()),
            ("esl", list.clone()),
            ("auth", update),
        ])
    }
}
