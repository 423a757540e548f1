//! The only place that knows OpenPGP: takes an inline-signed text and keyrings, gives the bytes
//! that were signed and who signed them. Never gives text that lies outside the signature.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sequoia_openpgp::cert::CertParser;
use sequoia_openpgp::cert::amalgamation::ValidAmalgamation;
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::parse::stream::{
    GoodChecksum, MessageLayer, MessageStructure, VerificationHelper, VerifierBuilder,
};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::RevocationStatus;
use sequoia_openpgp::{Cert, KeyHandle};

/// The certificates of named keyrings.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    certificates: Vec<Cert>,
}

/// A keyring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file cannot be read.
    #[error("cannot read the keyring {}", path.display())]
    Read {
        /// The keyring.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds no usable key.
    #[error("the keyring {} holds no OpenPGP key", path.display())]
    Empty {
        /// The keyring.
        path: PathBuf,
    },
}

/// A text whose signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Exactly the bytes that were signed.
    pub content: Vec<u8>,
    /// Fingerprints of the signing certificates' primary keys, upper-case hex, sorted.
    pub signed_by: Vec<String>,
}

/// Why a text is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no inline signature at all.
    #[error("it carries no signature")]
    Unsigned,
    /// There are signatures, none of which is good.
    #[error("it has no good signature from a known key: {}", reasons.join("; "))]
    NoGoodSignature {
        /// Why each signature does not count.
        reasons: Vec<String>,
    },
    /// The OpenPGP structure is broken.
    #[error("its signature cannot be read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

impl Keyring {
    /// Reads keyring files, binary or armoured.
    ///
    /// # Errors
    /// A file that cannot be read or that holds no key.
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Self, KeyringError> {
        let mut certificates = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let bytes = std::fs::read(path).map_err(|source| KeyringError::Read {
                path: path.to_owned(),
                source,
            })?;
            let before = certificates.len();
            // A keyring may hold keys of kinds that this program does not know; they are no
            // reason to refuse the others.
            if let Ok(parser) = CertParser::from_bytes(&bytes) {
                certificates.extend(parser.filter_map(Result::ok));
            }
            if certificates.len() == before {
                return Err(KeyringError::Empty {
                    path: path.to_owned(),
                });
            }
        }
        Ok(Self { certificates })
    }

    /// Checks an inline-signed text at the time `now` (seconds since 1970-01-01 UTC).
    ///
    /// One good signature is enough, as archives are signed with old and new keys side by side.
    /// The signing key must be alive and not revoked both when it signed and now.
    ///
    /// # Errors
    /// No signature, or none that is good.
    pub fn verify(&self, text: &[u8], now: i64) -> Result<Signed, SignatureError> {
        const ARMOUR: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";
        if !text.windows(ARMOUR.len()).any(|window| window == ARMOUR) {
            return Err(SignatureError::Unsigned);
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(now).unwrap_or(0));
        let policy = StandardPolicy::new();
        let mut outcome = Outcome::default();
        let helper = Helper {
            keyring: self,
            policy: &policy,
            now,
            outcome: &mut outcome,
        };
        let read = VerifierBuilder::from_bytes(text)
            .and_then(|builder| builder.with_policy(&policy, now, helper))
            .and_then(|mut verifier| {
                let mut content = Vec::new();
                verifier.read_to_end(&mut content)?;
                Ok(content)
            });
        match read {
            Ok(content) if !outcome.signed_by.is_empty() => {
                outcome.signed_by.sort();
                outcome.signed_by.dedup();
                Ok(Signed {
                    content,
                    signed_by: outcome.signed_by,
                })
            }
            _ if !outcome.reasons.is_empty() => Err(SignatureError::NoGoodSignature {
                reasons: outcome.reasons,
            }),
            Ok(_) => Err(SignatureError::Unsigned),
            Err(error) => Err(SignatureError::Malformed {
                reason: error.to_string(),
            }),
        }
    }
}

#[derive(Default)]
struct Outcome {
    signed_by: Vec<String>,
    reasons: Vec<String>,
}

struct Helper<'a> {
    keyring: &'a Keyring,
    policy: &'a StandardPolicy<'a>,
    now: SystemTime,
    outcome: &'a mut Outcome,
}

impl VerificationHelper for Helper<'_> {
    fn get_certs(&mut self, ids: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        let wanted = |cert: &&Cert| {
            cert.keys()
                .any(|key| ids.iter().any(|id| id.aliases(key.key().key_handle())))
        };
        Ok(self
            .keyring
            .certificates
            .iter()
            .filter(wanted)
            .cloned()
            .collect())
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> sequoia_openpgp::Result<()> {
        let mut layers = structure.into_iter();
        let (Some(MessageLayer::SignatureGroup { results }), None) = (layers.next(), layers.next())
        else {
            return Err(io::Error::other("not a plain signed text").into());
        };
        for result in results {
            match result
                .map_err(|error| error.to_string())
                .and_then(|good| self.still_good(&good))
            {
                Ok(fingerprint) => self.outcome.signed_by.push(fingerprint),
                Err(reason) => self.outcome.reasons.push(reason),
            }
        }
        if self.outcome.signed_by.is_empty() {
            return Err(io::Error::other("no good signature").into());
        }
        Ok(())
    }
}

impl Helper<'_> {
    /// The library judges a key at the time of the signature; an archive key must be valid now,
    /// too, or a stolen retired key could sign with an old date.
    fn still_good(&self, good: &GoodChecksum<'_>) -> Result<String, String> {
        let certificate = good.ka.cert();
        let fingerprint = certificate.fingerprint().to_hex();
        let say = |what: &str| format!("key {fingerprint} {what}");
        let valid = certificate
            .with_policy(self.policy, self.now)
            .map_err(|error| say(&format!("is not valid: {error}")))?;
        valid.alive().map_err(|_| say("has expired"))?;
        if matches!(valid.revocation_status(), RevocationStatus::Revoked(_)) {
            return Err(say("is revoked"));
        }
        let handle = good.ka.key().fingerprint();
        let key = valid.keys().find(|key| key.key().fingerprint() == handle);
        let key = key.ok_or_else(|| say("no longer binds the signing key"))?;
        key.alive()
            .map_err(|_| say("has a signing key that has expired"))?;
        if matches!(key.revocation_status(), RevocationStatus::Revoked(_)) {
            return Err(say("has a signing key that is revoked"));
        }
        Ok(fingerprint)
    }
}
