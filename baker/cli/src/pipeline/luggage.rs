//! What a machine under test is given, and what belongs to it on this side: keys and certificates
//! are made for one run and are gone with its folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use baker_formats::openssh;
use baker_formats::x509::{PublicKey, Request};
use baker_model::plan::{CredentialSource, TestPlan};
use baker_ship::pem::certificate_to_pem;
use baker_ship::{Algorithm, Key, Purpose};
use baker_vm::Luggage;

use crate::exit::{Exit, Failure};

/// Seconds that a certificate is good, before and after now: the clock of a guest may be off.
const LATITUDE: u64 = 7 * 24 * 3600;

/// Makes what the plans of one boot ask for; private keys go into `folder`.
pub(super) fn pack<'a>(
    plans: impl IntoIterator<Item = &'a TestPlan>,
    folder: &Path,
) -> Result<Luggage, Failure> {
    let mut luggage = Luggage::default();
    let mut names = BTreeSet::new();
    for plan in plans {
        for ssh in &plan.ssh {
            names.insert(ssh.key.clone());
        }
        // Plans of one boot have equal credentials.
        if !luggage.credentials.is_empty() {
            continue;
        }
        let mut certificates = Certificates::default();
        for given in &plan.credentials {
            let bytes = match given.source() {
                Some(CredentialSource::Value(text)) => text.as_bytes().to_vec(),
                Some(CredentialSource::SshKey(name)) => {
                    names.insert(name.to_owned());
                    public_line(name, &mut luggage, folder)?.into_bytes()
                }
                Some(CredentialSource::Certificate(name)) => {
                    let made = certificates.of(name, folder)?;
                    luggage
                        .certificates
                        .insert(name.to_owned(), made.der.clone());
                    made.pem.clone().into_bytes()
                }
                Some(CredentialSource::PrivateKey(name)) => {
                    certificates.of(name, folder)?.key.clone()
                }
                None => Vec::new(),
            };
            luggage.credentials.push((given.name.clone(), bytes));
        }
    }
    for name in names {
        public_line(&name, &mut luggage, folder)?;
    }
    Ok(luggage)
}

fn failed(what: &str) -> impl Fn(anyhow::Error) -> Failure {
    let what = format!("cannot make {what} for the test");
    move |error| Failure::new(Exit::Internal, error).context(what.clone())
}

fn generate(name: &str) -> Result<(Key, PublicKey), Failure> {
    let wrong = failed("a key");
    let key = Key::generate(name, Purpose::Development, Algorithm::EcdsaP256Sha256);
    let key = key.map_err(|error| wrong(error.into()))?;
    let public = PublicKey::parse(key.public().to_der()).map_err(|error| wrong(error.into()))?;
    Ok((key, public))
}

/// The public half of an SSH key; its private half is made the first time.
fn public_line(name: &str, luggage: &mut Luggage, folder: &Path) -> Result<String, Failure> {
    let wrong = failed("an SSH key");
    let line = folder.join(format!("{name}.ssh.pub"));
    if luggage.identities.contains_key(name) {
        return fs::read_to_string(&line).map_err(|error| wrong(error.into()));
    }
    fs::create_dir_all(folder).map_err(|error| wrong(error.into()))?;
    let (key, public) = generate(name)?;
    let path = folder.join(format!("{name}.ssh"));
    key.save_private(&path, None)
        .map_err(|error| wrong(error.into()))?;
    let text = openssh::public_line(&public, name);
    let text = text.ok_or_else(|| wrong(anyhow::anyhow!("OpenSSH has no such keys")))? + "\n";
    fs::write(&line, &text).map_err(|error| wrong(error.into()))?;
    luggage.identities.insert(name.to_owned(), path);
    Ok(text)
}

/// Certificates of one boot, by name.
#[derive(Default)]
struct Certificates(std::collections::BTreeMap<String, Made>);

/// A certificate and its key, PEM.
struct Made {
    der: Vec<u8>,
    pem: String,
    key: Vec<u8>,
}

impl Certificates {
    /// The certificate of this name, made the first time.
    fn of(&mut self, name: &str, folder: &Path) -> Result<&Made, Failure> {
        if !self.0.contains_key(name) {
            let made = certificate(name, folder)?;
            self.0.insert(name.to_owned(), made);
        }
        Ok(&self.0[name])
    }
}

fn certificate(name: &str, folder: &Path) -> Result<Made, Failure> {
    let wrong = failed("a certificate");
    fs::create_dir_all(folder).map_err(|error| wrong(error.into()))?;
    let (key, public) = generate(name)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let request = Request {
        name,
        key: &public,
        not_before: now.saturating_sub(LATITUDE),
        not_after: now + LATITUDE,
    };
    let unsigned = request.prepare().map_err(|error| wrong(error.into()))?;
    let signature = baker_ship::Signer::sign(&key, unsigned.message());
    let signature = signature.map_err(|error| wrong(error.into()))?;
    let signed = unsigned
        .attach(&signature.bytes)
        .map_err(|error| wrong(error.into()))?;
    let path = folder.join(format!("{name}.tls"));
    key.save_private(&path, None)
        .map_err(|error| wrong(error.into()))?;
    Ok(Made {
        der: signed.der().to_vec(),
        pem: certificate_to_pem(signed.der()).map_err(|error| wrong(error.into()))?,
        key: fs::read(&path).map_err(|error| wrong(error.into()))?,
    })
}
