//! `baker release`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use baker_fetch::FetchOptions;

use crate::context::{Context, MAKE_BOOT_KEYS};
use crate::exit::{Exit, Failure};
use crate::pipeline::{self, BakeRequest, Ending, Host, Names, ReleaseRequest};
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
    /// Private key to sign with: FILE, pkcs11:URI or command:PROGRAM
    #[arg(long, env = "BAKER_KEY", value_name = "KEY")]
    key: Option<String>,
    /// Stop before signing, and leave a tested draft for `baker sign`
    #[arg(long)]
    unsigned: bool,
    /// Folder of Secure Boot keys, for recipes that ask for them
    #[arg(long, env = "BAKER_SECURE_BOOT", value_name = "FOLDER")]
    secure_boot: Option<PathBuf>,
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
    let key = match args.unsigned {
        true => None,
        false => Some(context.key(args.key.as_deref())?),
    };
    let boot_keys = context.boot_keys(&folder, args.secure_boot.as_deref())?;
    if folder.recipe.boot.secure_boot && boot_keys.is_none() {
        let problem = "the recipe asks for Secure Boot, but no keys are named";
        return Err(Failure::message(Exit::Usage, problem).help(MAKE_BOOT_KEYS));
    }
    pipeline::refuse_existing(&folder, &args.to)?;
    if args.unsigned {
        pipeline::refuse_draft(&args.to, &Names::of(&folder.recipe))?;
    }
    let host = match &args.waive_tests {
        None => Some(Host::find(
            &folder.recipe.tests,
            folder.recipe.architecture,
        )?),
        Some(_) => None,
    };
    context.fetch_inputs(&lock, FetchOptions::default())?;
    let request = ReleaseRequest {
        bake: BakeRequest {
            folder: &folder,
            lock: &lock,
            boot_keys: boot_keys.as_ref(),
            formats: None,
            threads: args.threads,
        },
        to: &args.to,
        evidence: &args.evidence,
        ending: match &key {
            Some(signer) => Ending::Signed(signer.as_ref()),
            None => Ending::Draft,
        },
        host: host.as_ref(),
        waiver: args.waive_tests.as_deref(),
    };
    let published = pipeline::release(&request, context)?;
    context.answer(&published.path.display().to_string(), &published.manifest)
}
