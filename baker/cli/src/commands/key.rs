//! `baker key`

use std::path::PathBuf;

use baker_ship::{Key, KeyError, Passphrase, Purpose};

use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Holds the passphrase of a private key; never a flag, which every user of the machine could see.
pub const PASSPHRASE_VARIABLE: &str = "BAKER_KEY_PASSPHRASE";

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make an Ed25519 signing key: NAME (private, mode 0600) and NAME.pub
    New(New),
}

/// Arguments of `key new`.
#[derive(Debug, clap::Args)]
pub struct New {
    /// File of the private key
    name: PathBuf,
    /// Mark the key, and all that it signs, as a local development key
    #[arg(long)]
    development: bool,
    /// Encrypt it with the passphrase in the variable BAKER_KEY_PASSPHRASE
    #[arg(long)]
    passphrase: bool,
}

/// Runs it.
pub fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    let Command::New(args) = command;
    let purpose = if args.development {
        Purpose::Development
    } else {
        Purpose::Release
    };
    let name = args
        .name
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("baker");
    let passphrase = if args.passphrase {
        Some(wanted_passphrase()?)
    } else {
        None
    };
    let files = Key::generate(name, purpose)
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
