//! `baker reads`

use std::path::PathBuf;

use crate::context::Context;
use crate::exit::Failure;
use crate::pipeline::{self, Booted, Host};

/// Boots an image once and tells what it reads of its disk: how many requests, how
/// far apart, and of which files. The list of files goes into the recipe, so that
/// the next image has them side by side, in the order of the boot.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a draft or release
    release: PathBuf,
    /// The test of its recipe to boot by; the first when not given
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let booted = Booted::read(&args.release)?;
    let manifest = booted.manifest();
    let plans = super::test::chosen(&manifest.plans, args.only.as_slice())?;
    let plan = &plans[0];
    let host = Host::find(&plans[..1], pipeline::architecture(manifest)?)?;
    context.printer().say(&host.accelerator.reason);
    let reads = pipeline::reads(&booted, plan, &host, context)?;
    let mut text = format!(
        "# {} reads by {}, {} KiB: {} of data, {} of metadata, {} of hashes, {} others;\n\
         # {} of those for the root go on where the one before ended; {} MiB of way in all\n\
         [root]\nfirst = [\n",
        reads.reads,
        plan.title(),
        reads.bytes / 1024,
        reads.of.data,
        reads.of.metadata,
        reads.of.hashes,
        reads.of.others,
        reads.in_sequence,
        reads.way >> 20,
    );
    for path in &reads.first {
        text.push_str(&format!("    \"{}\",\n", path.replace('"', "\\\"")));
    }
    text.push(']');
    context.answer(&text, &reads)
}
