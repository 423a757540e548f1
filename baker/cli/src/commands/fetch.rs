//! `baker fetch`

use std::path::PathBuf;

use baker_fetch::{Check, FetchOptions};

use crate::context::Context;
use crate::exit::Failure;
use crate::pipeline::Cache;
use crate::source::RecipeFolder;

/// Brings everything that the lock names into the store; after that, baking
/// needs no network. From a cache (--cache) it also brings what other machines
/// have made of the same inputs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the recipe
    recipe: PathBuf,
    /// Profile of the recipe
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Downloads at once
    #[arg(long, default_value_t = 6, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=16))]
    jobs: u16,
    /// Read what is stored already in full, and fetch again what was altered
    #[arg(long)]
    check: bool,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let folder = RecipeFolder::read_profile(&args.recipe, args.profile.as_deref())?;
    let lock = folder.checked_lock()?;
    let check = if args.check {
        Check::Digest
    } else {
        Check::Size
    };
    let options = FetchOptions {
        jobs: args.jobs.into(),
        check,
    };
    // A cache that nobody can believe is told before the long work.
    let cache = Cache::for_reading(context)?;
    let fetched = context.fetch_inputs(&lock, options)?;
    let brought = cache.map(|cache| cache.bring(&folder, &lock, context));
    let brought = brought.transpose()?;
    let text = format!(
        "{} packages in the store",
        fetched.stored + fetched.downloaded
    );
    let mut value = serde_json::json!({
        "stored": fetched.stored, "downloaded": fetched.downloaded, "bytes": fetched.bytes,
    });
    if let Some(brought) = brought {
        value["cache"] = serde_json::json!(brought);
    }
    context.answer(&text, &value)
}
