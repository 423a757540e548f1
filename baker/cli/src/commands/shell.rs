//! `baker shell`

use std::path::PathBuf;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::pipeline::{self, BakeRequest, Kept};
use crate::source::RecipeFolder;
use baker_model::recipe::Scripts;

/// Opens a shell in the tree of a recipe with scripts = "sandbox", as its packages'
/// scripts leave it, or where one of them failed. Nothing that is done there is
/// kept, and there is no network.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the recipe
    recipe: PathBuf,
    /// Profile of the recipe
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Which stage has just ended
    #[arg(long, value_name = "STAGE", default_value = "configure")]
    at: Stage,
    /// Look into this build stage instead, as its commands find it
    #[arg(long, value_name = "NAME", conflicts_with = "at")]
    stage: Option<String>,
    /// Command to run instead of a shell
    #[arg(last = true)]
    command: Vec<String>,
}

/// Stages that can be looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stage {
    /// Packages are installed and configured
    Configure,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let Stage::Configure = args.at;
    let folder = RecipeFolder::read_profile(&args.recipe, args.profile.as_deref())?;
    if let Some(name) = &args.stage {
        let stages = folder.recipe.stages.iter().map(|stage| stage.name.as_str());
        let known: Vec<&str> = stages.collect();
        if !known.contains(&name.as_str()) {
            let problem = format!("the recipe has no [[stage]] `{name}`");
            let help = format!("its stages: {}", known.join(", "));
            return Err(Failure::message(Exit::Usage, problem).help(help));
        }
    } else if folder.recipe.debian.scripts != Scripts::Sandbox {
        let problem = "no script of this recipe runs: there is nothing to look into while baking";
        let help = "look into the result: baker inspect DRAFT; or write scripts = \"sandbox\"";
        return Err(Failure::message(Exit::Recipe, problem).help(help));
    }
    let lock = folder.checked_lock()?;
    let request = BakeRequest {
        folder: &folder,
        lock: &lock,
        boot_keys: None,
        formats: None,
        adopted: None,
        threads: None,
        kept: Kept::Used,
    };
    pipeline::shell(request, args.stage.as_deref(), &args.command, context)
}
