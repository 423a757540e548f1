//! `baker test`

use std::path::PathBuf;

use baker_model::Manifest;
use baker_model::plan::TestPlan;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::{self, Booted, Host};

/// Boots the very bytes of a draft or release in QEMU, once for each test of
/// its recipe, and judges them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a draft or release
    release: PathBuf,
    /// Only the tests with this name; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Folder that gets the evidence
    #[arg(long, default_value = "out/evidence", value_name = "FOLDER")]
    evidence: PathBuf,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let booted = Booted::read(&args.release)?;
    let plans = chosen(booted.manifest(), &args.only)?;
    let host = Host::find(&plans)?;
    context.printer().say(&host.accelerator.reason);
    let manifest = booted.manifest();
    let name = format!("{}-{}", manifest.name, manifest.version);
    let evidence = pipeline::evidence_folder(&args.evidence, &name);
    let results = pipeline::test(&booted, &plans, &host, &evidence, context)?;
    pipeline::answer_tests(&results, context)
}

/// The plans of the release, or those of the given names.
fn chosen(manifest: &Manifest, only: &[String]) -> Result<Vec<TestPlan>, Failure> {
    let known: Vec<&str> = manifest.plans.iter().map(TestPlan::title).collect();
    if let Some(unknown) = only.iter().find(|name| !known.contains(&name.as_str())) {
        let problem = format!("the release has no test called `{unknown}`");
        let help = format!("its tests are: {}", known.join(", "));
        return Err(Failure::message(Exit::Usage, problem).help(help));
    }
    let wanted = |plan: &&TestPlan| only.is_empty() || only.iter().any(|name| name == plan.title());
    let plans: Vec<TestPlan> = manifest.plans.iter().filter(wanted).cloned().collect();
    if plans.is_empty() {
        return Err(Failure::message(Exit::Usage, "the release has no test")
            .help("add a [[test]] to the recipe"));
    }
    Ok(plans)
}
