//! `baker test`

use std::path::{Path, PathBuf};

use baker_formats::medium::Kind;
use baker_model::plan::TestPlan;
use baker_vm::DirectBoot;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::guest;
use crate::pipeline::{self, Booted, Copies, Foreign, Host, Named};

/// Boots the very bytes of an image in QEMU, once for each test, and judges
/// them: a draft or release by the tests of its recipe, an image that baker did
/// not make (--image, or --kernel with --initrd) by those of a plan file.
///
/// The evidence folder gets a folder for the image: in it report.html for
/// people (one file that needs no other), junit.xml for CI servers, and a
/// folder for each test with report.json and the logs. Evidence is kept
/// whether tests pass or fail.
///
/// An image that baker did not make is never changed. With systemd 256 or newer
/// inside, its tests can ask what they ask of a release: the probe comes on a
/// disk of its own. Any other is judged from outside, by `console` and `http`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a draft or release
    #[arg(
        required_unless_present_any = ["image", "kernel"],
        conflicts_with_all = ["image", "kernel", "plan"],
    )]
    release: Option<PathBuf>,
    /// Disk image that baker did not make: raw, qcow2, vmdk, vhd or iso
    #[arg(long, value_name = "FILE", requires = "plan")]
    image: Option<PathBuf>,
    /// What the image is, if its first bytes mislead; only `raw` can overrule
    /// them
    #[arg(long, value_name = "FORMAT", requires = "image")]
    format: Option<Format>,
    /// Kernel that QEMU loads itself, for tests with firmware = "direct"
    #[arg(long, value_name = "FILE", requires_all = ["initrd", "plan"])]
    kernel: Option<PathBuf>,
    /// Its initrd
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Its command line
    #[arg(
        long,
        value_name = "TEXT",
        requires = "kernel",
        default_value = "console=ttyS0"
    )]
    append: String,
    /// TOML file with the [[test]] tables, written as in a recipe
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Only the tests with this name; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Folder that gets the evidence
    #[arg(long, default_value = "out/evidence", value_name = "FOLDER")]
    evidence: PathBuf,
    /// Test the update of this draft or release, which has two slots too: boot
    /// its disk with the new version beside it, counted, and see which stays
    #[arg(long, value_name = "RELEASE", conflicts_with_all = ["only", "image", "kernel"])]
    after: Option<PathBuf>,
    /// Write the HTML report to this file too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the JUnit XML to this file too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// What an image is.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Raw,
    Qcow2,
    Vmdk,
    Vhd,
    Iso,
}

impl Format {
    const fn kind(self) -> Kind {
        match self {
            Self::Raw => Kind::Raw,
            Self::Qcow2 => Kind::Qcow2,
            Self::Vmdk => Kind::Vmdk,
            Self::Vhd => Kind::Vhd,
            Self::Iso => Kind::Iso,
        }
    }
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let (name, evidence, results) = match &args.release {
        Some(release) => test_release(args, release, context)?,
        None => test_foreign(args, context)?,
    };
    let copies = Copies {
        html: args.html.as_deref(),
        junit: args.junit.as_deref(),
    };
    let report = pipeline::write_reports(&name, &results, &evidence, copies)?;
    pipeline::answer_tests(&results, &report, context)
}

/// Name of the image, its evidence folder, and what its tests said.
type Tested = (String, PathBuf, Vec<pipeline::TestResult>);

fn test_release(args: &Args, release: &Path, context: &Context) -> Result<Tested, Failure> {
    let booted = Booted::read(release)?;
    let manifest = booted.manifest();
    let plans = match &args.after {
        None => chosen(&manifest.plans, &args.only)?,
        Some(_) => vec![TestPlan::default()],
    };
    let host = Host::find(&plans, pipeline::architecture(manifest)?)?;
    context.printer().say(&host.accelerator.reason);
    let name = format!("{}-{}", manifest.name, manifest.version);
    let evidence = pipeline::evidence_folder(&args.evidence, &name);
    let results = match &args.after {
        None => pipeline::test(&booted, &plans, &host, &evidence, context)?,
        Some(old) => {
            let old = Booted::read(old)?;
            vec![pipeline::upgrade(&old, &booted, &host, &evidence, context)?]
        }
    };
    Ok((name, evidence, results))
}

fn test_foreign(args: &Args, context: &Context) -> Result<Tested, Failure> {
    let missing = || Failure::message(Exit::Usage, "a foreign image needs --plan FILE");
    let plan = args.plan.as_deref().ok_or_else(missing)?;
    let plans = chosen(&pipeline::read_plans(plan)?, &args.only)?;
    let kernel = args.kernel.clone().zip(args.initrd.clone());
    let named = Named {
        image: args.image.as_deref(),
        kind: args.format.map(Format::kind),
        kernel: kernel.map(|(kernel, initrd)| DirectBoot {
            kernel,
            initrd,
            append: args.append.clone(),
        }),
    };
    let foreign = Foreign::read(named, context)?;
    foreign.check(&plans)?;
    context.printer().say(&foreign.summary());
    let host = Host::find(&plans, guest::NATIVE)?;
    context.printer().say(&host.accelerator.reason);
    let name = foreign.name();
    let evidence = pipeline::evidence_folder(&args.evidence, &name);
    let results = pipeline::test_foreign(&foreign, &plans, &host, &evidence, context)?;
    Ok((name, evidence, results))
}

/// These plans, or those of the given names.
/// The plans with these names; all when none is named.
pub(super) fn chosen(plans: &[TestPlan], only: &[String]) -> Result<Vec<TestPlan>, Failure> {
    let known: Vec<&str> = plans.iter().map(TestPlan::title).collect();
    if let Some(unknown) = only.iter().find(|name| !known.contains(&name.as_str())) {
        let problem = format!("there is no test called `{unknown}`");
        let help = format!("the tests are: {}", known.join(", "));
        return Err(Failure::message(Exit::Usage, problem).help(help));
    }
    let wanted = |plan: &&TestPlan| only.is_empty() || only.iter().any(|name| name == plan.title());
    let plans: Vec<TestPlan> = plans.iter().filter(wanted).cloned().collect();
    if plans.is_empty() {
        return Err(Failure::message(Exit::Usage, "the release has no test")
            .help("add a [[test]] to the recipe"));
    }
    Ok(plans)
}
