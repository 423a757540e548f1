//! Signing by keys that are elsewhere: one file of everything that is to be signed, and why.
//!
//! ```text
//! here       baker sign DRAFT --request FILE        writes the file
//! elsewhere  a person reads it;                     adds signatures to it
//!            baker sign FILE --key KEY
//! here       baker sign DRAFT --apply FILE          takes them back, each checked
//! ```
//! What comes back is a [`Reply`] per key, a [`Signer`] like any other: so a release signed
//! elsewhere has the very bytes of one that was signed here. Another tool may sign as well: each
//! item holds the bytes to sign, and a signature is the public key and base64 beside them.

use std::collections::BTreeMap;

use baker_model::{Digest, Manifest};
use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::names::MANIFEST;
use crate::public::{PublicKey, PublicKeyError};
use crate::signer::{self, Signature, Signer, SigningError};
use crate::statements::Standing;

/// The version of the file that this baker writes.
pub const REQUEST_VERSION: u32 = 1;

/// Everything that is to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Request {
    /// Format version, [`REQUEST_VERSION`].
    pub request_version: u32,
    /// What it is about, for people; the bytes of the items are what counts.
    pub about: Vec<String>,
    /// What is to be signed.
    pub items: Vec<Item>,
}

/// One thing that is to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Item {
    /// The file of the release that it is for.
    pub file: String,
    /// Why it is to be signed.
    pub why: String,
    /// What kind of key has to sign.
    pub by: KeyUse,
    /// SHA-256 of the bytes.
    pub sha256: Digest,
    /// The bytes to sign.
    #[serde(flatten)]
    pub message: Message,
    /// The signatures so far.
    #[serde(default)]
    pub signatures: Vec<ItemSignature>,
}

/// What a key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyUse {
    /// Manifests and statements.
    Release,
    /// Programs that firmware starts.
    Boot,
}

/// The bytes to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The bytes of this text in UTF-8.
    Text(String),
    /// The bytes in base64.
    Base64(String),
}

/// A signature over the bytes of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ItemSignature {
    /// Name of the key, for people.
    pub name: String,
    /// The text of the key's `.pub` file.
    pub public_key: String,
    /// The signature in base64, as its [`Algorithm`] says that it is written.
    pub signature: String,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Not the JSON that a request is.
    #[error("cannot parse the signing request")]
    Syntax(#[source] serde_json::Error),
    /// A request of another baker.
    #[error("the signing request has version {found}, this baker reads version {REQUEST_VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The digest of an item is not that of its bytes.
    #[error("the digest of the item `{file}` is not that of its bytes")]
    Digest {
        /// The file that it is for.
        file: String,
    },
    /// Bytes that are no base64.
    #[error("the item `{file}` holds something that is not base64")]
    Base64 {
        /// The file that it is for.
        file: String,
    },
    /// A public key that is none.
    #[error("the item `{file}` holds a signature by no key")]
    Key {
        /// The file that it is for.
        file: String,
        /// What is wrong.
        #[source]
        source: PublicKeyError,
    },
    /// A signature that is not by its key over its bytes.
    #[error("the signature in the name of `{name}` over `{file}` is not by that key")]
    Wrong {
        /// Name of the key.
        name: String,
        /// The file that it is for.
        file: String,
    },
    /// Nobody has signed.
    #[error("the signing request holds no signature")]
    Unsigned,
    /// The key does not sign.
    #[error("cannot sign `{file}`")]
    Signing {
        /// The file that it is for.
        file: String,
        /// Why.
        #[source]
        source: SigningError,
    },
}

impl Item {
    /// An item that nobody has signed.
    #[must_use]
    pub fn new(file: &str, why: &str, by: KeyUse, message: &[u8]) -> Self {
        Self {
            file: file.to_owned(),
            why: why.to_owned(),
            by,
            sha256: Digest::of(message),
            message: match std::str::from_utf8(message) {
                Ok(text) => Message::Text(text.to_owned()),
                Err(_) => Message::Base64(Base64::encode_string(message)),
            },
            signatures: Vec::new(),
        }
    }

    fn bytes(&self) -> Result<Vec<u8>, RequestError> {
        let bytes = match &self.message {
            Message::Text(text) => text.clone().into_bytes(),
            Message::Base64(text) => {
                Base64::decode_vec(text).map_err(|_| RequestError::Base64 {
                    file: self.file.clone(),
                })?
            }
        };
        match Digest::of(&bytes) == self.sha256 {
            true => Ok(bytes),
            false => Err(RequestError::Digest {
                file: self.file.clone(),
            }),
        }
    }

    /// The signatures, each checked.
    fn checked(&self) -> Result<Vec<(PublicKey, Signature)>, RequestError> {
        let message = self.bytes()?;
        let check = |entry: &ItemSignature| {
            let file = || self.file.clone();
            let key = PublicKey::parse(&entry.name, &entry.public_key).map_err(|source| {
                RequestError::Key {
                    file: file(),
                    source,
                }
            })?;
            let bytes = Base64::decode_vec(entry.signature.trim())
                .map_err(|_| RequestError::Base64 { file: file() })?;
            if !key.accepts(&message, &bytes) {
                return Err(RequestError::Wrong {
                    name: entry.name.clone(),
                    file: file(),
                });
            }
            let algorithm = key.algorithm();
            Ok((key, Signature { algorithm, bytes }))
        };
        self.signatures.iter().map(check).collect()
    }
}

impl Request {
    /// A request for these items.
    #[must_use]
    pub fn new(about: Vec<String>, items: Vec<Item>) -> Self {
        Self {
            request_version: REQUEST_VERSION,
            about,
            items,
        }
    }

    /// What is to be signed of a release with this manifest and these statements.
    #[must_use]
    pub(crate) fn of_release(manifest: &Manifest, statements: &[Standing]) -> Self {
        let why = "it names every file of the release by digest: who signs it vouches for them all";
        let bytes = manifest.to_bytes();
        let mut items = vec![Item::new(MANIFEST, why, KeyUse::Release, &bytes)];
        for statement in statements {
            let message = statement.envelope.message();
            items.push(Item::new(
                statement.file,
                statement.says,
                KeyUse::Release,
                &message,
            ));
        }
        Self::new(about(manifest), items)
    }

    /// Adds the signature of `signer` to every item that its key may sign; gives their number.
    ///
    /// # Errors
    /// An item is damaged, or the signer gives no signature.
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<usize, RequestError> {
        let public = signer.public();
        let algorithm = public.algorithm();
        let mut count = 0;
        for item in &mut self.items {
            let message = item.bytes()?;
            let fits = match item.by {
                KeyUse::Release => algorithm.signs_releases(),
                KeyUse::Boot => algorithm.signs_boot_programs(),
            };
            if !fits {
                continue;
            }
            let signed = match item.by {
                KeyUse::Release => signer::for_release(signer, &message),
                KeyUse::Boot => signer.sign(&message),
            };
            let signature = signed.map_err(|source| RequestError::Signing {
                file: item.file.clone(),
                source,
            })?;
            let public_key = public.to_text();
            item.signatures
                .retain(|other| other.public_key != public_key);
            item.signatures.push(ItemSignature {
                name: public.name().to_owned(),
                public_key,
                signature: Base64::encode_string(&signature.bytes),
            });
            count += 1;
        }
        Ok(count)
    }

    /// Whoever signed, each as a signer that knows what it has signed and nothing else.
    ///
    /// # Errors
    /// Nobody has signed, or a signature is not what it says.
    pub fn replies(&self) -> Result<Vec<Reply>, RequestError> {
        let mut replies: BTreeMap<Digest, Reply> = BTreeMap::new();
        for item in &self.items {
            for (public, signature) in item.checked()? {
                let reply = replies.entry(public.id()).or_insert_with(|| Reply {
                    public,
                    signatures: BTreeMap::new(),
                });
                reply.signatures.insert(item.sha256, signature);
            }
        }
        match replies.is_empty() {
            true => Err(RequestError::Unsigned),
            false => Ok(replies.into_values().collect()),
        }
    }

    /// The bytes of the file. Ends in a newline.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a request holds only plain data");
        bytes.push(b'\n');
        bytes
    }

    /// Parses the bytes of a file.
    ///
    /// # Errors
    /// Not a request, or one of an unknown version.
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        let request: Self = serde_json::from_slice(bytes).map_err(RequestError::Syntax)?;
        match request.request_version {
            REQUEST_VERSION => Ok(request),
            found => Err(RequestError::Version { found }),
        }
    }
}

/// What a person should know who is asked to sign a release.
fn about(manifest: &Manifest) -> Vec<String> {
    let mut lines = vec![
        format!(
            "release {} {} for {}",
            manifest.name, manifest.version, manifest.architecture
        ),
        format!("root hash {}", manifest.root_hash),
        format!(
            "{} files, {} packages, recipe {}, lock {}",
            manifest.files.len(),
            manifest.packages.len(),
            manifest.recipe.short(),
            manifest.lock.short()
        ),
    ];
    lines.push(match &manifest.source {
        None => "from no commit".to_owned(),
        Some(source) if source.dirty => format!("from commit {} AND CHANGES", source.commit),
        Some(source) => format!("from commit {}", source.commit),
    });
    let tests = manifest.tests.iter();
    lines.extend(tests.map(|test| format!("test `{}`: {}", test.name, test.verdict)));
    let waivers = manifest.waivers.iter();
    lines.extend(waivers.map(|waiver| format!("WAIVED {}: {}", waiver.what, waiver.reason)));
    lines
}

/// A key that signed elsewhere.
#[derive(Debug, Clone)]
pub struct Reply {
    public: PublicKey,
    /// By the digest of what was signed.
    signatures: BTreeMap<Digest, Signature>,
}

impl Reply {
    /// How its key signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.public.algorithm()
    }
}

impl Signer for Reply {
    fn public(&self) -> PublicKey {
        self.public.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SigningError> {
        let found = self.signatures.get(&Digest::of(message)).cloned();
        found.ok_or_else(|| SigningError::NotSigned {
            name: self.public.name().to_owned(),
        })
    }
}
