//! `baker bake`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::context::Context;
use crate::exit::Failure;
use crate::pipeline;
use crate::source::RecipeFolder;

/// Builds the disk from the lock and the store; touches no network.
///
/// The result is a draft: a folder like a release, but untested and unsigned.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the recipe
    recipe: PathBuf,
    /// Folder that gets the draft
    #[arg(long, default_value = "out/drafts", value_name = "FOLDER")]
    to: PathBuf,
    /// Threads; never changes a byte of the result [default: all CPUs]
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let folder = RecipeFolder::read(&args.recipe)?;
    let lock = folder.checked_lock()?;
    let draft = pipeline::bake_draft(&folder, &lock, &args.to, args.threads, context)?;
    context.answer(&draft.path.display().to_string(), &draft.manifest)
}
