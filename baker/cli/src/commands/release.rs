//! `baker release`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use baker_fetch::FetchOptions;

use crate::context::Context;
use crate::exit::Failure;
use crate::pipeline::{self, Host, ReleaseRequest};
use crate::source::RecipeFolder;

/// The main job: checks the lock, fetches, bakes, tests, signs, and puts the
/// release into a folder, all or nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the recipe
    recipe: PathBuf,
    /// Folder of releases
    #[arg(long, default_value = "out/releases", value_name = "FOLDER")]
    to: PathBuf,
    /// Private key to sign with
    #[arg(long, env = "BAKER_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Threads; never changes a byte of the result [default: all CPUs]
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    /// Folder of evidence, kept also when a test fails
    #[arg(long, default_value = "out/evidence", value_name = "FOLDER")]
    evidence: PathBuf,
    /// Publish without testing; the reason stands in the signed manifest
    #[arg(long, value_name = "REASON")]
    waive_tests: Option<String>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let folder = RecipeFolder::read(&args.recipe)?;
    let lock = folder.checked_lock()?;
    // What can be known to fail must fail before the long work.
    let key = context.key(args.key.as_deref())?;
    pipeline::refuse_existing(&folder, &args.to)?;
    let host = match &args.waive_tests {
        None => Some(Host::find(&folder.recipe.tests)?),
        Some(_) => None,
    };
    context.fetch_inputs(&lock, FetchOptions::default())?;
    let request = ReleaseRequest {
        folder: &folder,
        lock: &lock,
        to: &args.to,
        evidence: &args.evidence,
        key: &key,
        host: host.as_ref(),
        waiver: args.waive_tests.as_deref(),
        threads: args.threads,
    };
    let published = pipeline::release(&request, context)?;
    context.answer(&published.path.display().to_string(), &published.manifest)
}
