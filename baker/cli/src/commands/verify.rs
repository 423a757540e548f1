//! `baker verify`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::context::Context;
use baker_ship::{Problem, Report};

use crate::exit::{Exit, Failure};
use crate::pipeline;
use crate::ui::Answer;

/// Checks everything that a release says of itself, offline: signatures, the
/// digest of every file, what the tests were run on. Lists every problem.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the release
    release: PathBuf,
    /// Public key that must have signed it, or a folder of such keys, of revocation
    /// lists and rotations; may be repeated [default: those of the config file]
    #[arg(long, env = "BAKER_TRUST", value_name = "FILE", value_delimiter = ',')]
    trust: Vec<PathBuf>,
    /// How many of the keys must have signed it [default: 1, or what policy.json
    /// of the trust folder says]
    #[arg(long, value_name = "NUMBER")]
    threshold: Option<NonZeroUsize>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let mut trust = context.trust(&args.trust)?;
    if let Some(threshold) = args.threshold {
        trust = trust.with_threshold(threshold);
    }
    let mut report = baker_ship::verify(
        &args.release,
        &trust,
        context.listener(),
        context.interrupt(),
    )
    .map_err(|error| context.failure(Exit::Verify, error))?;
    pipeline::check_boot_signatures(&args.release, &mut report);
    for warning in &report.warnings {
        context.printer().warn(&warning.to_string());
    }
    if !report.is_good() {
        if context.printer().answer() == Answer::Json {
            context.printer().json(&report)?;
        }
        let mut text = format!("{} does not verify:", args.release.display());
        for problem in &report.problems {
            text.push_str(&format!("\n- {problem}"));
        }
        let help = report.problems.iter().find_map(Problem::help);
        let failure = Failure::message(Exit::Verify, text);
        let usual = "get the release again from whoever published it".to_owned();
        return Err(failure.help(help.map_or(usual, str::to_owned)));
    }
    context.answer(&praise(&report), &report)
}

/// What holds, in a few lines.
fn praise(report: &Report) -> String {
    let Some(facts) = &report.facts else {
        return String::new();
    };
    let signers: Vec<String> = facts
        .signed_by
        .iter()
        .map(|signer| match signer.development {
            true => format!("{} (A LOCAL DEVELOPMENT KEY)", signer.name),
            false => signer.name.clone(),
        })
        .collect();
    format!(
        "{} {} ({}) is good: {} files, {} MiB, signed by {}\nroot hash {}\nmanifest  {}",
        facts.name,
        facts.version,
        facts.architecture,
        facts.files,
        facts.bytes >> 20,
        signers.join(", "),
        facts.root_hash,
        facts.manifest,
    )
}
