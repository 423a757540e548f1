//! `baker test`

use std::path::PathBuf;

use baker_model::Manifest;
use baker_model::plan::TestPlan;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::{self, Booted, Copies, Host};

/// Boots the very bytes of a draft or release in QEMU, once for each test of
/// its recipe, and judges them.
///
/// The evidence folder gets a folder for the image: in it report.html for
/// people (one file that needs no other), junit.xml for CI servers, and a
/// folder for each test with report.json and the logs. Evidence is kept
/// whether tests pass or fail.
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
    /// Test the update of this draft or release, which has two slots too: boot
    /// its disk with the new version beside it, counted, and see which stays
    #[arg(long, value_name = "RELEASE", conflicts_with = "only")]
    after: Option<PathBuf>,
    /// Write the HTML report to this file too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the JUnit XML to this file too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let booted = Booted::read(&args.release)?;
    let plans = match &args.after {
        None => chosen(booted.manifest(), &args.only)?,
        Some(_) => vec![TestPlan::default()],
    };
    let host = Host::find(&plans)?;
    context.printer().say(&host.accelerator.reason);
    let manifest = booted.manifest();
    let name = format!("{}-{}", manifest.name, manifest.version);
    let evidence = pipeline::evidence_folder(&args.evidence, &name);
    let results = match &args.after {
        None => pipeline::test(&booted, &plans, &host, &evidence, context)?,
        Some(old) => {
            let old = Booted::read(old)?;
            vec![pipeline::upgrade(&old, &booted, &host, &evidence, context)?]
        }
    };
    let copies = Copies {
        html: args.html.as_deref(),
        junit: args.junit.as_deref(),
    };
    let report = pipeline::write_reports(&name, &results, &evidence, copies)?;
    pipeline::answer_tests(&results, &report, context)
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
