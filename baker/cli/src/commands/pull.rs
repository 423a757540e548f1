//! `baker pull`

use std::path::PathBuf;

use baker_ship::promote::Withdrawn;
use baker_ship::pull::{Check, Pull, PullError, Wanted, pull};
use baker_ship::target::{Reference, Which};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::{self, target_failure};

/// Brings a release out of a folder, registry or bucket, and verifies it on the
/// way in. Goes on where an interrupted pull has ended.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The release: PLACE/NAME:VERSION or PLACE/NAME@CHANNEL
    release: Reference,
    /// Folder of releases that gets it
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    to: PathBuf,
    /// Public key that must have signed it; may be repeated [default: those of
    /// the config file]
    #[arg(long, env = "BAKER_TRUST", value_name = "FILE", value_delimiter = ',')]
    trust: Vec<PathBuf>,
    /// Take it unverified: nobody vouches for it, and its receipt says so
    #[arg(long)]
    no_verify: bool,
    /// Take it although it was withdrawn; its receipt says so
    #[arg(long)]
    force: bool,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let trust = context.trust(&args.trust)?;
    let wanted = match &args.release.which {
        Which::Version(id) => Wanted::Version(id.clone()),
        Which::Channel(id) => Wanted::Channel(id.clone()),
        Which::Any => {
            let name = &args.release.name;
            let problem = format!("{name} names no version and no channel");
            let help = format!("write {name}:VERSION or {name}@CHANNEL");
            return Err(Failure::message(Exit::Usage, problem).help(help));
        }
    };
    let target = pipeline::open_target(&args.release.place, context)?;
    let request = Pull {
        target: target.as_ref(),
        wanted: &wanted,
        to: &args.to,
        trust: &trust,
        check: if args.no_verify {
            Check::Skip
        } else {
            Check::Verify
        },
        withdrawn: withdrawn(args.force),
        today: pipeline::today(),
    };
    let pulled = pull(&request, context.listener(), context.interrupt())
        .map_err(|error| failure(error, context))?;
    for warning in &pulled.warnings {
        context.printer().warn(warning);
    }
    context.answer(&pulled.folder.display().to_string(), &pulled.receipt)
}

/// What `--force` means.
pub fn withdrawn(force: bool) -> Withdrawn {
    if force {
        Withdrawn::Force
    } else {
        Withdrawn::Refuse
    }
}

fn failure(error: PullError, context: &Context) -> Failure {
    let (exit, help) = match error {
        PullError::Target(error) => return target_failure(error, context),
        PullError::Channel(error) => return pipeline::channel_failure(error, context),
        PullError::Withdrawn { .. } => {
            let help = "take another version; --force takes this one all the same";
            (Exit::Verify, Some(help.to_owned()))
        }
        PullError::NotGood { ref problems, .. } => {
            let help = problems.iter().find_map(baker_ship::Problem::help);
            (Exit::Verify, help.map(str::to_owned))
        }
        PullError::Swapped { .. } | PullError::RolledBack { .. } => (
            Exit::Verify,
            Some("ask whoever keeps the target what happened to it".to_owned()),
        ),
        PullError::Verify(_) => (Exit::Verify, None),
        PullError::Occupied { .. } => {
            let help = "name another folder with --to";
            (Exit::Publish, Some(help.to_owned()))
        }
        PullError::NoRelease { .. } | PullError::Busy { .. } => (Exit::Publish, None),
    };
    context.failure(exit, error).help_if(help)
}
