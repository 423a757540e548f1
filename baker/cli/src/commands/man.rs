//! `baker man`

use std::fs;
use std::path::PathBuf;

use crate::app;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Writes the manual pages: baker.1 and one for every command.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder to write into, such as ~/.local/share/man/man1
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
}

/// Runs it.
pub fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let folder = args.to.display();
    let refused = |error| {
        Failure::new(Exit::Environment, error)
            .context(format!("cannot write manual pages into {folder}"))
            .help("name a folder that you can write to")
    };
    fs::create_dir_all(&args.to).map_err(refused)?;
    clap_mangen::generate_to(app::command_line(), &args.to).map_err(refused)?;
    let value = serde_json::json!({ "folder": args.to });
    context.answer(&folder.to_string(), &value)
}
