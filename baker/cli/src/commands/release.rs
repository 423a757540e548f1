//! `baker release`

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use baker_fetch::FetchOptions;
use baker_model::{Lock, Manifest};
use baker_ship::cache::Present;

use super::insight::Insight;
use crate::context::{Context, MAKE_BOOT_KEYS};
use crate::exit::{Exit, Failure};
use crate::pipeline::{self, BakeRequest, Cache, Ending, Host, Kept, Names, ReleaseRequest};
use crate::source::RecipeFolder;

/// The main job: checks the lock, fetches, bakes, tests, signs, and puts the
/// release into a folder, all or nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the recipe
    #[arg(required_unless_present = "from_bundle")]
    recipe: Option<PathBuf>,
    /// Profile of the recipe
    #[arg(long, value_name = "NAME", conflicts_with = "from_bundle")]
    profile: Option<String>,
    /// Make the release of this bundle again, without a network, and refuse
    /// what differs from it
    #[arg(long, value_name = "FILE", conflicts_with = "recipe")]
    from_bundle: Option<PathBuf>,
    /// Public key that must have signed the release in the bundle; may be repeated
    /// [default: those of the config file]
    #[arg(long, env = "BAKER_TRUST", value_name = "FILE", value_delimiter = ',')]
    trust: Vec<PathBuf>,
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
    /// Make everything anew although what earlier bakes made of the same inputs is
    /// kept: run packages' scripts again, unpack and pack all data
    #[arg(long)]
    anew: bool,
    /// Threads; never changes a byte of the result [default: all CPUs]
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    insight: Insight,
    /// Folder of evidence, kept also when a test fails
    #[arg(long, default_value = "out/evidence", value_name = "FOLDER")]
    evidence: PathBuf,
    /// Refuse a recipe with changes that are in no commit, or outside of git
    #[arg(long)]
    refuse_dirty: bool,
    /// Publish without testing; the reason stands in the signed manifest
    #[arg(long, value_name = "REASON")]
    waive_tests: Option<String>,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let scratch = tempfile::tempdir().map_err(|error| Failure::new(Exit::Internal, error))?;
    let unpack = |path: &PathBuf| {
        let trust = context.trust(&args.trust)?;
        pipeline::unbundle(path, scratch.path(), &trust, context)
    };
    let bundle = args.from_bundle.as_ref().map(unpack).transpose()?;
    let given = args.recipe.as_deref().unwrap_or(Path::new("."));
    let path = bundle
        .as_ref()
        .map_or(given, |bundle| bundle.recipe.as_path());
    let mut folder = RecipeFolder::read_profile(path, args.profile.as_deref())?;
    if let Some(bundle) = &bundle {
        folder.source.clone_from(&bundle.manifest.source);
    }
    let lock = folder.checked_lock()?;
    // What can be known to fail must fail before the long work.
    if args.refuse_dirty {
        refuse_dirty(&folder)?;
    }
    let key = match args.unsigned {
        true => None,
        false => Some(context.key(args.key.as_deref())?),
    };
    let kept = bundle.as_ref().and_then(|bundle| bundle.boot_keys.as_ref());
    let given = match (kept, &args.secure_boot) {
        // What was signed is signed: keys at hand are for who wants other signatures.
        (Some(_), None) => None,
        (_, flag) => context.boot_keys(&folder, flag.as_deref())?,
    };
    let boot_keys = given.as_ref().or(kept);
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
    // A bundle holds all that its release is made of.
    let sharing = match &bundle {
        Some(_) => None,
        None => inputs(&folder, &lock, args.anew, context)?,
    };
    let request = ReleaseRequest {
        bake: BakeRequest {
            folder: &folder,
            lock: &lock,
            boot_keys,
            formats: None,
            adopted: None,
            threads: args.threads,
            kept: if args.anew { Kept::Ignored } else { Kept::Used },
        },
        to: &args.to,
        evidence: &args.evidence,
        ending: match &key {
            Some(signer) => Ending::Signed(signer.as_ref()),
            None => Ending::Draft,
        },
        host: host.as_ref(),
        waiver: args.waive_tests.as_deref(),
        expected: bundle.as_ref().map(|bundle| &bundle.manifest),
    };
    let published = pipeline::release(&request, context)?;
    if let Some(cache) = sharing {
        share(&cache, &folder, &lock, context);
    }
    args.insight.tell(context)?;
    tell_of_changes(&published.manifest, context);
    context.answer(&published.path.display().to_string(), &published.manifest)
}

/// Brings what the release is made of, and what others have made of that; gives the cache to share
/// in.
fn inputs(
    folder: &RecipeFolder,
    lock: &Lock,
    anew: bool,
    context: &Context,
) -> Result<Option<Cache>, Failure> {
    // A cache that cannot be used is told before the long work.
    let sharing = Cache::for_sharing(context)?;
    let reading = match anew {
        true => None,
        false => Cache::for_reading(context)?,
    };
    context.fetch_inputs(lock, FetchOptions::default())?;
    if let Some(cache) = reading {
        cache.bring(folder, lock, context)?;
    }
    Ok(sharing)
}

/// Shares what was made. The release is there for ever by now, whatever becomes of this.
fn share(cache: &Cache, folder: &RecipeFolder, lock: &Lock, context: &Context) {
    if let Err(failure) = cache.share(folder, lock, Present::Left, context) {
        let problem = failure.causes().join(": ");
        let text = format!("nothing more is shared: {problem}");
        context.printer().warn(&text);
    }
}

fn tell_of_changes(manifest: &Manifest, context: &Context) {
    if let Some(source) = manifest.source.as_ref().filter(|source| source.dirty) {
        let commit = &source.commit;
        let text = format!("DIRTY: the recipe had changes that are not in commit {commit}");
        context.printer().warn(&text);
    }
}

/// A release whose source nobody can look up is no use to whoever wants to know what is in it.
fn refuse_dirty(folder: &RecipeFolder) -> Result<(), Failure> {
    let place = folder.path.display();
    let problem = match folder.git() {
        Some(source) if source.dirty => {
            format!(
                "{place} has changes that are not in commit {}",
                source.commit
            )
        }
        Some(_) => return Ok(()),
        None => format!("{place} is in no commit of a git work tree"),
    };
    Err(Failure::message(Exit::Recipe, problem)
        .help("commit the recipe, or release it without --refuse-dirty"))
}
