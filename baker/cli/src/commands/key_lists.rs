//! `baker key rotate` and `baker key revoke`: what a key says of keys.

use std::fs;
use std::path::{Path, PathBuf};

use baker_model::Digest;
use baker_model::plan::Day;
use baker_ship::dsse::Envelope;
use baker_ship::trust::revocation::{self, Revocations, RevokedKey, Withdrawn};
use baker_ship::trust::rotation::{self, Rotation};
use baker_ship::{Signer, Trust};

use super::key::signing_failure;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline;

/// Arguments of `key rotate`.
#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// Public file (.pub) of the new key
    new: PathBuf,
    /// The old private key, which names the new one: FILE, pkcs11:URI or
    /// command:PROGRAM
    #[arg(long, env = "BAKER_KEY", value_name = "KEY")]
    key: Option<String>,
    /// Last day of releases that the old key may sign, YYYY-MM-DD [default: none]
    #[arg(long, value_name = "DAY", value_parser = parse_day)]
    retire: Option<Day>,
    /// File to write, for trust folders; its name ends in .rotation.json
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Arguments of `key revoke`.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// Private key that signs the list: FILE, pkcs11:URI or command:PROGRAM
    #[arg(long, env = "BAKER_KEY", value_name = "KEY")]
    key: Option<String>,
    /// Public file (.pub) of a key that is lost or stolen; may be repeated
    #[arg(long, value_name = "FILE", required_unless_present = "release")]
    lost: Vec<PathBuf>,
    /// SHA-256 of the manifest.json of a release to withdraw; may be repeated
    #[arg(long, value_name = "DIGEST", value_parser = parse_digest)]
    release: Vec<Digest>,
    /// Why; everybody who is refused reads it
    #[arg(long, value_name = "REASON")]
    reason: String,
    /// File to write, for trust folders; its name ends in .revocations.json
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn parse_day(text: &str) -> Result<Day, String> {
    Day::try_from(text.to_owned())
}

fn parse_digest(text: &str) -> Result<Digest, String> {
    text.parse().map_err(|error| format!("{error}"))
}

/// Runs `key rotate`.
pub fn rotate(args: &Rotate, context: &Context) -> Result<(), Failure> {
    let new = Trust::load_key(&args.new).map_err(|error| Failure::new(Exit::Usage, error))?;
    let signer = context.key(args.key.as_deref())?;
    let rotation = Rotation::new(&signer.public(), &new, args.retire);
    write(
        signer.as_ref(),
        rotation.envelope(),
        &args.out,
        rotation::FILE_END,
        context,
    )
}

/// Runs `key revoke`.
pub fn revoke(args: &Revoke, context: &Context) -> Result<(), Failure> {
    if args.reason.trim().is_empty() {
        return Err(
            Failure::message(Exit::Usage, "nothing is revoked without a reason")
                .help("give it with --reason"),
        );
    }
    let key = |path: &PathBuf| {
        let key = Trust::load_key(path).map_err(|error| Failure::new(Exit::Usage, error))?;
        Ok(RevokedKey {
            key_id: key.id(),
            reason: args.reason.clone(),
        })
    };
    let release = |manifest: &Digest| Withdrawn {
        manifest: *manifest,
        reason: args.reason.clone(),
    };
    let list = Revocations {
        issued: pipeline::today(),
        keys: args.lost.iter().map(key).collect::<Result<_, Failure>>()?,
        releases: args.release.iter().map(release).collect(),
    };
    let signer = context.key(args.key.as_deref())?;
    write(
        signer.as_ref(),
        list.envelope(),
        &args.out,
        revocation::FILE_END,
        context,
    )
}

/// Signs the envelope and writes it.
fn write(
    signer: &dyn Signer,
    mut envelope: Envelope,
    out: &Path,
    end: &str,
    context: &Context,
) -> Result<(), Failure> {
    if !out.to_string_lossy().ends_with(end) {
        let problem = format!("{} would not be found in a trust folder", out.display());
        return Err(Failure::message(Exit::Usage, problem).help(format!("let it end in {end}")));
    }
    envelope.sign(signer).map_err(signing_failure)?;
    fs::write(out, envelope.to_bytes()).map_err(|error| {
        Failure::new(Exit::Publish, error).context(format!("cannot write {}", out.display()))
    })?;
    let text = out.display().to_string();
    context.answer(&text, &serde_json::json!({ "file": out }))
}
