//! `baker publish`

use std::path::PathBuf;

use baker_model::event::Outcome;
use baker_ship::target::Place;

use crate::context::Context;
use crate::exit::Failure;
use crate::pipeline::openpgp::Fingerprint;
use crate::pipeline::{self, sysupdate, target_failure};

/// Verifies a release and puts it into a folder, a registry or a bucket: all
/// pieces first, each read back; what makes it visible last. Never replaces one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the release
    release: PathBuf,
    /// Where to: a folder, oci://HOST/PATH or s3://BUCKET/PREFIX
    target: Place,
    /// Public key that must have signed it; may be repeated [default: those of
    /// the config file]
    #[arg(long, env = "BAKER_TRUST", value_name = "FILE", value_delimiter = ',')]
    trust: Vec<PathBuf>,
    /// OpenPGP key that signs the list from which machines update themselves, by
    /// fingerprint: a key of your GnuPG [default: that of the config file]
    #[arg(long, env = "BAKER_GPG_KEY", value_name = "FINGERPRINT")]
    gpg_key: Option<Fingerprint>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let trust = context.trust(&args.trust)?;
    let release = pipeline::verified(&args.release, &trust, context)?;
    let target = pipeline::open_target(&args.target, context)?;
    let published = baker_ship::publish(
        &release,
        target.as_ref(),
        context.listener(),
        context.interrupt(),
    )
    .map_err(|error| target_failure(error, context))?;
    if let Place::Folder(releases) = &args.target {
        let folder = releases.join(published.record.id.folder());
        let key = context.gpg_key(args.gpg_key.as_ref())?;
        sysupdate::offer(releases, &folder, key.as_ref(), context)?;
    }
    let reference = format!("{}/{}", published.place, published.record.id);
    let value = serde_json::json!({
        "reference": reference,
        "manifest": published.record.release(),
        "files": published.record.pieces.len(),
        "bytes": published.record.bytes(),
        "reused": published.how == Outcome::Reused,
    });
    context.answer(&reference, &value)
}
