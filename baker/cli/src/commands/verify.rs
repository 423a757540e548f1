//! `baker verify`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use baker_build::pins::{Account, Proof};
use baker_model::Digest;
use baker_ship::said::{self, Rebuild};
use baker_ship::target::{Place, ReleaseId};
use baker_ship::{Problem, Report, Warning};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::{self, Missing, RebuildReport, RebuildRequest};
use crate::ui::Answer;

/// How many faults of a disk are told; a foreign disk has thousands.
const NAMED: usize = 20;

/// Differences that are shown to people.
const LISTED: usize = 12;

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
    /// Refuse a release whose recipe had changes that are in no commit, or was in
    /// no commit at all
    #[arg(long)]
    refuse_dirty: bool,
    /// Account for every byte of the disk, too: package, recipe, effect, or
    /// structure that follows from the lock; by the packages themselves when
    /// the store has them
    #[arg(long)]
    pins: bool,
    /// Also bake it again from its own recipe and lock, elsewhere, and compare;
    /// names the first structure that differs
    #[arg(long)]
    rebuild: bool,
    /// Folder that holds the local files of the recipe, when the store does not
    /// have them
    #[arg(long, value_name = "FOLDER", requires = "rebuild")]
    recipe: Option<PathBuf>,
    /// Fetch inputs that are not in the store
    #[arg(long, requires = "rebuild")]
    fetch: bool,
    /// When the bytes are the same, say so under a signature beside the release
    /// there: a folder of releases, oci://HOST/PATH or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE", requires = "rebuild")]
    confirm: Option<Place>,
    /// Private key to confirm with: a file, pkcs11:..., or command:PROGRAM
    #[arg(long, env = "BAKER_KEY", value_name = "KEY")]
    key: Option<String>,
    /// Who confirms: the place that rebuilt it [default: the name of the key]
    #[arg(long, value_name = "NAME", requires = "confirm")]
    builder: Option<String>,
}

/// The answer in JSON: the report, and the account when it was asked for.
#[derive(Serialize)]
struct Answers<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    pins: Option<&'a Account>,
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
    let refused = args.refuse_dirty.then(|| dirt(&report)).flatten();
    let account = match args.pins {
        true => Some(pipeline::account(&args.release, context)?),
        false => None,
    };
    let answers = Answers {
        report: &report,
        pins: account.as_ref(),
    };
    for warning in &report.warnings {
        context.printer().warn(&warning.to_string());
    }
    let faults = account.iter().flat_map(|account| &account.faults);
    let faults: Vec<String> = faults.map(ToString::to_string).collect();
    if refused.is_some()
        || !report.is_good()
        || account.as_ref().is_some_and(|account| !account.is_good())
    {
        if context.printer().answer() == Answer::Json {
            context.printer().json(&answers)?;
        }
        let mut text = format!("{} does not verify:", args.release.display());
        for problem in &report.problems {
            text.push_str(&format!("\n- {problem}"));
        }
        if let Some(dirt) = refused {
            text.push_str(&format!("\n- {dirt} (--refuse-dirty)"));
        }
        for fault in faults.iter().take(NAMED) {
            text.push_str(&format!("\n- {fault}"));
        }
        if faults.len() > NAMED {
            let more = faults.len() - NAMED;
            text.push_str(&format!("\n- {more} more; see all with --json"));
        }
        let help = report.problems.iter().find_map(Problem::help);
        let failure = Failure::message(Exit::Verify, text);
        let usual = match refused {
            Some(_) if report.is_good() => "commit the recipe, and release it again",
            _ => "get the release again from whoever published it",
        };
        return Err(failure.help(help.unwrap_or(usual)));
    }
    let table = account.as_ref().map(table).unwrap_or_default();
    let text = format!("{}{table}", praise(&report));
    if args.rebuild {
        if args.confirm.is_some() {
            // Before the work, not after it.
            drop(context.key(args.key.as_deref())?);
        }
        // One answer, not two: what was checked before is part of why the rebuild counts.
        context.printer().say(&text);
        return rebuild(args, context);
    }
    context.answer(&text, &answers)
}

/// Why nobody can look up what the release was made of.
fn dirt(report: &Report) -> Option<&'static str> {
    report.warnings.iter().find_map(|warning| match warning {
        Warning::DirtySource { .. } => Some("the recipe had changes that are in no commit"),
        Warning::NoSource => Some("the recipe was in no commit"),
        _ => None,
    })
}

/// Who answers for how many bytes of the disk.
fn table(account: &Account) -> String {
    let mut text = format!(
        "\n\nall {} bytes of the disk are accounted for\n",
        account.size
    );
    text.push_str("       bytes  ranges  proof    by\n");
    let mut rows: Vec<_> = account.rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.bytes));
    for row in rows {
        let proof = match row.proof {
            Proof::Package => "package",
            Proof::Lock => "lock",
            Proof::Rebuilt => "rebuilt",
            Proof::Sbom => "SBOM",
            Proof::Itself => "itself",
        };
        let (bytes, ranges) = (row.bytes, row.ranges);
        text.push_str(&format!(
            "{bytes:>12} {ranges:>7}  {proof:<8} {}\n",
            row.holder
        ));
    }
    text.trim_end().to_owned()
}

/// Bakes the release again and tells how it compares.
fn rebuild(args: &Args, context: &Context) -> Result<(), Failure> {
    let request = RebuildRequest {
        release: &args.release,
        recipe: args.recipe.as_deref(),
        missing: match args.fetch {
            true => Missing::Fetch,
            false => Missing::Refuse,
        },
    };
    let report = pipeline::rebuild(&request, context)?;
    if report.agrees {
        let mut text = agreement(&report);
        if let Some(place) = &args.confirm {
            confirm(args, place, &report, context)?;
            text.push_str(&format!("\nconfirmed in {place}"));
        }
        return context.answer(&text, &report);
    }
    if context.printer().answer() == Answer::Json {
        context.printer().json(&report)?;
    }
    Err(Failure::message(Exit::Verify, disagreement(&report)).help(
        "look at both as a whole: baker diff RELEASE DRAFT, with the draft of a bake of yours",
    ))
}

/// Leaves the statement that `rebuilt = true` of a channel asks for.
fn confirm(
    args: &Args,
    place: &Place,
    report: &RebuildReport,
    context: &Context,
) -> Result<(), Failure> {
    let key = context.key(args.key.as_deref())?;
    let target = pipeline::open_target(place, context)?;
    let release = ReleaseId::new(&report.name, &report.version).ok_or_else(|| {
        let problem = format!("{} is no name of a release in a target", report.release);
        Failure::message(Exit::Verify, problem)
    })?;
    let public = key.public();
    let rebuild = Rebuild {
        builder: args
            .builder
            .clone()
            .unwrap_or_else(|| public.name().to_owned()),
        baker: report.baker.clone(),
        day: pipeline::today(),
    };
    let subject = (&release, report.manifest);
    said::confirm(target.as_ref(), subject, rebuild, key.as_ref())
        .map_err(|error| pipeline::say_failure(error, context))
}

/// What is the same, in a few lines.
fn agreement(report: &RebuildReport) -> String {
    let conditions = &report.conditions;
    let mut text = format!(
        "{} was baked again and is the same, byte for byte\nwith {} threads, {}, {}, umask {}, in \
         another folder, in {}.{} s",
        report.release,
        conditions.threads,
        conditions.timezone,
        conditions.locale,
        conditions.umask,
        report.milliseconds / 1000,
        report.milliseconds % 1000 / 100,
    );
    for file in &report.files {
        if let Some(digest) = &file.rebuilt {
            text.push_str(&format!("\n  {digest}  {}", file.name));
        }
    }
    text
}

/// What differs: the cause first, then what may only follow from it.
fn disagreement(report: &RebuildReport) -> String {
    let mut text = format!("{} was baked again and is not the same", report.release);
    for (index, difference) in report.differences.iter().enumerate() {
        match index {
            0 => text.push_str(&format!("\nfirst: {difference}")),
            1 => text.push_str(&format!("\nthen:\n- {difference}")),
            2..LISTED => text.push_str(&format!("\n- {difference}")),
            _ => break,
        }
    }
    if report.differences.len() > LISTED {
        let more = report.differences.len() - LISTED;
        text.push_str(&format!("\n- and {more} more; --json lists all"));
    }
    for file in report
        .files
        .iter()
        .filter(|file| file.release != file.rebuilt)
    {
        let shown = |digest: Option<Digest>| digest.map_or("nothing".to_owned(), |d| d.to_string());
        text.push_str(&format!(
            "\nfile {}: {} in the release, {} again",
            file.name,
            shown(file.release),
            shown(file.rebuilt)
        ));
    }
    text
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
