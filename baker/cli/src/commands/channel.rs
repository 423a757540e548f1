//! `baker channel`

use std::path::PathBuf;

use baker_ship::Trust;
use baker_ship::channel::{Entry, history};
use baker_ship::target::{ChannelId, Reference, Target, Which};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::{self, channel_failure, target_failure};

/// What to do with channels.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show where a channel pointed, by whom and since when; every line checked
    History(Args),
    /// List the releases and channels of a recipe
    List(Args),
}

/// Arguments of both.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// PLACE/NAME@CHANNEL for a history, PLACE/NAME for a list
    recipe: Reference,
    /// Public key whose signatures count; may be repeated [default: those of
    /// the config file]
    #[arg(long, env = "BAKER_TRUST", value_name = "FILE", value_delimiter = ',')]
    trust: Vec<PathBuf>,
}

/// Runs it.
pub fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    let (Command::History(args) | Command::List(args)) = command;
    let trust = context.trust(&args.trust)?;
    let target = pipeline::open_target(&args.recipe.place, context)?;
    match command {
        Command::History(args) => show(args, target.as_ref(), &trust, context),
        Command::List(args) => list(args, target.as_ref(), &trust, context),
    }
}

fn show(args: &Args, target: &dyn Target, trust: &Trust, context: &Context) -> Result<(), Failure> {
    let Which::Channel(id) = &args.recipe.which else {
        let name = &args.recipe.name;
        let problem = format!("{name} names no channel");
        return Err(Failure::message(Exit::Usage, problem).help(format!("write {name}@CHANNEL")));
    };
    let entries = history(target, id, trust)
        .map_err(|error| channel_failure(error, context))?
        .entries;
    if entries.is_empty() {
        let problem = format!("there is no channel {id} in {}", target.place());
        return Err(Failure::message(Exit::Publish, problem));
    }
    let lines: Vec<String> = entries.iter().rev().map(line).collect();
    context.answer(&lines.join("\n"), &entries)
}

/// One pointer for people.
fn line(entry: &Entry) -> String {
    let pointer = &entry.pointer;
    let signers: Vec<&str> = entry
        .signed_by
        .iter()
        .map(|key| key.name.as_str())
        .collect();
    format!(
        "{:>4}  {}  {}  {}  by {}, signed by {}",
        pointer.sequence,
        pointer.day,
        pointer.version,
        pointer.release.short(),
        pointer.author,
        signers.join(", ")
    )
}

fn list(args: &Args, target: &dyn Target, trust: &Trust, context: &Context) -> Result<(), Failure> {
    let name = &args.recipe.name;
    let failed = |error| target_failure(error, context);
    let releases = target.releases(name).map_err(failed)?;
    let mut text: Vec<String> = releases.iter().map(ToString::to_string).collect();
    let mut channels = serde_json::Map::new();
    for channel in target.channels(name).map_err(failed)? {
        let Some(id) = ChannelId::new(name, &channel) else {
            continue;
        };
        let history = history(target, &id, trust).map_err(|e| channel_failure(e, context))?;
        if let Some(entry) = history.current() {
            text.push(format!("{id} -> {name}:{}", entry.pointer.version));
            channels.insert(channel, entry.pointer.version.clone().into());
        }
    }
    let versions: Vec<&str> = releases.iter().map(|release| release.version()).collect();
    let value = serde_json::json!({ "name": name, "releases": versions, "channels": channels });
    context.answer(&text.join("\n"), &value)
}
