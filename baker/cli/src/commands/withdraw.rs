//! `baker withdraw`

use std::path::PathBuf;

use baker_ship::said::{Withdrawal, withdraw};
use baker_ship::target::{Place, Reference};

use crate::context::Context;
use crate::exit::Failure;
use crate::pipeline::openpgp::Fingerprint;
use crate::pipeline::{self, say_failure, sysupdate};

/// Says under a signature that a release must not be used any more. It stays
/// where it is, but is neither promoted nor pulled unless somebody insists.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The release: PLACE/NAME:VERSION or PLACE/NAME@CHANNEL
    release: Reference,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Private key to sign with: a file, pkcs11:..., or command:PROGRAM
    #[arg(long, env = "BAKER_KEY", value_name = "KEY")]
    key: Option<String>,
    /// Public key whose signatures count; may be repeated [default: those of
    /// the config file]
    #[arg(long, env = "BAKER_TRUST", value_name = "FILE", value_delimiter = ',')]
    trust: Vec<PathBuf>,
    /// Who withdraws it [default: the name of the key]
    #[arg(long, env = "BAKER_AUTHOR", value_name = "NAME")]
    author: Option<String>,
    /// OpenPGP key that signs the list from which machines update themselves, by
    /// fingerprint: a key of your GnuPG [default: that of the config file]
    #[arg(long, env = "BAKER_GPG_KEY", value_name = "FINGERPRINT")]
    gpg_key: Option<Fingerprint>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let trust = context.trust(&args.trust)?;
    let key = context.key(args.key.as_deref())?;
    let target = pipeline::open_target(&args.release.place, context)?;
    let release = pipeline::settle(&args.release, target.as_ref(), &trust, context)?;
    let gpg_key = context.gpg_key(args.gpg_key.as_ref())?;
    if let Place::Folder(releases) = &args.release.place {
        sysupdate::refuse_unsigned(releases, release.name(), gpg_key.as_ref())?;
    }
    let signer = key.public();
    let withdrawal = Withdrawal {
        reason: args.reason.clone(),
        author: args
            .author
            .clone()
            .unwrap_or_else(|| signer.name().to_owned()),
        day: pipeline::today(),
    };
    let value = serde_json::json!({ "release": release.to_string(), "withdrawal": withdrawal });
    withdraw(target.as_ref(), &release, withdrawal, key.as_ref())
        .map_err(|error| say_failure(error, context))?;
    if let Place::Folder(releases) = &args.release.place {
        let version = (release.name(), release.version());
        sysupdate::withdraw(releases, version, gpg_key.as_ref())?;
    }
    context.answer(&format!("{release} is withdrawn"), &value)
}
