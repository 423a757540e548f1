//! A folder of Secure Boot keys: made once, used by every bake, taken to machines.
//!
//! ```text
//! PK.key KEK.key db.key   private keys, PKCS#8 PEM, mode 0600; bakes need db.key alone
//! PK.crt KEK.crt db.crt   certificates, PEM
//! PK.cer KEK.cer db.cer   the same as DER, for the menus of firmware
//! PK.esl KEK.esl db.esl   the same as signature lists, for other tools
//! PK.auth KEK.auth db.auth  signed updates, for systemd-boot's loader/keys and for firmware menus
//! ```

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{fmt, fs};

use anyhow::Context as _;
use baker_formats::efivars::{KeyRole, Keys, Time, Update, signature_list};
use baker_formats::pe::authenticode;
use baker_formats::x509::{Certificate, PublicKey, Request};
use baker_ship::pem::{certificate_from_pem, certificate_to_pem};
use baker_ship::request::{Item, KeyUse};
use baker_ship::{Algorithm, Key, KeyError, Passphrase, Purpose, Signer};

use crate::commands::key::{key_failure, signing_failure};
use crate::context::open_key;
use crate::exit::{Exit, Failure};

/// How long a certificate claims to be valid: 25 years. Firmware looks at no date, tools do.
const VALIDITY: u64 = 25 * 365 * 86_400;

/// A clock that runs late must not find a certificate of the future: a day.
const LATITUDE: u64 = 86_400;

/// What signs boot files.
pub struct BootKeys {
    hand: Hand,
    keys: Keys,
}

/// Whose hand signs.
enum Hand {
    /// The key of `db`.
    Key(Box<dyn Signer>),
    /// Nobody's yet: what is to be signed is written down.
    Request(Mutex<Vec<Item>>),
    /// Somebody's long ago: certificate tables of the very programs, kept.
    Kept(Vec<Vec<u8>>),
}

impl BootKeys {
    /// Reads what a bake needs: all three certificates, and the private key of `db`, which is `key`
    /// or the file beside its certificate.
    pub fn load(folder: &Path, key: Option<&str>) -> Result<Self, Failure> {
        let keys = certificates(folder)?;
        let beside = folder.join(file(KeyRole::Database, "key"));
        let source = match key {
            Some(key) => key.to_owned(),
            None => beside.to_string_lossy().into_owned(),
        };
        let signer = open_key(&source)?;
        if signer.public().to_der() != keys.database.key().info() {
            let problem = format!("{source} is not the key of db.crt in {}", folder.display());
            return Err(Failure::message(Exit::Publish, problem)
                .help("name a folder made by `baker key secure-boot`"));
        }
        let hand = Hand::Key(signer);
        Ok(Self { hand, keys })
    }

    /// Reads the certificates alone, for a key that is elsewhere.
    pub fn elsewhere(folder: &Path) -> Result<Self, Failure> {
        Ok(Self {
            hand: Hand::Request(Mutex::default()),
            keys: certificates(folder)?,
        })
    }

    /// Signatures that were kept, for programs that are made again.
    pub(super) fn kept(keys: Keys, tables: Vec<Vec<u8>>) -> Self {
        let hand = Hand::Kept(tables);
        Self { hand, keys }
    }

    /// The certificates.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// True when the key is here, so that equal programs get equal signatures.
    pub fn signs_here(&self) -> bool {
        matches!(self.hand, Hand::Key(_))
    }

    /// What is to be signed elsewhere; nothing when the key is here.
    pub fn requested(&self) -> Vec<Item> {
        match &self.hand {
            Hand::Key(_) | Hand::Kept(_) => Vec::new(),
            Hand::Request(items) => items.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The program, called `name`, with a signature that firmware takes; as it is when the key is
    /// elsewhere.
    pub fn sign(&self, name: &str, program: &[u8]) -> anyhow::Result<Vec<u8>> {
        let unsigned = authenticode::prepare(program, &self.keys.database)?;
        match &self.hand {
            Hand::Key(signer) => {
                let signature = signer.sign(unsigned.message())?;
                Ok(unsigned.attach(&signature.bytes)?)
            }
            Hand::Request(items) => {
                let why = format!(
                    "firmware that knows `{}` will start it; its Authenticode SHA-256 is {}",
                    self.keys.database.name(),
                    authenticode::digest(program)?
                );
                let item = Item::new(name, &why, KeyUse::Boot, unsigned.message());
                let mut items = items.lock().unwrap_or_else(PoisonError::into_inner);
                items.push(item);
                Ok(program.to_vec())
            }
            Hand::Kept(tables) => {
                let mut attached = tables
                    .iter()
                    .filter_map(|table| authenticode::attach_table(program, table).ok());
                let (signed, _) =
                    attached
                        .find(|(_, is_for_it)| *is_for_it)
                        .with_context(|| {
                            format!("no signature was kept for {name} as it is now: it differs")
                        })?;
                authenticode::verify(&signed, &self.keys.database)?;
                Ok(signed)
            }
        }
    }
}

impl fmt::Debug for BootKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootKeys")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

fn certificates(folder: &Path) -> Result<Keys, Failure> {
    let read = |role| certificate(folder, role);
    Ok(Keys {
        platform: read(KeyRole::Platform)?,
        exchange: read(KeyRole::Exchange)?,
        database: read(KeyRole::Database)?,
    })
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
