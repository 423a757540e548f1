//! `baker drill`

use std::path::PathBuf;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::{self, DrillRequest, Extent};

/// Damages every structure of a release, one bit at a time, and shows who
/// notices: verify, firmware, kernel, dm-verity, probe. A flip that nobody
/// notices fails the drill, unless the bytes provably do not matter.
///
/// The release is only read; variants are private copies. Each flip on the disk
/// is a boot: a whole drill takes a while, `--quick` takes a few of them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the release
    release: PathBuf,
    /// Public key that must have signed it; may be repeated [default: those of
    /// the config file]
    #[arg(long, env = "BAKER_TRUST", value_name = "FILE", value_delimiter = ',')]
    trust: Vec<PathBuf>,
    /// Any text; another one chooses other bytes [default: the release's digest]
    #[arg(long, value_name = "TEXT")]
    seed: Option<String>,
    /// Flips in each structure
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    per_structure: u32,
    /// Only the structures that a release stands and falls with
    #[arg(long)]
    quick: bool,
    /// Only structures with this text in their names; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Guests at a time [default: as many as processors and memory allow]
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,
    /// Folder that gets drill.json and drill.md
    #[arg(long, default_value = "out/evidence/drill", value_name = "FOLDER")]
    evidence: PathBuf,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let trust = context.trust(&args.trust)?;
    let request = DrillRequest {
        release: &args.release,
        trust: &trust,
        seed: args.seed.as_deref(),
        per_structure: args.per_structure,
        extent: match args.quick {
            true => Extent::Quick,
            false => Extent::All,
        },
        only: &args.only,
        jobs: args.jobs,
        evidence: &args.evidence,
    };
    let report = pipeline::drill(&request, context)?;
    context.answer(&report.table(), &report)?;
    let accepted = report.accepted().count();
    if accepted == 0 {
        return Ok(());
    }
    let first = report.accepted().next().map(|flip| flip.line());
    let text = format!(
        "{accepted} flips were accepted, first: {}",
        first.unwrap_or_default()
    );
    let help = format!(
        "all answers are in {}",
        args.evidence.join("drill.md").display()
    );
    Err(Failure::message(Exit::Drill, text).help(help))
}
