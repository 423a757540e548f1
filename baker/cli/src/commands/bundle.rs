//! `baker bundle`

use std::path::PathBuf;

use crate::context::Context;
use crate::exit::Failure;
use crate::pipeline::{self, BundleRequest};

/// Puts a release and everything that it was made of into one file: recipe,
/// lock, packages, keys, evidence, and baker itself. Any machine makes the same
/// release of it again without a network: baker release --from-bundle FILE.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the release
    release: PathBuf,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Folder of the recipe, for local files that the store lacks
    #[arg(long, value_name = "FOLDER")]
    recipe: Option<PathBuf>,
    /// Public key to add; may be repeated [default: those of the config file]
    #[arg(long, env = "BAKER_TRUST", value_name = "FILE", value_delimiter = ',')]
    trust: Vec<PathBuf>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let trust = context.trust(&args.trust)?;
    let request = BundleRequest {
        release: &args.release,
        recipe: args.recipe.as_deref(),
        trust: &trust,
        to: &args.output,
    };
    let bundled = pipeline::bundle(&request, context)?;
    if !bundled.program {
        let text = "another baker made the release: keep that program beside the bundle";
        context.printer().warn(text);
    }
    if trust.is_empty() {
        context
            .printer()
            .warn("no public key is in the bundle; name one with --trust FILE");
    }
    context.answer(&bundled.path.display().to_string(), &bundled)
}
