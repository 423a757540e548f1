//! `baker bake`

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use baker_model::recipe::Format;
use baker_ship::Request;
use baker_ship::request::Item;

use super::insight::Insight;
use crate::context::{Context, MAKE_BOOT_KEYS};
use crate::exit::{Exit, Failure};
use crate::pipeline::{self, Adopted, BakeRequest, BootKeys, Kept};
use crate::source::RecipeFolder;

/// What a draft without keys is.
const NO_BOOT_KEYS: &str =
    "the recipe asks for Secure Boot, but no keys are named: nothing is signed for firmware";

/// Builds the disk from the lock and the store; touches no network.
///
/// The result is a draft: a folder like a release, but untested and unsigned.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the recipe
    recipe: PathBuf,
    /// Profile of the recipe
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Folder that gets the draft
    #[arg(long, default_value = "out/drafts", value_name = "FOLDER")]
    to: PathBuf,
    /// Folder of Secure Boot keys, for recipes that ask for them
    #[arg(long, env = "BAKER_SECURE_BOOT", value_name = "FOLDER")]
    secure_boot: Option<PathBuf>,
    /// Form of disk or root to make beside the raw disk, instead of those of the
    /// recipe: qcow2, vmdk, vhd, vhd-fixed, iso, netboot, tar or oci; may be
    /// repeated
    #[arg(long, value_name = "FORMAT")]
    format: Vec<Format>,
    /// Stop before the disk: write what the key of db.crt has to sign into this
    /// file. Have it signed (baker sign FILE --key KEY), then bake or release with
    /// --secure-boot-key reply:FILE
    #[arg(long, value_name = "FILE", requires = "secure_boot")]
    boot_request: Option<PathBuf>,
    /// Release whose Secure Boot signatures are put over equal programs, in
    /// place of keys: `verify --rebuild` does so
    #[arg(
        long,
        value_name = "RELEASE",
        hide = true,
        conflicts_with = "secure_boot"
    )]
    adopt_signatures: Option<PathBuf>,
    /// Make everything anew although what earlier bakes made of the same inputs is
    /// kept: run packages' scripts again, unpack and pack all data
    #[arg(long)]
    anew: bool,
    /// Threads; never changes a byte of the result [default: all CPUs]
    #[arg(long, value_name = "NUMBER")]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    insight: Insight,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let folder = RecipeFolder::read_profile(&args.recipe, args.profile.as_deref())?;
    let lock = folder.checked_lock()?;
    let boot_keys = match (&args.boot_request, args.secure_boot.as_deref()) {
        (Some(_), Some(certificates)) => Some(BootKeys::elsewhere(certificates)?),
        (_, flag) => context.boot_keys(&folder, flag)?,
    };
    let adopted = args.adopt_signatures.as_deref();
    let adopted = adopted.map(Adopted::of).transpose()?;
    if folder.recipe.boot.secure_boot && boot_keys.is_none() && adopted.is_none() {
        // A draft is nobody's release: whoever has no key can still look at the same bytes.
        context
            .printer()
            .warn(&format!("{NO_BOOT_KEYS}; {MAKE_BOOT_KEYS}"));
    }
    let request = BakeRequest {
        folder: &folder,
        lock: &lock,
        boot_keys: boot_keys.as_ref(),
        formats: (!args.format.is_empty()).then_some(&args.format[..]),
        adopted: adopted.as_ref(),
        threads: args.threads,
        kept: if args.anew { Kept::Ignored } else { Kept::Used },
    };
    let draft = pipeline::bake_draft(request, &args.to, context);
    let items = boot_keys.as_ref().map(BootKeys::requested);
    if let (Some(file), Some(items)) = (&args.boot_request, items.filter(|items| !items.is_empty()))
    {
        return write_request(file, items, &folder, context);
    }
    let draft = draft?;
    args.insight.tell(context)?;
    context.answer(&draft.path.display().to_string(), &draft.manifest)
}

/// Writes what is to be signed before there can be a disk.
fn write_request(
    file: &Path,
    items: Vec<Item>,
    folder: &RecipeFolder,
    context: &Context,
) -> Result<(), Failure> {
    let recipe = &folder.recipe;
    let about = vec![format!(
        "boot programs of {} {} for {}",
        recipe.name,
        recipe.version,
        recipe.architecture.name()
    )];
    let request = Request::new(about, items);
    fs::write(file, request.to_bytes()).map_err(|error| {
        Failure::new(Exit::Publish, error).context(format!("cannot write {}", file.display()))
    })?;
    let text = format!(
        "{}\nread it, have it signed (baker sign {} --key KEY), and bake again with \
         --secure-boot-key reply:{}",
        file.display(),
        file.display(),
        file.display()
    );
    context.answer(&text, &request)
}
