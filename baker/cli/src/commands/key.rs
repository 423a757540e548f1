//! `baker key`

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use baker_formats::efivars::KeyRole;
use baker_ship::key_source::PASSPHRASE_VARIABLE;
use baker_ship::{Algorithm, Key, KeyError, Passphrase, Purpose, SigningError};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::NewKeys;

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a signing key: NAME (private, mode 0600) and NAME.pub
    New(New),
    /// Make the three keys of Secure Boot (PK, KEK, db), their certificates, and
    /// the files that enrol them on a machine
    SecureBoot(SecureBoot),
    /// Let a key name the one that takes its place, for trust folders
    Rotate(super::key_lists::Rotate),
    /// Take back what a key or a release is believed, for trust folders
    Revoke(super::key_lists::Revoke),
}

/// Arguments of `key secure-boot`.
#[derive(Debug, clap::Args)]
pub struct SecureBoot {
    /// Folder that gets them; must not be there yet
    folder: PathBuf,
    /// Whose they are; stands in the certificates
    #[arg(long, default_value = "baker", value_name = "NAME")]
    owner: String,
    /// How they sign
    #[arg(long, default_value = "rsa", value_name = "ALGORITHM")]
    algorithm: BootAlgorithm,
    /// Mark the certificates as those of a local development key
    #[arg(long)]
    development: bool,
    /// Encrypt the private keys with the passphrase in the variable
    /// BAKER_KEY_PASSPHRASE
    #[arg(long)]
    passphrase: bool,
}

/// How boot programs are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum BootAlgorithm {
    /// RSA with 2048 bits, SHA-256: what all firmware takes
    Rsa,
    /// ECDSA on P-256, SHA-256: smaller, for firmware that takes it
    EcdsaP256,
}

/// How releases are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ReleaseAlgorithm {
    /// Ed25519
    Ed25519,
    /// ECDSA on P-256, SHA-256: for tokens that know no other
    EcdsaP256,
}

/// Arguments of `key new`.
#[derive(Debug, clap::Args)]
pub struct New {
    /// File of the private key
    name: PathBuf,
    /// How it signs
    #[arg(long, default_value = "ed25519", value_name = "ALGORITHM")]
    algorithm: ReleaseAlgorithm,
    /// Mark the key, and all that it signs, as a local development key
    #[arg(long)]
    development: bool,
    /// Encrypt it with the passphrase in the variable BAKER_KEY_PASSPHRASE
    #[arg(long)]
    passphrase: bool,
}

/// Runs it.
pub fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::New(args) => new(args, context),
        Command::SecureBoot(args) => secure_boot(args, context),
        Command::Rotate(args) => super::key_lists::rotate(args, context),
        Command::Revoke(args) => super::key_lists::revoke(args, context),
    }
}

fn purpose(development: bool) -> Purpose {
    if development {
        Purpose::Development
    } else {
        Purpose::Release
    }
}

fn secure_boot(args: &SecureBoot, context: &Context) -> Result<(), Failure> {
    let passphrase = args.passphrase.then(wanted_passphrase).transpose()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let keys = NewKeys {
        folder: &args.folder,
        owner: &args.owner,
        purpose: purpose(args.development),
        algorithm: match args.algorithm {
            BootAlgorithm::Rsa => Algorithm::RsaPkcs1Sha256,
            BootAlgorithm::EcdsaP256 => Algorithm::EcdsaP256Sha256,
        },
        passphrase: passphrase.as_ref(),
        now: now.map_or(0, |now| now.as_secs()),
    }
    .make()?;
    let mut text = args.folder.display().to_string();
    let mut value = serde_json::json!({ "folder": args.folder });
    for role in [KeyRole::Platform, KeyRole::Exchange, KeyRole::Database] {
        let certificate = keys.get(role);
        let (name, fingerprint) = (certificate.name(), certificate.fingerprint());
        text.push_str(&format!("\n{fingerprint}  {name}"));
        value[role.name()] = serde_json::json!({ "name": name, "sha256": fingerprint });
    }
    context.answer(&text, &value)
}

fn new(args: &New, context: &Context) -> Result<(), Failure> {
    let purpose = purpose(args.development);
    let name = args
        .name
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("baker");
    let passphrase = args.passphrase.then(wanted_passphrase).transpose()?;
    let algorithm = match args.algorithm {
        ReleaseAlgorithm::Ed25519 => Algorithm::Ed25519,
        ReleaseAlgorithm::EcdsaP256 => Algorithm::EcdsaP256Sha256,
    };
    let files = Key::generate(name, purpose, algorithm)
        .and_then(|key| {
            Ok((
                key.public().id(),
                key.save(&args.name, passphrase.as_ref())?,
            ))
        })
        .map_err(key_failure);
    let (id, files) = files?;
    let text = format!(
        "{} (private)\n{} (public, {id})",
        files.private.display(),
        files.public.display()
    );
    let value = serde_json::json!({
        "private": files.private, "public": files.public, "key-id": id,
    });
    context.answer(&text, &value)
}

fn wanted_passphrase() -> Result<Passphrase, Failure> {
    let missing = || {
        Failure::message(Exit::Usage, "no passphrase is given")
            .help("put it into the variable BAKER_KEY_PASSPHRASE")
    };
    let text = std::env::var(PASSPHRASE_VARIABLE).map_err(|_| missing())?;
    Passphrase::new(text).map_err(key_failure)
}

/// A key's own error, with its own mend.
pub fn key_failure(error: KeyError) -> Failure {
    let help = error.help();
    Failure::new(Exit::Publish, error).help_if(help)
}

/// The error of a signer, with its own mend.
pub fn signing_failure(error: SigningError) -> Failure {
    let help = error.help();
    Failure::new(Exit::Publish, error).help_if(help)
}
