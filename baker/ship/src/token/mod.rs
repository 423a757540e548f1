//! A key in a PKCS#11 token: a smart card, a hardware security module, SoftHSM.
//!
//! The only place that knows the crate `cryptoki`. The module is loaded at run time; the PIN comes
//! from a file or the environment. The token must also hold the public key, under the same label
//! or id: baker wants to know for whom it signs before it asks anybody to.

mod uri;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use p256::ecdsa;
use ring::digest;
use rsa::pkcs1::EncodeRsaPublicKey as _;
use rsa::{BigUint, RsaPublicKey};

use crate::algorithm::Algorithm;
use crate::key::Passphrase;
use crate::pem::{self, PemError};
use crate::public::{Material, PublicKey, Purpose};
use crate::signer::{Signature, Signer, SigningError};

pub use uri::{TokenUri, UriError};

/// A private key in a token, with the session that may use it.
pub struct Token {
    public: PublicKey,
    session: Mutex<Session>,
    key: ObjectHandle,
}

/// A token does not give what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Nobody says which module talks to the token.
    #[error("no PKCS#11 module is named")]
    NoModule,
    /// The module cannot be loaded or refuses to start.
    #[error("cannot use the PKCS#11 module {}", path.display())]
    Module {
        /// The module.
        path: PathBuf,
        /// Why.
        #[source]
        source: Error,
    },
    /// No token, or more than one, is as the URI says.
    #[error("{found} tokens are as the PKCS#11 URI says, one must be")]
    Tokens {
        /// How many are.
        found: usize,
    },
    /// No key, or more than one, is as the URI says.
    #[error("{found} {kind} keys of the token are as the PKCS#11 URI says, one must be")]
    Keys {
        /// How many are.
        found: usize,
        /// `private` or `public`.
        kind: &'static str,
    },
    /// The token refuses the PIN, or wants one.
    #[error("the token does not let us in")]
    Login(#[source] Error),
    /// The token fails at something.
    #[error("the token cannot {doing}")]
    Refused {
        /// What it was asked.
        doing: &'static str,
        /// Why.
        #[source]
        source: Error,
    },
    /// The key is not one that baker signs with.
    #[error("the token's key cannot be used")]
    PublicKey(#[source] PemError),
}

impl TokenError {
    /// What a person can do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::NoModule => {
                "name its file: `?module-path=FILE` in the URI, or BAKER_PKCS11_MODULE"
            }
            Self::Tokens { .. } => "name the token by its label: `pkcs11:token=LABEL;object=KEY`",
            Self::Keys { .. } => {
                "name the key by `object=LABEL` and `id=%01`; the public key must lie beside it"
            }
            Self::Login(_) => {
                "give the PIN in a file (`?pin-source=file:/FILE`) or BAKER_PKCS11_PIN"
            }
            Self::Module { .. } | Self::Refused { .. } | Self::PublicKey(_) => return None,
        };
        Some(help.to_owned())
    }
}

impl Token {
    /// Opens the key that `uri` names.
    ///
    /// `module` counts when the URI names none.
    ///
    /// # Errors
    /// The token is not there, refuses `pin`, or has no such key.
    pub fn open(
        uri: &TokenUri,
        module: Option<&Path>,
        pin: Option<&Passphrase>,
    ) -> Result<Self, TokenError> {
        let path = uri.module.as_deref().or(module);
        let context = start(path.ok_or(TokenError::NoModule)?)?;
        let slot = find_slot(&context, uri)?;
        let refused = |doing| move |source| TokenError::Refused { doing, source };
        let session = context
            .open_ro_session(slot)
            .map_err(refused("open a session"))?;
        if let Some(pin) = pin {
            log_in(&session, pin)?;
        }
        let key = find_key(&session, uri, ObjectClass::PRIVATE_KEY, "private")?;
        let public = find_key(&session, uri, ObjectClass::PUBLIC_KEY, "public")?;
        let material = material(&session, public)?;
        let name = uri.object.as_deref().or(uri.token.as_deref());
        let public = PublicKey::new(name.unwrap_or("token"), Purpose::Release, material);
        Ok(Self {
            public: public.map_err(TokenError::PublicKey)?,
            session: Mutex::new(session),
            key,
        })
    }
}

fn start(path: &Path) -> Result<Pkcs11, TokenError> {
    let failed = |source| TokenError::Module {
        path: path.to_owned(),
        source,
    };
    let context = Pkcs11::new(path).map_err(failed)?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // A second key of the same module.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(context),
        Err(source) => Err(failed(source)),
    }
}

fn find_slot(context: &Pkcs11, uri: &TokenUri) -> Result<Slot, TokenError> {
    let refused = |source| TokenError::Refused {
        doing: "list its slots",
        source,
    };
    let mut found = Vec::new();
    for slot in context
        .get_slots_with_initialized_token()
        .map_err(refused)?
    {
        let info = context.get_token_info(slot).map_err(refused)?;
        let fits = |wanted: &Option<String>, is: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == is.trim())
        };
        if fits(&uri.token, info.label()) && fits(&uri.serial, info.serial_number()) {
            found.push(slot);
        }
    }
    match found[..] {
        [slot] => Ok(slot),
        _ => Err(TokenError::Tokens { found: found.len() }),
    }
}

fn log_in(session: &Session, pin: &Passphrase) -> Result<(), TokenError> {
    let pin = AuthPin::new(pin.as_str().into());
    match session.login(UserType::User, Some(&pin)) {
        // Login holds for all sessions of a process with a token.
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(source) => Err(TokenError::Login(source)),
    }
}

fn find_key(
    session: &Session,
    uri: &TokenUri,
    class: ObjectClass,
    kind: &'static str,
) -> Result<ObjectHandle, TokenError> {
    let mut template = vec![Attribute::Token(true), Attribute::Class(class)];
    template.extend(
        uri.object
            .clone()
            .map(|label| Attribute::Label(label.into())),
    );
    template.extend(uri.id.clone().map(Attribute::Id));
    let found = session
        .find_objects(&template)
        .map_err(|source| TokenError::Refused {
            doing: "look for the key",
            source,
        })?;
    match found[..] {
        [key] => Ok(key),
        _ => Err(TokenError::Keys {
            found: found.len(),
            kind,
        }),
    }
}

/// What the attributes of a public key say.
fn material(session: &Session, key: ObjectHandle) -> Result<Material, TokenError> {
    let wanted = [
        AttributeType::KeyType,
        AttributeType::EcPoint,
        AttributeType::Modulus,
        AttributeType::PublicExponent,
    ];
    let attributes =
        session
            .get_attributes(key, &wanted)
            .map_err(|source| TokenError::Refused {
                doing: "show the public key",
                source,
            })?;
    let (mut kind, mut point, mut modulus, mut exponent) = (None, None, None, None);
    for attribute in attributes {
        match attribute {
            Attribute::KeyType(found) => kind = Some(found),
            Attribute::EcPoint(bytes) => point = Some(bytes),
            Attribute::Modulus(bytes) => modulus = Some(bytes),
            Attribute::PublicExponent(bytes) => exponent = Some(bytes),
            _ => {}
        }
    }
    let unknown = || TokenError::PublicKey(PemError::Algorithm);
    let der = match (kind, point, modulus, exponent) {
        (Some(KeyType::EC | KeyType::EC_EDWARDS), Some(point), ..) => curve_der(&point),
        (Some(KeyType::RSA), _, Some(modulus), Some(exponent)) => rsa_der(&modulus, &exponent),
        _ => None,
    };
    pem::decode_public_der(&der.ok_or_else(unknown)?).map_err(TokenError::PublicKey)
}

/// SubjectPublicKeyInfo of a point. PKCS#11 wants it in an OCTET STRING, not every token has it so;
/// its length tells the two curves apart, and a point of another curve fits neither.
fn curve_der(point: &[u8]) -> Option<Vec<u8>> {
    let point = match point {
        [4, length, inside @ ..] if usize::from(*length) == inside.len() => inside,
        _ => point,
    };
    pem::curve_der(point)
}

fn rsa_der(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let number = BigUint::from_bytes_be;
    let key = RsaPublicKey::new(number(modulus), number(exponent)).ok()?;
    let key = key.to_pkcs1_der().ok()?;
    pem::encode_public_der(&Material::Rsa(key.as_bytes().into())).ok()
}

impl Signer for Token {
    fn public(&self) -> PublicKey {
        self.public.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, SigningError> {
        let algorithm = self.public.algorithm();
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let sign =
            |mechanism: Mechanism<'_>, bytes: &[u8]| session.sign(&mechanism, self.key, bytes);
        let signed = match algorithm {
            Algorithm::Ed25519 => sign(
                Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)),
                message,
            ),
            // Many tokens, SoftHSM among them, know ECDSA only without a hash.
            Algorithm::EcdsaP256Sha256 => sign(
                Mechanism::Ecdsa,
                digest::digest(&digest::SHA256, message).as_ref(),
            ),
            Algorithm::RsaPkcs1Sha256 => sign(Mechanism::Sha256RsaPkcs, message),
        };
        let name = || self.public.name().to_owned();
        let mut bytes = signed.map_err(|source| SigningError::Token {
            name: name(),
            source: Box::new(TokenError::Refused {
                doing: "sign",
                source,
            }),
        })?;
        if algorithm == Algorithm::EcdsaP256Sha256 {
            // Tokens give the two numbers side by side.
            let signature = ecdsa::Signature::from_slice(&bytes);
            let signature = signature.map_err(|_| SigningError::Wrong { name: name() })?;
            bytes = signature.to_der().as_bytes().to_vec();
        }
        Ok(Signature { algorithm, bytes })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}
