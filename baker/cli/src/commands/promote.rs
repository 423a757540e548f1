//! `baker promote`

use std::path::PathBuf;

use baker_ship::promote::{PromoteError, Promotion, promote};
use baker_ship::target::{ChannelId, Reference};

use super::pull::withdrawn;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::{self, channel_failure, say_failure, target_failure};

/// Points a channel to a release, when it shows what its own recipe asks for in
/// [promote.CHANNEL]. Never builds: the very release moves on, with a signed
/// summary of what was checked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The release: PLACE/NAME:VERSION or PLACE/NAME@CHANNEL
    release: Reference,
    /// The channel, such as dev, staging, prod
    channel: String,
    /// Private key to sign with: a file, pkcs11:..., or command:PROGRAM
    #[arg(long, env = "BAKER_KEY", value_name = "KEY")]
    key: Option<String>,
    /// Public key whose signatures count; may be repeated [default: those of
    /// the config file]
    #[arg(long, env = "BAKER_TRUST", value_name = "FILE", value_delimiter = ',')]
    trust: Vec<PathBuf>,
    /// Who promotes; stands in the history [default: the name of the key]
    #[arg(long, env = "BAKER_AUTHOR", value_name = "NAME")]
    author: Option<String>,
    /// Promote it although it was withdrawn
    #[arg(long)]
    force: bool,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let name = &args.release.name;
    let channel = ChannelId::new(name, &args.channel).ok_or_else(|| {
        let problem = format!("`{}` is not a channel", args.channel);
        Failure::message(Exit::Usage, problem).help("use a-z, 0-9 and -, such as staging")
    })?;
    let trust = context.trust(&args.trust)?;
    let key = context.key(args.key.as_deref())?;
    let target = pipeline::open_target(&args.release.place, context)?;
    let release = pipeline::settle(&args.release, target.as_ref(), &trust, context)?;
    let public = key.public();
    let request = Promotion {
        target: target.as_ref(),
        release: &release,
        channel: &channel,
        trust: &trust,
        signer: key.as_ref(),
        author: args.author.as_deref().unwrap_or(public.name()),
        now: pipeline::now(),
        withdrawn: withdrawn(args.force),
    };
    let promoted =
        promote(&request, context.interrupt()).map_err(|error| failure(error, context))?;
    for warning in &promoted.warnings {
        context.printer().warn(warning);
    }
    let sequence = promoted.entry.pointer.sequence;
    let text = format!(
        "{channel} points to {release} (number {sequence})\n{}",
        promoted.levels.join(" ")
    );
    let value = serde_json::json!({ "entry": promoted.entry, "levels": promoted.levels });
    context.answer(&text, &value)
}

fn failure(error: PromoteError, context: &Context) -> Failure {
    match error {
        PromoteError::Target(error) => target_failure(error, context),
        PromoteError::Channel(error) => channel_failure(error, context),
        PromoteError::Say(error) => say_failure(error, context),
        PromoteError::Refused { .. } => context.failure(Exit::Verify, error),
        PromoteError::NoRelease { .. } => context.failure(Exit::Publish, error),
    }
}
